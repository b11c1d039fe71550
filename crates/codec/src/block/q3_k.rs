//! Q3_K: 256 numbers in 16 sub-blocks of 16 (110 bytes, 3.4375 bits per weight).
//!
//! | bytes | content |
//! |---|---|
//! | 0–31 | bit 2 of the codes, in one plane: bit `j` of byte `l` is of number `32j + l` |
//! | 32–95 | low 2 bits of the codes, in planes of 32 bytes per 128 numbers |
//! | 96–107 | 16 scales of 6 bits: low 4 bits of scales 0–7 under those of 8–15, then high 2 bits, four to a byte |
//! | 108–109 | `f16` d |
//!
//! `x = d·(scale − 32)·(q − 4)`.
//!
//! Source: ggml, `quantize_row_q3_K_ref` (without importance) and `quantize_row_q3_K_impl` (with).

use super::fields::{check_f16, pack, pack_runs, read_f16, unpack, unpack_runs, write_f16};
use super::search::{extreme, importance_weights, nearest_int, sum, symmetric, symmetric_descent};
use super::superblock::{LEN, SUBS};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

/// See the module.
pub struct Q3K;

const SUB: usize = 16;
const HALF: u8 = 4;
const SCALES: std::ops::Range<usize> = 96..108;
const D: usize = 108;

/// Scales of the sub-blocks as the superblock holds them, 6 bits each; and their worth.
fn plain_scales(scale: &[f32; SUBS]) -> (f32, [u8; SUBS]) {
    let largest = extreme(scale).0;
    if largest == 0.0 {
        return (0.0, [0; SUBS]);
    }
    let inverse = -32.0 / largest;
    (1.0 / inverse, scale.map(|s| (nearest_int(inverse * s) as i8).clamp(-32, 31).wrapping_add(32) as u8))
}

/// Rounds numbers to codes under rounded scales; a sub-block whose scale is lost keeps its codes.
fn requantize(x: &[f32], d: f16, scale: &[u8; SUBS], codes: &mut [u8; LEN]) {
    for ((x, codes), scale) in x.chunks_exact(SUB).zip(codes.chunks_exact_mut(SUB)).zip(scale) {
        let d = d.to_f32() * (f32::from(*scale) - 32.0);
        if d != 0.0 {
            for (code, v) in codes.iter_mut().zip(x) {
                *code = (nearest_int(v / d).clamp(-4, 3) + 4) as u8;
            }
        }
    }
}

impl BlockCodec for Q3K {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        110
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let mut codes = [0; LEN];
        let mut scale = [0.0; SUBS];
        let subs = x.chunks_exact(SUB).zip(codes.chunks_exact_mut(SUB));
        let (d, scale) = match importance {
            None => {
                for (scale, (x, codes)) in scale.iter_mut().zip(subs) {
                    *scale = symmetric_descent(x, HALF, codes);
                }
                plain_scales(&scale)
            }
            Some(Importance { columns, .. }) => {
                let sigma2 = 2.0 * sum(x.iter().map(|v| v * v)) / LEN as f32;
                let (mut weights, mut sums, mut rounded) = ([0.0; LEN], [0.0; SUBS], [0; SUBS]);
                importance_weights(x, columns, sigma2, &mut weights);
                for (((x, codes), w), (scale, total)) in
                    subs.zip(weights.chunks_exact(SUB)).zip(scale.iter_mut().zip(&mut sums))
                {
                    *scale = symmetric(x, w, HALF, codes);
                    *total = sum(w.iter().copied());
                }
                (symmetric(&scale, &sums, 32, &mut rounded), rounded)
            }
        };
        let d = f16::from_f32(d);
        write_scales(&scale, &mut out[SCALES]);
        write_f16(out, D, d);
        requantize(x, d, &scale, &mut codes);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack(1, 2, codes, &mut block[..32]);
        pack_runs(128, 2, 0, codes, &mut block[32..96]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack(1, 2, &block[..32], codes);
        unpack_runs(128, 2, 0, &block[32..96], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let d = read_f16(block, D).to_f32();
        let scale = read_scales(&block[SCALES]);
        let levels = Levels::Integers { first: -i16::from(HALF), count: 8 };
        Grid::new(levels, SUB, SUBS, |j| Step::linear(d * (f32::from(scale[j]) - 32.0)))
    }

    fn invalid(&self, block: &[u8]) -> Option<&'static str> {
        check_f16(block, &[D])
    }
}

fn write_scales(scale: &[u8; SUBS], out: &mut [u8]) {
    pack(4, 0, scale, &mut out[..8]);
    pack(2, 4, scale, &mut out[8..]);
}

fn read_scales(bytes: &[u8]) -> [u8; SUBS] {
    let mut scale = [0; SUBS];
    unpack(4, 0, &bytes[..8], &mut scale);
    unpack(2, 4, &bytes[8..], &mut scale);
    scale
}
