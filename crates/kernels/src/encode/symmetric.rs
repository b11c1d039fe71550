//! Q6_K, and Q3_K where importance is known: the search of `codec::block::search::symmetric`, a sub-block per lane.

use super::{Lane, Rows, SUB, Tile, clamp, round, select, transpose};
use crate::simd::{LANES, vectorised};
use codec::block::BlockCodec;
use codec::block::q3_k::Q3K;
use codec::block::q6_k::Q6K;
use codec::block::superblock::{LEN, SUBS};

const _: () = assert!(LANES == SUBS, "a superblock fills the lanes");

/// Encodes all superblocks as Q3_K. Without importance its search is of another kind, and left to the reference.
pub(super) fn encode_q3_k(rows: Rows<'_>, out: &mut [u8]) {
    let (mut x, mut w): (Tile, Tile) = ([Lane::ZERO; SUB], [Lane::ZERO; SUB]);
    let mut weights = [0.0; LEN];
    for (i, block) in out.chunks_exact_mut(Q3K.block_bytes()).enumerate() {
        let (numbers, importance) = rows.superblock(i);
        let Some(importance) = importance else {
            rows.encode_superblock(i, &Q3K, block);
            continue;
        };
        Q3K::weights(numbers, importance, &mut weights);
        transpose(numbers, Q3K::SUB, 0, &mut x);
        transpose(&weights, Q3K::SUB, 0, &mut w);
        let (scale, odd) = search(&x[..Q3K::SUB], &w[..Q3K::SUB], f32::from(Q3K::HALF));
        let sums = sums(&w[..Q3K::SUB]);
        if odd || Q3K::finish(numbers, &scale, Some(&sums), [0; LEN], block) {
            rows.encode_superblock(i, &Q3K, block);
        }
    }
}

fn sums(w: &[Lane]) -> Lane {
    let mut sums = Lane::ZERO;
    for w in w {
        for k in 0..LANES {
            sums[k] += w[k];
        }
    }
    sums
}

/// Encodes all superblocks as Q6_K.
pub(super) fn encode_q6_k(rows: Rows<'_>, out: &mut [u8]) {
    let (mut x, mut w): (Tile, Tile) = ([Lane::ZERO; SUB], [Lane::ZERO; SUB]);
    for (i, block) in out.chunks_exact_mut(Q6K.block_bytes()).enumerate() {
        let (numbers, importance) = rows.superblock(i);
        transpose(numbers, Q6K::SUB, 0, &mut x);
        match importance {
            Some(importance) => transpose(importance, Q6K::SUB, 0, &mut w),
            None => squares(&x, &mut w),
        }
        let (scale, odd) = search(&x[..Q6K::SUB], &w[..Q6K::SUB], f32::from(Q6K::HALF));
        if odd || Q6K::finish(numbers, &scale, [0; LEN], block) {
            rows.encode_superblock(i, &Q6K, block);
        }
    }
}

fn squares(x: &Tile, w: &mut Tile) {
    for (w, x) in w.iter_mut().zip(x) {
        for k in 0..LANES {
            w[k] = x[k] * x[k];
        }
    }
}

vectorised! {
    /// Scales of all lanes, and whether the arithmetic of one may differ from the reference's.
    fn search(x: &[Lane], w: &[Lane], half: f32) -> (Lane, bool) {
        let (mut extreme, mut magnitude) = (Lane::ZERO, Lane::ZERO);
        for x in x {
            for k in 0..LANES {
                let larger = x[k].abs() > magnitude[k];
                magnitude[k] = select(larger, x[k].abs(), magnitude[k]);
                extreme[k] = select(larger, x[k], extreme[k]);
            }
        }
        let (mut scale, mut best) = (Lane::ZERO, Lane::ZERO);
        let (sum_xl, sum_l2) = moments(x, w, half, half, &extreme);
        for k in 0..LANES {
            scale[k] = if sum_l2[k] != 0.0 { sum_xl[k] / sum_l2[k] } else { 0.0 };
            best[k] = scale[k] * sum_xl[k];
        }
        for i in (-9i8..=9).filter(|i| *i != 0) {
            let (sum_xl, sum_l2) = moments(x, w, half, half + 0.1 * f32::from(i), &extreme);
            for k in 0..LANES {
                let better = sum_l2[k] > 0.0 && sum_xl[k] * sum_xl[k] > best[k] * sum_l2[k];
                let this_scale = sum_xl[k] / sum_l2[k];
                scale[k] = select(better, this_scale, scale[k]);
                best[k] = select(better, this_scale * sum_xl[k], best[k]);
            }
        }
        let mut odd = false;
        for k in 0..LANES {
            let zero = magnitude[k] < 1e-15;
            scale[k] = select(zero, 0.0, scale[k]);
            odd |= !zero && (scale[k] == 0.0 || !scale[k].is_finite());
        }
        (scale, odd)
    }
}

/// `Σ w·x·l` and `Σ w·l²` for the levels under inverse scale `−numerator / extreme`.
#[inline(always)]
fn moments(x: &[Lane], w: &[Lane], half: f32, numerator: f32, extreme: &Lane) -> (Lane, Lane) {
    let (mut sum_xl, mut sum_l2, mut inverse) = (Lane::ZERO, Lane::ZERO, Lane::ZERO);
    for k in 0..LANES {
        inverse[k] = -numerator / extreme[k];
    }
    for (x, w) in x.iter().zip(w) {
        for k in 0..LANES {
            let l = clamp(round(inverse[k] * x[k]), -half, half - 1.0);
            sum_xl[k] += w[k] * x[k] * l;
            sum_l2[k] += w[k] * l * l;
        }
    }
    (sum_xl, sum_l2)
}
