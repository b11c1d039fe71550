//! MXFP4: 32 numbers as a power of two and 32 codes of FP4 E2M1 (17 bytes, 4.25 bits per weight).
//!
//! `x = 2^(e − 127)·v`, `v` in `0, ½, 1, 1½, 2, 3, 4, 6` with bit 3 of the code as sign; byte 0 is `e`, then codes as in
//! Q4_0. `e` is `⌊log2(largest magnitude)⌋ − 2 + 127`: the format's rule in ggml, which saturates magnitudes above 6·2^(e−127).
//!
//! A largest magnitude below 2⁻¹²⁵ wraps `e` round, as in ggml, and decodes to zeros; `e = 255` is not a valid scale.
//!
//! Source: ggml, `quantize_row_mxfp4_ref`; OCP Microscaling Formats v1.0.

use super::fields::{pack, unpack};
use super::search::{extreme, truncate};
use super::{BlockCodec, Grid, Importance, Levels, Step};

/// Twice the values of E2M1.
pub(super) static E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

const LEN: usize = 32;

/// The code whose value is nearest to `x`, the first of equals; `half` is worth one half.
pub(super) fn nearest(x: f32, half: f32) -> u8 {
    let error = |code: u8| (f32::from(E2M1[usize::from(code)]) * half - x).abs();
    let (mut best, mut least) = (0, error(0));
    for code in 1..16 {
        let error = error(code);
        if error < least {
            (best, least) = (code, error);
        }
    }
    best
}

/// `2^(e − 128)`: half of what exponent `e` stands for.
fn half_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// See the module.
pub struct Mxfp4;

impl BlockCodec for Mxfp4 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        1 + LEN / 2
    }

    fn encode_block(&self, x: &[f32], _: Option<Importance<'_>>, out: &mut [u8]) {
        let largest = extreme(x).1;
        // Rounded to `f32` before the floor: just below a power of two the logarithm reaches the integer.
        let log2 = f64::from(largest).log2() as f32;
        let e = if largest > 0.0 { truncate(log2.floor() - 2.0 + 127.0) as u8 } else { 0 };
        let half = half_scale(e);
        out[0] = e;
        let codes: [u8; LEN] = std::array::from_fn(|j| nearest(x[j], half));
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack(4, 0, codes, &mut block[1..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack(4, 0, &block[1..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        Grid::new(Levels::Table(&E2M1), LEN, 1, |_| Step::linear(half_scale(block[0])))
    }

    fn invalid(&self, block: &[u8]) -> Option<&'static str> {
        (block[0] == 0xff).then_some("scale exponent is 255")
    }
}
