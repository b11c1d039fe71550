//! A histogram that grows: numbers of any size go in, one batch after the other, in a fixed amount of memory.
//!
//! Bins have a power of two for their width, and meet at zero. Where a number lies outside, the width is doubled and neighbours
//! are joined, which moves no number into a wrong bin. So the same numbers give the same histogram in any order and in
//! batches of any size, and the larger side always has between [`HALF`]`/2` and [`HALF`] bins.

/// Bins on each side of zero.
pub const HALF: usize = 4096;

/// See the module. Zeros are counted by themselves: they are exact on every grid, and after a Relu they are most of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Of a bin; 0 before the first number that is not zero.
    width: f32,
    counts: Vec<u64>,
    zeros: u64,
    min: f32,
    max: f32,
    finite: bool,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let (min, max) = (f32::INFINITY, f32::NEG_INFINITY);
        Histogram { width: 0.0, counts: vec![0; 2 * HALF], zeros: 0, min, max, finite: true }
    }
}

impl Histogram {
    /// Takes numbers in. One that is not finite is only [remembered](Histogram::is_finite).
    pub fn see(&mut self, numbers: &[f32]) {
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        for x in numbers {
            (min, max) = (min.min(*x), max.max(*x));
        }
        // Sums of finite numbers times zero are zero.
        if numbers.iter().map(|x| x * 0.0).sum::<f32>() != 0.0 {
            self.finite = false;
            return;
        }
        (self.min, self.max) = (self.min.min(min), self.max.max(max));
        self.reach(min.abs().max(max.abs()));
        let scale = if self.width > 0.0 { 1.0 / self.width } else { 0.0 };
        for x in numbers {
            match *x == 0.0 {
                true => self.zeros += 1,
                // Dividing by a power of two is exact, and `reach` made every quotient fit.
                false => {
                    self.counts[((x * scale).floor() as i64 + HALF as i64).clamp(0, 2 * HALF as i64 - 1) as usize] += 1
                }
            }
        }
    }

    /// Doubles the width until a number of this size has a bin.
    fn reach(&mut self, size: f32) {
        if !(size > 0.0 && size.is_finite()) {
            return;
        }
        if self.width == 0.0 {
            // No narrower than what has an exact inverse.
            self.width = 2f32.powi((size / HALF as f32).log2().floor().max(-126.0) as i32);
        }
        while size >= self.width * HALF as f32 {
            self.width *= 2.0;
            let joined: Vec<u64> = self.counts.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
            self.counts.fill(0);
            self.counts[HALF / 2..HALF / 2 + HALF].copy_from_slice(&joined);
        }
    }

    /// Whether all numbers were finite.
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// How many numbers were taken in.
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// The least and the greatest number, with zero between them; zeros where nothing was seen.
    pub fn range(&self) -> [f32; 2] {
        [self.min.min(0.0), self.max.max(0.0)]
    }

    /// Width of a bin; 0 where nothing but zeros was seen.
    pub fn width(&self) -> f32 {
        self.width
    }

    /// Zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Counts of the bins from zero to the greatest number, and from zero down to the least: bin `i` holds sizes from
    /// `i` to `i + 1` widths.
    pub fn sides(&self) -> [Vec<u64>; 2] {
        let cut = |side: Vec<u64>| {
            let used = side.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
            side[..used].to_vec()
        };
        let (below, above) = self.counts.split_at(HALF);
        [cut(above.to_vec()), cut(below.iter().rev().copied().collect())]
    }

    /// The middle and the count of every bin that is not empty, in rising order.
    pub fn bins(&self) -> impl Iterator<Item = (f32, u64)> {
        let middle = |at: usize| (at as f32 - HALF as f32 + 0.5) * self.width;
        self.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(at, n)| (middle(at), *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_batches_do_not_matter() {
        let numbers: Vec<f32> = (1..3000).map(|i| (i as f32 * 0.37).sin() * (i as f32).powf(1.7) * 1e-3).collect();
        let mut whole = Histogram::default();
        whole.see(&numbers);
        let (mut grown, mut backwards) = (Histogram::default(), Histogram::default());
        numbers.chunks(7).for_each(|part| grown.see(part));
        numbers.rchunks(11).for_each(|part| backwards.see(part));
        assert_eq!(whole, grown);
        assert_eq!(whole, backwards);
        assert_eq!(whole.count(), numbers.len() as u64);
        let largest = whole.range().map(f32::abs).into_iter().fold(0.0, f32::max);
        assert!((HALF / 2..=HALF).contains(&((largest / whole.width()) as usize)));
    }

    #[test]
    fn every_number_lies_in_its_bin() {
        let mut seen = Histogram::default();
        [&[1e-30f32, -1e-30][..], &[0.0, 0.5, -0.25], &[1000.0]].iter().for_each(|part| seen.see(part));
        assert_eq!((seen.zeros(), seen.count(), seen.range()), (1, 6, [-0.25, 1000.0]));
        let [above, below] = seen.sides();
        assert_eq!(
            (above.len(), below.len()),
            ((1000.0 / seen.width()) as usize + 1, (0.25 / seen.width()).ceil() as usize)
        );
        assert_eq!(above.iter().sum::<u64>() + below.iter().sum::<u64>(), 5);
    }

    #[test]
    fn extremes_are_found_and_do_no_harm() {
        let mut seen = Histogram::default();
        seen.see(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45]);
        assert_eq!(seen.count(), 4);
        seen.see(&[1.0, f32::NAN]);
        assert!(!seen.is_finite());
    }
}
