//! TQ1_0 and TQ2_0: 256 numbers as `f16` scale and 256 codes of three levels; `x = d·(q − 1)`, `d` the largest magnitude.
//!
//! TQ1_0 (54 bytes, 1.6875 bits per weight): five codes to a byte, as the digits of a fraction in base 3 scaled to 256
//! and rounded up, so that digit `n` is `⌊3·(byte·3ⁿ mod 256) / 256⌋`.
//!
//! | bytes | content |
//! |---|---|
//! | 0–31 | byte `l`: numbers `l + 32n`, `n` in `0..5` |
//! | 32–47 | byte `l`: numbers `160 + l + 16n`, `n` in `0..5` |
//! | 48–51 | byte `l`: numbers `240 + l + 4n`, `n` in `0..4` |
//! | 52–53 | `f16` d |
//!
//! TQ2_0 (66 bytes, 2.0625 bits per weight): codes of 2 bits in planes of 32 bytes per 128 numbers, then `f16` d.
//!
//! Source: ggml, `quantize_row_tq1_0_ref`, `quantize_row_tq2_0_ref`.

use super::fields::{pack_runs, read_f16, unpack_runs, write_f16};
use super::search::extreme;
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

const LEN: usize = 256;

/// Largest magnitude, and a code `0..=2` for each number.
fn ternary_codes(x: &[f32]) -> (f16, [u8; LEN]) {
    let d = extreme(x).1;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    // An overflowing quotient counts as zero, as ggml's conversion to an integer makes it.
    let level = |v: f32| if v.is_finite() { v.round() as i8 } else { 0 };
    (f16::from_f32(d), std::array::from_fn(|i| (level(x[i] * inverse) + 1) as u8))
}

/// First number, number of bytes, and digits in a byte of the three parts of a TQ1_0 block.
const PARTS: [(usize, usize, usize); 3] = [(0, 32, 5), (160, 16, 5), (240, 4, 4)];

/// See the module.
pub struct Tq1;

impl BlockCodec for Tq1 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        54
    }

    fn encode_block(&self, x: &[f32], _: Option<Importance<'_>>, out: &mut [u8]) {
        let (d, codes) = ternary_codes(x);
        write_f16(out, 52, d);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        let mut bytes = block.iter_mut();
        for (first, len, digits) in PARTS {
            for (l, byte) in bytes.by_ref().take(len).enumerate() {
                let digit = |n: usize| if n < digits { u32::from(codes[first + l + n * len].min(2)) } else { 0 };
                let number = (0..5).fold(0, |q, n| 3 * q + digit(n));
                *byte = (number * 256).div_ceil(243) as u8;
            }
        }
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        let mut bytes = block.iter();
        for (first, len, digits) in PARTS {
            for (l, byte) in bytes.by_ref().take(len).enumerate() {
                let mut fraction = *byte;
                for n in 0..digits {
                    codes[first + l + n * len] = ((u16::from(fraction) * 3) >> 8) as u8;
                    fraction = fraction.wrapping_mul(3);
                }
            }
        }
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let levels = Levels::Integers { first: -1, count: 3 };
        Grid::new(levels, LEN, 1, |_| Step::linear(read_f16(block, 52).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[52]
    }
}

/// See the module.
pub struct Tq2;

impl BlockCodec for Tq2 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        66
    }

    fn encode_block(&self, x: &[f32], _: Option<Importance<'_>>, out: &mut [u8]) {
        let (d, codes) = ternary_codes(x);
        write_f16(out, 64, d);
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(128, 2, 0, codes, &mut block[..64]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(128, 2, 0, &block[..64], codes);
    }

    /// Code 3 (`2d`) can be stored, but no encoder writes it.
    fn grid(&self, block: &[u8]) -> Grid {
        let levels = Levels::Integers { first: -1, count: 4 };
        Grid::new(levels, LEN, 1, |_| Step::linear(read_f16(block, 64).to_f32()))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[64]
    }
}
