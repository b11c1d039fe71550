//! Q4_1: 32 numbers as `f16` scale, `f16` minimum and 32 codes of 4 bits (20 bytes, 5 bits per weight).
//!
//! `x = d·q + m`; codes lie as in Q4_0.
//!
//! Source: ggml, `quantize_row_q4_1_ref` (without importance) and `quantize_row_q4_1_impl` (with).

use super::fields::{pack, read_f16, unpack, write_f16};
use super::search::{AffineSearch, Distance, affine, truncate};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

const LEN: usize = 32;

/// See the module.
pub struct Q4_1;

/// Scale, minimum and codes `0..=top` of a block.
pub(super) fn affine_codes(top: u8, x: &[f32], importance: Option<Importance<'_>>) -> (f16, f16, [u8; LEN]) {
    let mut codes = [0; LEN];
    let (d, min) = match importance {
        Some(importance) => {
            let mut weight = [0.0; LEN];
            importance.weights(x, &mut weight);
            let search = AffineSearch { top, start: -0.9, step: 0.05, steps: 36, distance: Distance::Square };
            let found = affine(x, &weight, &search, &mut codes);
            (found.scale, -found.min)
        }
        None => {
            let min = x.iter().fold(f32::MAX, |m, v| if *v < m { *v } else { m });
            let max = x.iter().fold(f32::MIN, |m, v| if *v > m { *v } else { m });
            let d = (max - min) / f32::from(top);
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            for (code, v) in codes.iter_mut().zip(x) {
                *code = (truncate((v - min) * inverse + 0.5) as i8).min(top as i8) as u8;
            }
            (d, min)
        }
    };
    (f16::from_f32(d), f16::from_f32(min), codes)
}

impl BlockCodec for Q4_1 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        4 + LEN / 2
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let (d, min, codes) = affine_codes(15, x, importance);
        write_f16(out, 0, d);
        write_f16(out, 2, min);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack(4, 0, codes, &mut block[4..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack(4, 0, &block[4..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let step = Step { scale: read_f16(block, 0).to_f32(), offset: read_f16(block, 2).to_f32() };
        Grid::new(Levels::Integers { first: 0, count: 16 }, LEN, 1, |_| step)
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0, 2]
    }
}
