//! Q5_0: 32 numbers as `f16` scale, 32 high bits and 32 codes of 4 low bits (22 bytes, 5.5 bits per weight).
//!
//! `x = d·(q − 16)`; bit `j % 8` of byte `2 + j / 8` is bit 4 of code `j`; low bits lie as in Q4_0.
//!
//! Source: ggml, `quantize_row_q5_0_ref` (without importance) and `quantize_row_q5_0_impl` (with).

use super::fields::{pack, pack_runs, read_f16, unpack, unpack_runs, write_f16};
use super::q4_0::signed_codes;
use super::{BlockCodec, Grid, Importance, Levels, Step};

const LEN: usize = 32;

/// See the module.
pub struct Q5_0;

impl BlockCodec for Q5_0 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        2 + LEN / 8 + LEN / 2
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let (d, codes) = signed_codes(16, x, importance);
        write_f16(out, 0, d);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(8, 1, 4, codes, &mut block[2..6]);
        pack(4, 0, codes, &mut block[6..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(8, 1, 4, &block[2..6], codes);
        unpack(4, 0, &block[6..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let levels = Levels::Integers { first: -16, count: 32 };
        Grid::new(levels, LEN, 1, |_| Step::linear(read_f16(block, 0).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0]
    }
}
