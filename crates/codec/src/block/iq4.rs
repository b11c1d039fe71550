//! IQ4_NL and IQ4_XS: codes of 4 bits into a table of 16 levels, dense around zero.
//!
//! IQ4_NL: 32 numbers as `f16` d and codes as in Q4_0 (18 bytes, 4.5 bits per weight); `x = d·table[q]`.
//!
//! IQ4_XS: 256 numbers in 8 sub-blocks of 32 (136 bytes, 4.25 bits per weight):
//!
//! | bytes | content |
//! |---|---|
//! | 0–1 | `f16` d |
//! | 2–3 | high 2 bits of 8 scales, scale 0 lowest |
//! | 4–7 | low 4 bits of 8 scales, the even one below |
//! | 8–135 | codes of 4 bits, in planes of 16 bytes per 32 numbers |
//!
//! `x = d·(scale − 32)·table[q]`.
//!
//! Source: ggml, `quantize_row_iq4_nl_impl` as `quantize_iq4_nl` and `quantize_iq4_xs` call it.

use super::fields::{pack, pack_runs, read_f16, unpack, unpack_runs, write_f16};
use super::search::{ZERO, extreme, importance_weights, nearest_int, sum};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

static TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

const SUB: usize = 32;

/// Halfway between neighbouring levels.
static MIDPOINTS: [f32; 15] = {
    let mut midpoints = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        midpoints[i] = (TABLE[i] as f32 + TABLE[i + 1] as f32) / 2.0;
        i += 1;
    }
    midpoints
};

/// The code whose level is nearest to `x`, the upper of equals; 15 where `x` is not a number, as in ggml.
fn nearest(x: f32) -> u8 {
    15 - MIDPOINTS.iter().map(|m| u8::from(x < *m)).sum::<u8>()
}

/// Searches the scale of 32 numbers among 16 that put the extreme number near the table's first level.
fn scale(x: &[f32], weight: &[f32]) -> f32 {
    let (max, magnitude) = extreme(x);
    if magnitude < ZERO {
        return 0.0;
    }
    let moments = |inverse: f32| {
        let (mut sum_xq, mut sum_q2) = (0.0, 0.0);
        for (v, w) in x.iter().zip(weight) {
            let q = f32::from(TABLE[usize::from(nearest(inverse * v))]);
            sum_xq += w * q * v;
            sum_q2 += w * q * q;
        }
        (sum_xq, sum_q2)
    };
    let first = f32::from(TABLE[0]);
    let (sum_xq, sum_q2) = moments(1.0 / (-max / first));
    let mut scale = if sum_q2 > 0.0 { sum_xq / sum_q2 } else { 0.0 };
    let mut best = scale * sum_xq;
    for i in -7i8..=7 {
        let (sum_xq, sum_q2) = moments((f32::from(i) + first) / max);
        if sum_q2 > 0.0 && sum_xq * sum_xq > best * sum_q2 {
            scale = sum_xq / sum_q2;
            best = scale * sum_xq;
        }
    }
    scale
}

/// Scales of the runs of 32 numbers in a block. Numbers weigh `importance·√(2·mean(x²) + x²)`, else `x²`.
fn scales<const N: usize>(x: &[f32], importance: Option<Importance<'_>>) -> [f32; N] {
    let sigma2 = sum(x.iter().map(|v| v * v)) * (2.0 / x.len() as f32);
    std::array::from_fn(|j| {
        let x = &x[j * SUB..][..SUB];
        let mut weight = [0.0; SUB];
        match importance {
            Some(importance) => importance_weights(x, &importance.columns[j * SUB..], sigma2, &mut weight),
            None => weight.iter_mut().zip(x).for_each(|(w, v)| *w = v * v),
        }
        scale(x, &weight)
    })
}

fn codes(x: &[f32], scale: f32, codes: &mut [u8]) {
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    for (code, v) in codes.iter_mut().zip(x) {
        *code = nearest(inverse * v);
    }
}

/// See the module.
pub struct Iq4Nl;

impl BlockCodec for Iq4Nl {
    fn block_len(&self) -> usize {
        SUB
    }

    fn block_bytes(&self) -> usize {
        2 + SUB / 2
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let [d] = scales(x, importance);
        let mut q = [0; SUB];
        codes(x, d, &mut q);
        write_f16(out, 0, f16::from_f32(d));
        self.pack(&q, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack(4, 0, codes, &mut block[2..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack(4, 0, &block[2..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        Grid::new(Levels::Table(&TABLE), SUB, 1, |_| Step::linear(read_f16(block, 0).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0]
    }
}

/// See the module.
pub struct Iq4Xs;

const XS_LEN: usize = 256;
const XS_SUBS: usize = XS_LEN / SUB;

impl BlockCodec for Iq4Xs {
    fn block_len(&self) -> usize {
        XS_LEN
    }

    fn block_bytes(&self) -> usize {
        8 + XS_LEN / 2
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let scale: [f32; XS_SUBS] = scales(x, importance);
        let d = -extreme(&scale).0 / 32.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        let level = scale.map(|s| nearest_int(inverse * s).clamp(-32, 31));
        let mut q = [0; XS_LEN];
        for ((x, q), level) in x.chunks_exact(SUB).zip(q.chunks_exact_mut(SUB)).zip(level) {
            codes(x, d * level as f32, q);
        }
        let scale = level.map(|l| (l + 32) as u8);
        write_f16(out, 0, f16::from_f32(d));
        pack_runs(4, 2, 4, &scale, &mut out[2..4]);
        pack_runs(2, 4, 0, &scale, &mut out[4..8]);
        self.pack(&q, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(SUB, 4, 0, codes, &mut block[8..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(SUB, 4, 0, &block[8..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let d = read_f16(block, 0).to_f32();
        let mut scale = [0; XS_SUBS];
        unpack_runs(4, 2, 4, &block[2..4], &mut scale);
        unpack_runs(2, 4, 0, &block[4..8], &mut scale);
        Grid::new(Levels::Table(&TABLE), SUB, XS_SUBS, |j| Step::linear(d * (f32::from(scale[j]) - 32.0)))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0]
    }
}
