//! Q2_0: 64 numbers as `f16` scale and 64 codes of 2 bits (18 bytes, 2.25 bits per weight).
//!
//! `x = d·(q − 1)`; byte `j` holds codes `4j..4j + 4`, the first in the lowest bits. `d` is the largest magnitude, so
//! code 3 (`2d`) is never written.
//!
//! Source: ggml, `quantize_row_q2_0_ref`.

use super::fields::{pack_runs, read_f16, unpack_runs, write_f16};
use super::search::{extreme, truncate};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

const LEN: usize = 64;

/// See the module.
pub struct Q2_0;

impl BlockCodec for Q2_0 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        2 + LEN / 4
    }

    fn encode_block(&self, x: &[f32], _: Option<Importance<'_>>, out: &mut [u8]) {
        let d = extreme(x).1;
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        write_f16(out, 0, f16::from_f32(d));
        let codes: [u8; LEN] =
            std::array::from_fn(|j| truncate((x[j] * inverse).round()).wrapping_add(1).clamp(0, 3) as u8);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(4, 2, 0, codes, &mut block[2..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(4, 2, 0, &block[2..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let levels = Levels::Integers { first: -1, count: 4 };
        Grid::new(levels, LEN, 1, |_| Step::linear(read_f16(block, 0).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0]
    }
}
