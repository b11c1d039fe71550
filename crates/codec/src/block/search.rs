//! The searches for scales that ggml's encoders share, over one group of numbers.
//!
//! Each function keeps ggml's order of `f32` operations, so that its results have the same bits as a build of ggml
//! without fused multiply-add. The names of the originals are given with each.
//!
//! Source: ggml, `ggml-quants.c`.

/// A group whose largest magnitude is below this counts as zero.
pub(super) const ZERO: f32 = 1e-15;

/// Rounds half to even by adding 1.5·2²³, as ggml does; beyond 2²² (and for infinities) the result is ggml's too.
#[inline]
pub fn nearest_int(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Truncates as x86's conversion does: what does not fit becomes `i32::MIN`.
#[inline]
pub(super) fn truncate(x: f32) -> i32 {
    if x.abs() < 2_147_483_648.0 { x as i32 } else { i32::MIN }
}

/// The number of largest magnitude, sign kept, and its magnitude; the first of equals.
pub(super) fn extreme(x: &[f32]) -> (f32, f32) {
    x.iter()
        .fold((0.0, 0.0), |(value, magnitude), v| if v.abs() > magnitude { (*v, v.abs()) } else { (value, magnitude) })
}

/// Sum in order.
pub(super) fn sum(x: impl Iterator<Item = f32>) -> f32 {
    x.fold(0.0, |s, v| s + v)
}

/// `importance · √(sigma2 + x²)`, the weight that ggml derives from importance.
pub(super) fn importance_weights(x: &[f32], importance: &[f32], sigma2: f32, out: &mut [f32]) {
    for ((w, v), i) in out.iter_mut().zip(x).zip(importance) {
        *w = i * (sigma2 + v * v).sqrt();
    }
}

/// How a group's error is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Sum of magnitudes.
    Absolute,
    /// Sum of squares.
    Square,
}

/// What [`affine`] tries: inverse scales `(start + step·i + top) / range` for `i` in `0..=steps`.
#[derive(Clone, Copy, Debug)]
pub struct AffineSearch {
    /// Largest code.
    pub top: u8,
    /// First trial, relative to `top`.
    pub start: f32,
    /// Distance of trials.
    pub step: f32,
    /// Last trial.
    pub steps: u8,
    /// What is minimized.
    pub distance: Distance,
}

/// Scale and minimum of a group, `x ≈ scale · code − min` with `min ≥ 0`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    /// Worth of one code.
    pub scale: f32,
    /// What is subtracted.
    pub min: f32,
}

fn affine_codes(x: &[f32], inverse: f32, min: f32, top: u8, codes: &mut [u8]) {
    for (code, v) in codes.iter_mut().zip(x) {
        *code = nearest_int(inverse * (v - min)).clamp(0, i32::from(top)) as u8;
    }
}

fn affine_error(x: &[f32], weight: &[f32], codes: &[u8], scale: f32, min: f32, distance: Distance) -> f32 {
    let mut error = 0.0;
    for ((v, w), code) in x.iter().zip(weight).zip(codes) {
        let diff = scale * f32::from(*code) + min - v;
        error += w * if distance == Distance::Absolute { diff.abs() } else { diff * diff };
    }
    error
}

/// Searches scale and minimum of a group of up to 32 numbers by weighted least squares on trial codes
/// (`make_qkx2_quants` and `make_qkx3_quants`, which agree where weights are given).
pub fn affine(x: &[f32], weight: &[f32], search: &AffineSearch, codes: &mut [u8]) -> Affine {
    let &AffineSearch { top, start, step, steps, distance } = search;
    let mut min = x.iter().fold(x[0], |m, v| if *v < m { *v } else { m });
    let max = x.iter().fold(x[0], |m, v| if *v > m { *v } else { m });
    if min > 0.0 {
        min = 0.0;
    }
    if max == min {
        codes.fill(0);
        return Affine { scale: 0.0, min: -min };
    }
    let (mut sum_w, mut sum_x) = (weight[0], weight[0] * x[0]);
    for (v, w) in x.iter().zip(weight).skip(1) {
        sum_w += w;
        sum_x += w * v;
    }
    let inverse = f32::from(top) / (max - min);
    let mut scale = 1.0 / inverse;
    affine_codes(x, inverse, min, top, codes);
    let mut best = affine_error(x, weight, codes, scale, min, distance);
    let mut trial = [0; 32];
    let trial = &mut trial[..x.len()];
    for i in 0..=steps {
        let inverse = (start + step * f32::from(i) + f32::from(top)) / (max - min);
        affine_codes(x, inverse, min, top, trial);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for ((v, w), code) in x.iter().zip(weight).zip(&*trial) {
            let l = f32::from(*code);
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * v;
        }
        let det = sum_w * sum_l2 - sum_l * sum_l;
        if det > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / det;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let error = affine_error(x, weight, trial, this_scale, this_min, distance);
            if error < best {
                codes.copy_from_slice(trial);
                (best, scale, min) = (error, this_scale, this_min);
            }
        }
    }
    Affine { scale, min: -min }
}

/// Searches the scale of a group with codes `0..2·half` for levels `−half..half`, trying 19 inverse scales
/// (`make_qx_quants` with `rmse_type` 1; without importance the weights are `x²`).
pub fn symmetric(x: &[f32], weight: &[f32], half: u8, codes: &mut [u8]) -> f32 {
    let (max, magnitude) = extreme(x);
    if magnitude < ZERO {
        codes.fill(0);
        return 0.0;
    }
    let half_i = i32::from(half);
    let level = |inverse: f32, v: f32| nearest_int(inverse * v).clamp(-half_i, half_i - 1);
    let moments = |inverse: f32| {
        let (mut sum_xl, mut sum_l2) = (0.0, 0.0);
        for (v, w) in x.iter().zip(weight) {
            let l = level(inverse, *v) as f32;
            sum_xl += w * v * l;
            sum_l2 += w * l * l;
        }
        (sum_xl, sum_l2)
    };
    let mut best_inverse = -f32::from(half) / max;
    let (sum_xl, sum_l2) = moments(best_inverse);
    let mut scale = if sum_l2 != 0.0 { sum_xl / sum_l2 } else { 0.0 };
    let mut best = scale * sum_xl;
    for i in (-9i8..=9).filter(|i| *i != 0) {
        let inverse = -(f32::from(half) + 0.1 * f32::from(i)) / max;
        let (sum_xl, sum_l2) = moments(inverse);
        if sum_l2 > 0.0 && sum_xl * sum_xl > best * sum_l2 {
            best_inverse = inverse;
            scale = sum_xl / sum_l2;
            best = scale * sum_xl;
        }
    }
    for (code, v) in codes.iter_mut().zip(x) {
        *code = (level(best_inverse, *v) + half_i) as u8;
    }
    scale
}

/// Like [`symmetric`] with weights `x²`, but improves one code at a time, up to five rounds (`make_q3_quants`).
pub fn symmetric_descent(x: &[f32], half: u8, codes: &mut [u8]) -> f32 {
    let (max, magnitude) = extreme(x);
    if magnitude < ZERO {
        codes.fill(0);
        return 0.0;
    }
    let half_i = i32::from(half);
    let round = |v: f32| nearest_int(v).clamp(-half_i, half_i - 1) as i8;
    let inverse = -f32::from(half) / max;
    let (mut sum_xl, mut sum_l2) = (0.0, 0.0);
    let mut levels = [0i8; 16];
    for (level, v) in levels.iter_mut().zip(x) {
        *level = round(inverse * v);
        let (w, l) = (v * v, f32::from(*level));
        sum_xl += w * v * l;
        sum_l2 += w * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (level, v) in levels.iter_mut().zip(x) {
            let (w, l) = (v * v, f32::from(*level));
            let mut xl = sum_xl - w * v * l;
            if xl > 0.0 {
                let mut l2 = sum_l2 - w * l * l;
                let new = round(v * l2 / xl);
                if new != *level {
                    let l = f32::from(new);
                    xl += w * v * l;
                    l2 += w * l * l;
                    if l2 > 0.0 && xl * xl * sum_l2 > sum_xl * sum_xl * l2 {
                        (*level, sum_xl, sum_l2, changed) = (new, xl, l2, true);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    for (code, level) in codes.iter_mut().zip(levels) {
        *code = (i32::from(level) + half_i) as u8;
    }
    if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 }
}

/// Searches the scale of numbers that are not negative, with codes `0..=top` (`make_qp_quants`): how the scales of
/// sub-blocks are themselves quantized where importance is known.
pub fn positive(x: &[f32], weight: &[f32], top: u8, codes: &mut [u8]) -> f32 {
    let max = x.iter().fold(0.0, |m, v| if m > *v { m } else { *v });
    if max < ZERO {
        codes.fill(0);
        return 0.0;
    }
    let inverse = best_positive(x, weight, top, max);
    let (mut sum_xl, mut sum_l2) = (0.0, 0.0);
    for ((code, v), w) in codes.iter_mut().zip(x).zip(weight) {
        let level = nearest_int(inverse * v).min(i32::from(top));
        *code = level as u8;
        let l = level as f32;
        sum_xl += w * v * l;
        sum_l2 += w * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((code, v), w) in codes.iter_mut().zip(x).zip(weight) {
            let l = f32::from(*code);
            let mut xl = sum_xl - w * v * l;
            let mut l2 = sum_l2 - w * l * l;
            if xl > 0.0 && l2 > 0.0 {
                let new = nearest_int(v * l2 / xl).min(i32::from(top));
                if new != i32::from(*code) {
                    let l = new as f32;
                    xl += w * v * l;
                    l2 += w * l * l;
                    if xl * xl * sum_l2 > sum_xl * sum_xl * l2 {
                        (*code, sum_xl, sum_l2, changed) = (new as u8, xl, l2, true);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 }
}

/// The inverse scale of least weighted square error among nine around `top / max`.
fn best_positive(x: &[f32], weight: &[f32], top: u8, max: f32) -> f32 {
    let mut inverse = f32::from(top) / max;
    // The first trial is not limited to `top`, but kept in a byte.
    let mut best = positive_error(x, weight, 1.0 / inverse, |v| f32::from(nearest_int(inverse * v) as u8));
    for i in (-4i8..=4).filter(|i| *i != 0) {
        let trial = (0.1 * f32::from(i) + f32::from(top)) / max;
        let level = |v| nearest_int(trial * v).min(i32::from(top)) as f32;
        let error = positive_error(x, weight, 1.0 / trial, level);
        if error < best {
            (best, inverse) = (error, trial);
        }
    }
    inverse
}

fn positive_error(x: &[f32], weight: &[f32], scale: f32, level: impl Fn(f32) -> f32) -> f32 {
    let mut error = 0.0;
    for (v, w) in x.iter().zip(weight) {
        let diff = v - scale * level(*v);
        error += w * diff * diff;
    }
    error
}
