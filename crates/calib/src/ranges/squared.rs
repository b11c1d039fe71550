//! The MSE calibrator: the range with the least mean squared error of rounding and clipping together, found by shrinking both
//! ends in turn. The error is that of the histogram, whose bins are far narrower than a step.
//!
//! Source: Banner, Nahshan and Soudry 2019, *Post Training 4-Bit Quantization of Convolutional Networks for Rapid-Deployment*,
//! which solves for the threshold of a fitted distribution; here the distribution is the one that was seen.

use super::Histogram;

/// Ranges that are tried for an end, evenly down to a hundredth of it.
const TRIED: usize = 100;
/// How often both ends are searched.
const ROUNDS: usize = 2;

pub(super) fn range(histogram: &Histogram, levels: usize) -> [f32; 2] {
    let bins: Vec<(f32, f64)> = histogram.bins().map(|(x, n)| (x, n as f64)).collect();
    let most = histogram.range();
    let mut best = (error(&bins, most, levels), most);
    for end in (0..2 * ROUNDS).map(|n| n % 2).filter(|end| most[*end] != 0.0) {
        for step in 1..TRIED {
            let mut tried = best.1;
            tried[end] = most[end] * step as f32 / TRIED as f32;
            let error = error(&bins, tried, levels);
            if error < best.0 {
                best = (error, tried);
            }
        }
    }
    best.1
}

/// The squared error of all numbers on the grid of a range.
fn error(bins: &[(f32, f64)], [low, high]: [f32; 2], levels: usize) -> f64 {
    let steps = (levels.max(2) - 1) as f32;
    let scale = (high - low) / steps;
    if scale <= 0.0 {
        return bins.iter().map(|(x, n)| f64::from(x * x) * n).sum();
    }
    let zero = (-low / scale).round();
    let inverse = 1.0 / scale;
    let square = |x: f32| {
        let code = (x * inverse).round().clamp(-zero, steps - zero);
        let e = x - code * scale;
        f64::from(e * e)
    };
    bins.iter().map(|(x, n)| square(*x) * n).sum()
}
