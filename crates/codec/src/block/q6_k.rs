//! Q6_K: 256 numbers in 16 sub-blocks of 16 (210 bytes, 6.5625 bits per weight).
//!
//! | bytes | content |
//! |---|---|
//! | 0–127 | low 4 bits of the codes, in planes of 64 bytes per 128 numbers |
//! | 128–191 | high 2 bits of the codes, in planes of 32 bytes per 128 numbers |
//! | 192–207 | 16 signed scales of 8 bits |
//! | 208–209 | `f16` d |
//!
//! `x = d·scale·(q − 32)`.
//!
//! Source: ggml, `quantize_row_q6_K_ref` (without importance) and `quantize_row_q6_K_impl` (with).

use super::fields::{pack_runs, read_f16, unpack_runs, write_f16};
use super::search::{ZERO, extreme, nearest_int, symmetric};
use super::superblock::{LEN, SUBS};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

/// See the module.
pub struct Q6K;

const SCALES: usize = 192;
const D: usize = 208;

impl Q6K {
    /// Numbers in a sub-block.
    pub const SUB: usize = 16;
    /// Levels are `−HALF..HALF`.
    pub const HALF: u8 = 32;

    /// The costly half of the encoder: scale and codes of each sub-block. Numbers weigh `importance`, else `x²`.
    fn search(x: &[f32], importance: Option<&[f32]>) -> ([f32; SUBS], [u8; LEN]) {
        let weights: [f32; LEN] = std::array::from_fn(|i| importance.map_or(x[i] * x[i], |w| w[i]));
        let (mut scale, mut codes) = ([0.0; SUBS], [0; LEN]);
        let subs = x.chunks_exact(Self::SUB).zip(weights.chunks_exact(Self::SUB));
        for (scale, ((x, w), codes)) in scale.iter_mut().zip(subs.zip(codes.chunks_exact_mut(Self::SUB))) {
            *scale = symmetric(x, w, Self::HALF, codes);
        }
        (scale, codes)
    }

    /// The encoder after its search: from the scales of the sub-blocks, and codes for those whose scale becomes 0, to
    /// bytes. Says whether it needed those codes: whether a scale that was not 0 became 0.
    pub fn finish(x: &[f32], scale: &[f32; SUBS], mut codes: [u8; LEN], out: &mut [u8]) -> bool {
        let (largest, magnitude) = extreme(scale);
        if magnitude < ZERO {
            out.fill(0);
            return false;
        }
        let inverse = -128.0 / largest;
        let d = f16::from_f32(1.0 / inverse);
        write_f16(out, D, d);
        let mut lost = false;
        let subs = x.chunks_exact(Self::SUB).zip(codes.chunks_exact_mut(Self::SUB));
        for ((byte, scale), (x, codes)) in out[SCALES..D].iter_mut().zip(scale).zip(subs) {
            let rounded = nearest_int(inverse * scale).min(127) as i8;
            *byte = rounded as u8;
            let d = d.to_f32() * f32::from(rounded);
            if d == 0.0 {
                lost |= *scale != 0.0;
                continue;
            }
            for (code, v) in codes.iter_mut().zip(x) {
                *code = (nearest_int(v / d).clamp(-32, 31) + 32) as u8;
            }
        }
        Q6K.pack(&codes, out);
        lost
    }
}

impl BlockCodec for Q6K {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        210
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let (scale, codes) = Self::search(x, importance.map(|i| i.columns));
        Self::finish(x, &scale, codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(128, 4, 0, codes, &mut block[..128]);
        pack_runs(128, 2, 4, codes, &mut block[128..SCALES]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(128, 4, 0, &block[..128], codes);
        unpack_runs(128, 2, 4, &block[128..SCALES], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let d = read_f16(block, D).to_f32();
        let levels = Levels::Integers { first: -i16::from(Self::HALF), count: 64 };
        Grid::new(levels, Self::SUB, SUBS, |j| Step::linear(d * f32::from(block[SCALES + j] as i8)))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[D]
    }
}
