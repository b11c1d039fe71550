//! Q1_0: 128 numbers as `f16` scale and 128 signs (18 bytes, 1.125 bits per weight).
//!
//! `x = ±d`; bit `j % 8` of byte `j / 8` is set where `x[j] ≥ 0`. `d` is the mean magnitude.
//!
//! Source: ggml, `quantize_row_q1_0_ref`.

use super::fields::{pack_runs, read_f16, unpack_runs, write_f16};
use super::search::sum;
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

const LEN: usize = 128;

/// See the module.
pub struct Q1_0;

impl BlockCodec for Q1_0 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        2 + LEN / 8
    }

    fn encode_block(&self, x: &[f32], _: Option<Importance<'_>>, out: &mut [u8]) {
        let d = sum(x.iter().map(|v| v.abs())) / LEN as f32;
        write_f16(out, 0, f16::from_f32(d));
        let codes: [u8; LEN] = std::array::from_fn(|j| u8::from(x[j] >= 0.0));
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(8, 1, 0, codes, &mut block[2..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(8, 1, 0, &block[2..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        Grid::new(Levels::Table(&[-1, 1]), LEN, 1, |_| Step::linear(read_f16(block, 0).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0]
    }
}
