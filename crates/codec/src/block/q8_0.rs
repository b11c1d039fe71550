//! Q8_0: 32 numbers as `f16` scale and 32 signed bytes (34 bytes, 8.5 bits per weight).
//!
//! `x = d·q`, the largest magnitude at ±127. Codes here are `q + 128`.
//!
//! Source: ggml, `quantize_row_q8_0_ref`.

use super::fields::{read_f16, write_f16};
use super::search::{extreme, truncate};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

const LEN: usize = 32;

/// See the module.
pub struct Q8_0;

impl BlockCodec for Q8_0 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        2 + LEN
    }

    fn encode_block(&self, x: &[f32], _: Option<Importance<'_>>, out: &mut [u8]) {
        let d = extreme(x).1 / 127.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        write_f16(out, 0, f16::from_f32(d));
        for (q, v) in out[2..].iter_mut().zip(x) {
            *q = truncate((v * inverse).round()) as u8;
        }
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        for (q, code) in block[2..].iter_mut().zip(codes) {
            *q = code ^ 0x80;
        }
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        for (q, code) in block[2..].iter().zip(codes) {
            *code = q ^ 0x80;
        }
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let levels = Levels::Integers { first: -128, count: 256 };
        Grid::new(levels, LEN, 1, |_| Step::linear(read_f16(block, 0).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0]
    }
}
