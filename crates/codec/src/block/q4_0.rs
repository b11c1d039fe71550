//! Q4_0: 32 numbers as `f16` scale and 32 codes of 4 bits (18 bytes, 4.5 bits per weight).
//!
//! `x = d·(q − 8)`; byte `j` holds code `j` below and code `j + 16` above.
//!
//! Source: ggml, `quantize_row_q4_0_ref` (without importance) and `quantize_row_q4_0_impl` (with).

use super::fields::{pack, read_f16, unpack, write_f16};
use super::search::{extreme, symmetric, truncate};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

const LEN: usize = 32;

/// See the module.
pub struct Q4_0;

/// Codes `0..2·half` with level `−half` at the number of largest magnitude; and the scale.
pub(super) fn signed_codes(half: u8, x: &[f32], importance: Option<Importance<'_>>) -> (f16, [u8; LEN]) {
    let mut codes = [0; LEN];
    let d = match importance {
        Some(importance) => {
            let mut weight = [0.0; LEN];
            importance.weights(x, &mut weight);
            symmetric(x, &weight, half, &mut codes)
        }
        None => {
            let d = extreme(x).0 / -f32::from(half);
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            for (code, v) in codes.iter_mut().zip(x) {
                let level = truncate(v * inverse + (f32::from(half) + 0.5)) as i8;
                *code = level.min(2 * half as i8 - 1) as u8;
            }
            d
        }
    };
    (f16::from_f32(d), codes)
}

impl BlockCodec for Q4_0 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        2 + LEN / 2
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let (d, codes) = signed_codes(8, x, importance);
        write_f16(out, 0, d);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack(4, 0, codes, &mut block[2..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack(4, 0, &block[2..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let levels = Levels::Integers { first: -8, count: 16 };
        Grid::new(levels, LEN, 1, |_| Step::linear(read_f16(block, 0).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0]
    }
}
