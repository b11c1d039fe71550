//! Q5_1: 32 numbers as `f16` scale, `f16` minimum, 32 high bits and 32 codes of 4 low bits (24 bytes, 6 bits per weight).
//!
//! `x = d·q + m`; codes lie as in Q5_0.
//!
//! Source: ggml, `quantize_row_q5_1_ref` (without importance) and `quantize_row_q5_1_impl` (with).

use super::fields::{pack, pack_runs, read_f16, unpack, unpack_runs, write_f16};
use super::q4_1::affine_codes;
use super::{BlockCodec, Grid, Importance, Levels, Step};

const LEN: usize = 32;

/// See the module.
pub struct Q5_1;

impl BlockCodec for Q5_1 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        4 + LEN / 8 + LEN / 2
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let (d, min, codes) = affine_codes(31, x, importance);
        write_f16(out, 0, d);
        write_f16(out, 2, min);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(8, 1, 4, codes, &mut block[4..8]);
        pack(4, 0, codes, &mut block[8..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(8, 1, 4, &block[4..8], codes);
        unpack(4, 0, &block[8..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let step = Step { scale: read_f16(block, 0).to_f32(), offset: read_f16(block, 2).to_f32() };
        Grid::new(Levels::Integers { first: 0, count: 32 }, LEN, 1, |_| step)
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0, 2]
    }
}
