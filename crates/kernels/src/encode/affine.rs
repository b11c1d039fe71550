//! Q2_K, Q4_K and Q5_K: the search of `codec::block::search::affine`, a sub-block per lane.

use super::{Lane, Rows, SUB, Tile, clamp, round, select, transpose};
use crate::simd::{LANES, vectorised};
use codec::block::BlockCodec;
use codec::block::search::{Affine, AffineSearch, Distance};
use codec::block::superblock::{AffineFormat, Found, LEN, PlainWeight, SUBS};

/// What the search found in each lane.
struct Fit {
    scale: Lane,
    min: Lane,
    weight: Lane,
    /// Lanes whose arithmetic may differ from the reference's.
    odd: [bool; LANES],
}

/// Encodes all superblocks, as many side by side as fill the lanes.
pub(super) fn encode(
    rows: Rows<'_>,
    format: &AffineFormat,
    codec: &dyn BlockCodec,
    finish: fn(&[f32], bool, Found, &mut [u8]) -> bool,
    out: &mut [u8],
) {
    let subs = format.subs();
    let side_by_side = LANES / subs;
    let weighted = rows.importance.is_some();
    let params = if weighted { &format.weighted } else { &format.plain };
    let (mut x, mut w): (Tile, Tile) = ([Lane::ZERO; SUB], [Lane::ZERO; SUB]);
    for (batch, out) in out.chunks_mut(side_by_side * codec.block_bytes()).enumerate() {
        let blocks = batch * side_by_side..rows.superblocks().min((batch + 1) * side_by_side);
        load(rows, blocks.clone(), format, &mut x, &mut w);
        let fit = search(&x[..format.sub], &w[..format.sub], params);
        for ((i, block), lanes) in blocks.zip(out.chunks_exact_mut(codec.block_bytes())).zip((0..).step_by(subs)) {
            let found = fit.found(lanes, subs);
            let odd = fit.odd[lanes..lanes + subs].contains(&true);
            if odd || finish(rows.superblock(i).0, weighted, found, block) {
                rows.encode_superblock(i, codec, block);
            }
        }
    }
}

/// Lays superblocks and their weights into lanes.
fn load(rows: Rows<'_>, blocks: std::ops::Range<usize>, format: &AffineFormat, x: &mut Tile, w: &mut Tile) {
    for (i, first) in blocks.zip((0..).step_by(format.subs())) {
        let (numbers, importance) = rows.superblock(i);
        transpose(numbers, format.sub, first, x);
        if importance.is_some() {
            let mut weights = [0.0; LEN];
            format.weights(numbers, importance, &mut weights);
            transpose(&weights, format.sub, first, w);
        }
    }
    if rows.importance.is_none() {
        plain_weights(&x[..format.sub], format.plain_weight == PlainWeight::MagnitudeAndRms, w);
    }
}

impl Fit {
    fn found(&self, first: usize, subs: usize) -> Found {
        let mut found = Found { affine: [Affine::default(); SUBS], weight: [0.0; SUBS], codes: [0; LEN] };
        for j in 0..subs {
            found.affine[j] = Affine { scale: self.scale[first + j], min: self.min[first + j] };
            found.weight[j] = self.weight[first + j];
        }
        found
    }
}

vectorised! {
    fn plain_weights(x: &[Lane], rms: bool, w: &mut Tile) {
        let mut base = Lane::ZERO;
        if rms {
            for x in x {
                for k in 0..LANES {
                    base[k] += x[k] * x[k];
                }
            }
            for base in base.iter_mut() {
                *base = (*base / x.len() as f32).sqrt();
            }
        }
        for (w, x) in w.iter_mut().zip(x) {
            for k in 0..LANES {
                w[k] = base[k] + x[k].abs();
            }
        }
    }
}

vectorised! {
    fn search(x: &[Lane], w: &[Lane], params: &AffineSearch) -> Fit {
        match params.distance {
            Distance::Absolute => search_by(x, w, params, |diff| diff.abs()),
            Distance::Square => search_by(x, w, params, |diff| diff * diff),
        }
    }
}

#[inline(always)]
fn search_by(x: &[Lane], w: &[Lane], params: &AffineSearch, distance: impl Fn(f32) -> f32 + Copy) -> Fit {
    let top = f32::from(params.top);
    let (mut min, mut max, mut sum_w, mut sum_x) = (x[0], x[0], Lane::ZERO, Lane::ZERO);
    for (x, w) in x.iter().zip(w) {
        for k in 0..LANES {
            min[k] = if x[k] < min[k] { x[k] } else { min[k] };
            max[k] = if x[k] > max[k] { x[k] } else { max[k] };
            sum_w[k] += w[k];
            sum_x[k] += w[k] * x[k];
        }
    }
    let (mut range, mut inverse, mut scale, mut best) = (Lane::ZERO, Lane::ZERO, Lane::ZERO, Lane::ZERO);
    for k in 0..LANES {
        min[k] = if min[k] > 0.0 { 0.0 } else { min[k] };
        range[k] = max[k] - min[k];
        inverse[k] = top / range[k];
        scale[k] = 1.0 / inverse[k];
    }
    let (first_min, mut least_range) = (min, range);
    for (x, w) in x.iter().zip(w) {
        for k in 0..LANES {
            let l = clamp(round(inverse[k] * (x[k] - min[k])), 0.0, top);
            best[k] += w[k] * distance(scale[k] * l + min[k] - x[k]);
        }
    }
    for i in 0..=params.steps {
        let numerator = params.start + params.step * f32::from(i) + top;
        for k in 0..LANES {
            inverse[k] = numerator / (max[k] - min[k]);
        }
        let trial = trial(x, w, &inverse, &min, top, &sum_w, &sum_x, distance);
        for k in 0..LANES {
            let better = trial.det[k] > 0.0 && trial.error[k] < best[k];
            best[k] = select(better, trial.error[k], best[k]);
            scale[k] = select(better, trial.scale[k], scale[k]);
            min[k] = select(better, trial.min[k], min[k]);
            let range = max[k] - min[k];
            least_range[k] = if range > least_range[k] { least_range[k] } else { range };
        }
    }
    let (mut odd, mut result_min) = ([false; LANES], Lane::ZERO);
    for k in 0..LANES {
        let flat = range[k] == 0.0;
        scale[k] = select(flat, 0.0, scale[k]);
        result_min[k] = -select(flat, first_min[k], min[k]);
        // Within these bounds all that is rounded stays below 2²².
        let plain = range[k] > 1e-30 && range[k] < 1e30 && least_range[k] > range[k] * 1e-3 && scale[k] != 0.0;
        odd[k] = !flat && !plain;
    }
    Fit { scale, min: result_min, weight: sum_w, odd }
}

/// Least-squares scale and minimum for the codes of a trial, and their error.
struct Trial {
    det: Lane,
    scale: Lane,
    min: Lane,
    error: Lane,
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn trial(
    x: &[Lane],
    w: &[Lane],
    inverse: &Lane,
    min: &Lane,
    top: f32,
    sum_w: &Lane,
    sum_x: &Lane,
    distance: impl Fn(f32) -> f32,
) -> Trial {
    let mut codes: Tile = [Lane::ZERO; SUB];
    let (mut sum_l, mut sum_l2, mut sum_xl) = (Lane::ZERO, Lane::ZERO, Lane::ZERO);
    for ((x, w), codes) in x.iter().zip(w).zip(&mut codes) {
        for k in 0..LANES {
            let l = clamp(round(inverse[k] * (x[k] - min[k])), 0.0, top);
            codes[k] = l;
            let wl = w[k] * l;
            sum_l[k] += wl;
            sum_l2[k] += wl * l;
            sum_xl[k] += wl * x[k];
        }
    }
    let mut fit = Trial { det: Lane::ZERO, scale: Lane::ZERO, min: Lane::ZERO, error: Lane::ZERO };
    for k in 0..LANES {
        fit.det[k] = sum_w[k] * sum_l2[k] - sum_l[k] * sum_l[k];
        let scale = (sum_w[k] * sum_xl[k] - sum_x[k] * sum_l[k]) / fit.det[k];
        let min = (sum_l2[k] * sum_x[k] - sum_l[k] * sum_xl[k]) / fit.det[k];
        fit.scale[k] = if min > 0.0 { sum_xl[k] / sum_l2[k] } else { scale };
        fit.min[k] = if min > 0.0 { 0.0 } else { min };
    }
    for ((x, w), codes) in x.iter().zip(w).zip(&codes) {
        for k in 0..LANES {
            fit.error[k] += w[k] * distance(fit.scale[k] * codes[k] + fit.min[k] - x[k]);
        }
    }
    fit
}
