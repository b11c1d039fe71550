//! Eight-bit floats: E4M3 (no infinity, NaN = 0x7f) and E5M2, as PyTorch's `float8_e4m3fn` and `float8_e5m2`.
//!
//! Written without branches or library calls, so that loops over them vectorize.
//! Source: Micikevicius et al., "FP8 formats for deep learning", arXiv 2209.05433.

/// Decodes E4M3.
#[inline]
pub fn e4m3_to_f32(b: u8) -> f32 {
    // The bits read as an f32 whose exponent is 120 too small, subnormals included; one product rebases them.
    let magnitude = f32::from_bits(u32::from(b & 0x7f) << 20) * f32::from_bits((127 + 120) << 23);
    let magnitude = if b & 0x7f == 0x7f { f32::NAN } else { magnitude };
    f32::from_bits(magnitude.to_bits() | u32::from(b & 0x80) << 24)
}

/// Decodes E5M2.
#[inline]
pub fn e5m2_to_f32(b: u8) -> f32 {
    half::f16::from_bits(u16::from(b) << 8).to_f32()
}

/// Rounds to the nearest E4M3, ties to even; beyond ±448 saturates.
#[inline]
pub fn e4m3_from_f32(v: f32) -> u8 {
    round::<3, -6>(v, 448.0, 0x7f)
}

/// Rounds to the nearest E5M2, ties to even; beyond ±57344 saturates.
#[inline]
pub fn e5m2_from_f32(v: f32) -> u8 {
    round::<2, -14>(v, 57344.0, 0x7f)
}

/// Rounds to a float with `MANTISSA` bits of mantissa whose smallest normal is 2^`LOWEST`.
#[inline]
fn round<const MANTISSA: u32, const LOWEST: i32>(v: f32, max: f32, nan: u8) -> u8 {
    let sign = (v.to_bits() >> 24) as u8 & 0x80;
    let a = if v.abs() < max { v.abs() } else { max };
    let cut = 23 - MANTISSA;
    // Normal: add half of the last kept bit (to even), then drop the rest and rebase the exponent.
    let bits = a.to_bits();
    let even = (bits + ((1 << (cut - 1)) - 1) + (bits >> cut & 1)) >> cut;
    let normal = even.wrapping_sub(((126 + LOWEST) as u32) << MANTISSA);
    // Subnormal: adding a power of two whose last bit is the smallest step lets the adder round.
    let anchor = f32::from_bits(((127 + 23 + LOWEST - MANTISSA as i32) as u32) << 23);
    let subnormal = (a + anchor).to_bits() - anchor.to_bits();
    let smallest = f32::from_bits(((127 + LOWEST) as u32) << 23);
    let magnitude = if a < smallest { subnormal } else { normal } as u8;
    sign | if v.is_nan() { nan } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code decodes to a value that encodes back; halfway between two neighbours the even one wins.
    fn check(codes: u8, to: fn(u8) -> f32, from: fn(f32) -> u8) {
        for b in 0..=codes {
            for sign in [0, 0x80] {
                assert_eq!(from(to(sign | b)), sign | b);
            }
            if b < codes {
                let middle = (to(b) + to(b + 1)) / 2.0;
                assert_eq!(from(middle), b + (b & 1), "tie above {b:#x}");
                assert_eq!(from(middle.next_down()), b);
                assert_eq!(from(middle.next_up()), b + 1);
            }
        }
        assert_eq!(from(f32::INFINITY), codes);
        assert_eq!(from(-1e30), 0x80 | codes);
        assert!(to(from(f32::NAN)).is_nan());
    }

    #[test]
    fn round_to_nearest_even() {
        check(0x7e, e4m3_to_f32, e4m3_from_f32);
        check(0x7b, e5m2_to_f32, e5m2_from_f32);
        assert_eq!((e4m3_to_f32(0x7e), e4m3_to_f32(0x01)), (448.0, 2f32.powi(-9)));
        assert_eq!((e5m2_to_f32(0x7b), e5m2_to_f32(0x01)), (57344.0, 2f32.powi(-16)));
    }
}
