//! Numbers of a file to `f32`, ahead of encoding them again.

use crate::simd::vectorised;
use codec::Dtype;
use codec::block::plain;

/// Reads `dtype` numbers, with the results of [`plain::decode`]; fast for BF16 and F16.
///
/// `bytes.len() == out.len() * dtype.bytes()`.
pub fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::BF16 => widen_bf16(bytes, out),
        Dtype::F16 => widen_f16(bytes, out),
        _ => plain::decode(dtype, bytes, out),
    }
}

vectorised! {
    fn widen_bf16(bytes: &[u8], out: &mut [f32]) {
        for (b, y) in bytes.as_chunks::<2>().0.iter().zip(out) {
            *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }
    }
}

vectorised! {
    fn widen_f16(bytes: &[u8], out: &mut [f32]) {
        for (b, y) in bytes.as_chunks::<2>().0.iter().zip(out) {
            *y = f16_to_f32(u16::from_le_bytes(*b));
        }
    }
}

/// Moves the fields into place, then corrects the exponent by a product, which also normalizes subnormal numbers.
#[inline(always)]
fn f16_to_f32(half: u16) -> f32 {
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    const NOT_FINITE: u32 = 0x7c00;
    let magnitude = u32::from(half & 0x7fff);
    let sign = u32::from(half & 0x8000) << 16;
    let finite = (f32::from_bits(magnitude << 13) * REBIAS).to_bits();
    let special = magnitude << 13 | 0x7f80_0000 | u32::from(magnitude > NOT_FINITE) << 22;
    f32::from_bits(sign | if magnitude < NOT_FINITE { finite } else { special })
}
