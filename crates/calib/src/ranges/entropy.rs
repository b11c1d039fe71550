//! The entropy calibrator: the clipping threshold at which the rounded distribution says most of the original one.
//!
//! For every number of bins `i`: `p` is the histogram of the first `i` bins with everything beyond added to the last one,
//! and `q` is the same slice without that, merged into [`LEVELS`] levels, each spread evenly over those of its bins that hold
//! anything. The `i` with the least `KL(p‖q)` wins. Merging starts from many more bins than levels, so there is something to
//! search; onnxruntime's default of as many bins as levels leaves one candidate, the maximum.
//!
//! Source: Migacz, *8-bit Inference with TensorRT*, GTC 2017. Sides of a value are searched together, by size, unless it has
//! only one; zeros are left out, as they are exact at any threshold.

use super::Histogram;

/// Levels of a value with both signs; a value with one sign has as many on its side.
const LEVELS: usize = 128;

/// Thresholds that are tried, at most: finer steps change nothing that could be measured.
const CANDIDATES: usize = 512;

pub(super) fn range(histogram: &Histogram) -> [f32; 2] {
    let [low, high] = histogram.range();
    let [above, below] = histogram.sides();
    let both = !above.is_empty() && !below.is_empty();
    let length = above.len().max(below.len());
    let at = |side: &[u64], bin: usize| side.get(bin).copied().unwrap_or(0);
    let sizes: Vec<f64> = (0..length).map(|bin| (at(&above, bin) + at(&below, bin)) as f64).collect();
    let bins = threshold(&sizes, if both { LEVELS / 2 } else { LEVELS });
    let end = bins as f32 * histogram.width();
    [low.max(-end), high.min(end)]
}

/// How many bins of sizes to keep.
fn threshold(sizes: &[f64], levels: usize) -> usize {
    let step = sizes.len().div_ceil(CANDIDATES).max(1);
    let tried = (levels..sizes.len()).step_by(step).chain([sizes.len()]);
    let divergences = tried.map(|bins| (bins, divergence(sizes, bins, levels)));
    divergences.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(sizes.len(), |(bins, _)| bins)
}

/// `KL(p‖q)` where so many bins are kept.
fn divergence(sizes: &[f64], bins: usize, levels: usize) -> f64 {
    let (kept, cut) = sizes.split_at(bins);
    let (inside, outside): (f64, f64) = (kept.iter().sum(), cut.iter().sum());
    if inside == 0.0 {
        return f64::INFINITY;
    }
    // A bin that holds nothing but what was cut off has no probability in q: as if it held a thousandth of a number.
    let least = 1e-3 / inside;
    let mut sum = 0.0;
    for level in 0..levels {
        let (first, end) = (level * bins / levels, (level + 1) * bins / levels);
        let mass: f64 = kept[first..end].iter().sum();
        let held = kept[first..end].iter().filter(|n| **n > 0.0).count().max(1);
        let q = (mass / held as f64 / inside).max(least);
        for (bin, count) in kept.iter().enumerate().take(end).skip(first) {
            let p = (count + if bin + 1 == bins { outside } else { 0.0 }) / (inside + outside);
            if p > 0.0 {
                sum += p * (p / if *count > 0.0 { q } else { least }).ln();
            }
        }
    }
    sum
}
