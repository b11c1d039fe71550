//! Images a little different every epoch: cut at a random place out of a frame of zeros, and mirrored half of the time.
//!
//! What happens to an image is a pure function of seed, epoch and its index, so that a resumed run sees the same. The frame holds
//! zeros *after* preprocessing: the mean colour. Source: He et al. 2015, section 4.2.

use crate::Rng;
use exec::{Examples, SampleError};

/// What is done to each image `[channels, height, width]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Width of the frame that images may move into; 0 leaves them in place.
    pub crop: usize,
    /// Whether half of them are mirrored.
    pub flip: bool,
}

/// Samples of one epoch.
#[derive(Debug)]
pub(crate) struct Augmented<'a> {
    pub samples: &'a dyn Examples,
    pub augment: Augment,
    pub seed: u64,
    pub epoch: usize,
}

impl Examples for Augmented<'_> {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn shape(&self) -> &[usize] {
        self.samples.shape()
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), SampleError> {
        self.samples.read(index, out)?;
        if let ([_, height, width], true) = (self.shape(), self.augment != Augment::default()) {
            let mut rng = Rng::new(self.seed, ((self.epoch as u64) << 40) | index as u64);
            self.augment.change(out, [*height, *width], &mut rng);
        }
        Ok(())
    }

    fn labels(&self) -> Option<&[u32]> {
        self.samples.labels()
    }

    fn name(&self) -> String {
        self.samples.name()
    }
}

impl Augment {
    fn change(self, image: &mut [f32], [height, width]: [usize; 2], rng: &mut Rng) {
        let whole = image.to_vec();
        let [down, right] = [0; 2].map(|_: i32| rng.below(2 * self.crop + 1));
        let mirrored = self.flip && rng.below(2) == 1;
        let planes = image.chunks_exact_mut(height * width).zip(whole.chunks_exact(height * width));
        for (plane, from) in planes {
            for (at, x) in plane.iter_mut().enumerate() {
                let (row, col) = (at / width, at % width);
                let col = if mirrored { width - 1 - col } else { col };
                let (row, col) = ((row + down).wrapping_sub(self.crop), (col + right).wrapping_sub(self.crop));
                *x = if row < height && col < width { from[row * width + col] } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_move_and_turn_but_stay_themselves() {
        let image: Vec<f32> = (1..=32).map(|x| x as f32).collect();
        let turned = |seed: u64, augment: Augment| {
            let mut made = image.clone();
            augment.change(&mut made, [4, 4], &mut Rng::new(seed, 0));
            made
        };
        let flip = Augment { crop: 0, flip: true };
        let all: Vec<_> = (0..20).map(|seed| turned(seed, flip)).collect();
        let mirrored = all.iter().filter(|made| made[..4] == [4.0, 3.0, 2.0, 1.0]).count();
        assert!((4..17).contains(&mirrored) && all.iter().filter(|made| **made == image).count() == 20 - mirrored);
        let moved = Augment { crop: 2, flip: false };
        let zeros = |made: &[f32]| made[..16].iter().filter(|x| **x == 0.0).count();
        let all: Vec<_> = (0..400).map(|seed| turned(seed, moved)).collect();
        assert!(all.iter().any(|made| zeros(made) == 12) && all.iter().any(|made| zeros(made) == 0));
        for made in all {
            let same_way = made[..16].iter().zip(&made[16..]).all(|(a, b)| *a == 0.0 && *b == 0.0 || b - a == 16.0);
            assert!(same_way, "channels move together");
        }
    }
}
