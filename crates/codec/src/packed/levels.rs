//! Levels: the numbers that a code can stand for before its scale is applied.
//!
//! | levels | codes | numbers |
//! |---|---|---|
//! | integers of `b` bits | `q + 2^(b−1)` | `q` = −2^(b−1) … 2^(b−1) − 1 |
//! | E4M3 | the byte | ±448, [`super::fp8`] |
//! | E2M1 | sign in bit 3, then magnitude | ±0, 0.5, 1, 1.5, 2, 3, 4, 6 (OCP microscaling, v1.0) |

use super::fp8::{e4m3_from_f32, e4m3_to_f32};

/// A set of numbers with a code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// Signed integers of this many bits (1 to 8).
    Integer(u32),
    /// Eight-bit floats.
    E4m3,
    /// Four-bit floats.
    E2m1,
}

impl Levels {
    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        match self {
            Levels::Integer(bits) => bits,
            Levels::E4m3 => 8,
            Levels::E2m1 => 4,
        }
    }

    /// The lowest level.
    pub const fn min(self) -> f32 {
        match self {
            Levels::Integer(_) => -self.offset(),
            Levels::E4m3 => -448.0,
            Levels::E2m1 => -6.0,
        }
    }

    /// The highest level.
    pub const fn max(self) -> f32 {
        match self {
            Levels::Integer(_) => self.offset() - 1.0,
            Levels::E4m3 => 448.0,
            Levels::E2m1 => 6.0,
        }
    }

    /// What is added to an integer to make its code.
    const fn offset(self) -> f32 {
        match self {
            Levels::Integer(bits) => (1 << (bits - 1)) as f32,
            Levels::E4m3 | Levels::E2m1 => 0.0,
        }
    }

    /// The code of the level nearest to `v`, ties to even; beyond the ends it saturates.
    #[inline]
    pub fn nearest(self, v: f32) -> u8 {
        match self {
            Levels::Integer(_) => integer(v, self.min(), self.max(), self.offset()),
            Levels::E4m3 => e4m3_from_f32(v),
            Levels::E2m1 => e2m1(v),
        }
    }

    /// The number that a code stands for; bits of `code` beyond [`Levels::bits`] are ignored.
    #[inline]
    pub fn level(self, code: u8) -> f32 {
        match self {
            Levels::Integer(bits) => f32::from(code & (0xff >> (8 - bits))) - self.offset(),
            Levels::E4m3 => e4m3_to_f32(code),
            Levels::E2m1 => e2m1_value(code),
        }
    }

    /// Codes of `x / step + zero`. Only integers have a zero point.
    pub fn encode(self, x: &[f32], step: f32, zero: f32, codes: &mut [u8]) {
        let each = codes.iter_mut().zip(x);
        match self {
            Levels::Integer(_) => {
                let (min, max, offset) = (self.min(), self.max(), self.offset());
                each.for_each(|(c, v)| *c = integer(v / step + zero, min, max, offset));
            }
            Levels::E4m3 => each.for_each(|(c, v)| *c = e4m3_from_f32(v / step)),
            Levels::E2m1 => each.for_each(|(c, v)| *c = e2m1(v / step)),
        }
    }

    /// Numbers `(level(code) − zero) · step`. Only integers have a zero point.
    pub fn decode(self, codes: &[u8], step: f32, zero: f32, x: &mut [f32]) {
        let each = x.iter_mut().zip(codes);
        match self {
            Levels::Integer(_) => {
                let zero = zero + self.offset();
                each.for_each(|(v, c)| *v = (f32::from(*c) - zero) * step);
            }
            Levels::E4m3 => each.for_each(|(v, c)| *v = e4m3_to_f32(*c) * step),
            Levels::E2m1 => each.for_each(|(v, c)| *v = e2m1_value(*c) * step),
        }
    }
}

#[inline]
fn integer(v: f32, min: f32, max: f32, offset: f32) -> u8 {
    const ROUNDS: f32 = 12582912.0; // 1.5·2^23: its last bit is 1, so the adder rounds to integers, ties to even
    let v = if v > min { v } else { min };
    let v = if v < max { v } else { max };
    (v + ROUNDS + offset).to_bits() as u8
}

#[inline]
fn e2m1(v: f32) -> u8 {
    let a = v.abs();
    // Each boundary between two neighbours, on the side that leaves ties to the even code.
    let above = [a > 0.25, a >= 0.75, a > 1.25, a >= 1.75, a > 2.5, a >= 3.5, a > 5.0];
    let magnitude: u8 = above.iter().map(|b| u8::from(*b)).sum();
    magnitude | u8::from(v < 0.0) << 3
}

#[inline]
fn e2m1_value(code: u8) -> f32 {
    const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
    VALUES[usize::from(code & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_its_own_nearest_and_ties_go_to_even() {
        for levels in (2..=8).map(Levels::Integer).chain([Levels::E2m1]) {
            let all = (0..1u32 << levels.bits()).map(|c| c as u8);
            let codes: Vec<u8> = all.filter(|c| levels.level(*c).is_sign_positive()).collect();
            for (low, high) in codes.iter().zip(&codes[1..]) {
                let middle = (levels.level(*low) + levels.level(*high)) / 2.0;
                assert_eq!(levels.nearest(levels.level(*low)), *low);
                assert_eq!(levels.nearest(middle), low + (low & 1), "{levels:?} {middle}");
            }
            assert_eq!(levels.level(levels.nearest(1e30)), levels.max());
            assert_eq!(levels.level(levels.nearest(-1e30)), levels.min());
        }
    }
}
