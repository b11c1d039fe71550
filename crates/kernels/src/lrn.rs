//! Local response normalisation across channels (Krizhevsky et al. 2012): `y = x·n^{−β}`, `n = k + α/size·Σ x²` over `size` channels around.
//!
//! The sum runs over channels `c − ⌊(size−1)/2⌋ ..= c + ⌈(size−1)/2⌉` that exist. Backward: `dx = dy·n^{−β} − 2αβ/size·x·Σ dy·x·n^{−β−1}` over the
//! channels whose sums hold this one.

use crate::channel_norm::Channels;
use crate::matmul::Write;
use crate::real::Real;

/// The settings of the norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels summed.
    pub size: usize,
    /// α.
    pub alpha: f64,
    /// β.
    pub beta: f64,
    /// k.
    pub bias: f64,
}

impl Lrn {
    /// The channels that channel `c` sums, or, `back`, those whose sums hold it.
    fn around(&self, c: usize, channels: usize, back: bool) -> std::ops::Range<usize> {
        let (low, high) = (self.size.saturating_sub(1) / 2, self.size.saturating_sub(1).div_ceil(2));
        let (low, high) = if back { (high, low) } else { (low, high) };
        c.saturating_sub(low)..(c + high + 1).min(channels)
    }

    /// `n` of every element of one image.
    fn norms<R: Real>(&self, shape: &Channels, x: &[R]) -> Vec<R> {
        let (area, factor) = (shape.area, R::from_f64(self.alpha / self.size.max(1) as f64));
        let mut norms = vec![R::from_f64(self.bias); x.len()];
        for (c, norms) in norms.chunks_exact_mut(area).enumerate() {
            for x in x
                .chunks_exact(area)
                .take(self.around(c, shape.channels, false).end)
                .skip(self.around(c, shape.channels, false).start)
            {
                norms.iter_mut().zip(x).for_each(|(n, &x)| *n = (factor * x).mul_add(x, *n));
            }
        }
        norms
    }
}

/// `y = x·n^{−β}`.
///
/// # Panics
/// When the lengths do not agree.
pub fn lrn<R: Real>(rule: &Lrn, shape: &Channels, x: &[R], y: &mut [R]) {
    let image = shape.channels * shape.area;
    assert!(x.len() == shape.batch * image && y.len() == x.len() && image > 0, "LRN of unlike lengths");
    let power = R::from_f64(-rule.beta);
    for (x, y) in x.chunks_exact(image).zip(y.chunks_exact_mut(image)) {
        let norms = rule.norms(shape, x);
        y.iter_mut().zip(x.iter().zip(norms)).for_each(|(y, (&x, n))| *y = x * n.powf(power));
    }
}

/// The gradient of [`lrn`]: `dx (+)= …`.
///
/// # Panics
/// When the lengths do not agree.
pub fn lrn_grad<R: Real>(rule: &Lrn, shape: &Channels, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
    let (area, image) = (shape.area, shape.channels * shape.area);
    assert!(x.len() == shape.batch * image && dy.len() == x.len() && dx.len() == x.len() && image > 0, "LRN lengths");
    if write == Write::Set {
        dx.fill(R::ZERO);
    }
    let (power, factor) =
        (R::from_f64(-rule.beta), R::from_f64(-2.0 * rule.alpha * rule.beta / rule.size.max(1) as f64));
    for ((x, dy), dx) in x.chunks_exact(image).zip(dy.chunks_exact(image)).zip(dx.chunks_exact_mut(image)) {
        let norms = rule.norms(shape, x);
        let terms: Vec<R> = (0..image).map(|at| dy[at] * x[at] * norms[at].powf(power - R::ONE)).collect();
        for at in 0..image {
            let around = rule.around(at / area, shape.channels, true);
            let sum: R = around.map(|c| terms[c * area + at % area]).sum();
            dx[at] += dy[at] * norms[at].powf(power) + factor * x[at] * sum;
        }
    }
}
