//! Eight-bit floats: E4M3 (no infinity, NaN = 0x7f) and E5M2, as PyTorch's `float8_e4m3fn` and `float8_e5m2`.

/// Decodes E4M3.
pub fn e4m3_to_f32(b: u8) -> f32 {
    let (e, m) = (i32::from(b >> 3 & 15), f32::from(b & 7));
    let magnitude = match (e, b & 7) {
        (15, 7) => f32::NAN,
        (0, _) => m * 2f32.powi(-9),
        _ => (1.0 + m / 8.0) * 2f32.powi(e - 7),
    };
    if b & 0x80 != 0 { -magnitude } else { magnitude }
}

/// Decodes E5M2.
pub fn e5m2_to_f32(b: u8) -> f32 {
    half::f16::from_bits(u16::from(b) << 8).to_f32()
}

/// Rounds to the nearest E4M3, ties to even; beyond ±448 saturates.
pub fn e4m3_from_f32(v: f32) -> u8 {
    let sign = if v.is_sign_negative() { 0x80 } else { 0 };
    if v.is_nan() {
        return sign | 0x7f;
    }
    let a = v.abs().min(448.0);
    let exponent = ((a.to_bits() >> 23) as i32 - 127).max(-6);
    let step = 2f32.powi(exponent - 3);
    let steps = (a / step).round_ties_even() as u8; // 0..=16: 16 carries into the next exponent
    sign | (((exponent + 6) as u8) << 3) + steps
}

/// Rounds to the nearest E5M2, ties to even; beyond ±57344 saturates.
pub fn e5m2_from_f32(v: f32) -> u8 {
    let sign = if v.is_sign_negative() { 0x80 } else { 0 };
    if v.is_nan() {
        return sign | 0x7f;
    }
    let a = v.abs().min(57344.0);
    let exponent = ((a.to_bits() >> 23) as i32 - 127).max(-14);
    let step = 2f32.powi(exponent - 2);
    let steps = (a / step).round_ties_even() as u8;
    sign | (((exponent + 14) as u8) << 2) + steps
}
