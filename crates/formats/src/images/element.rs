//! Types of numbers that samples and labels are stored in, all little endian.

use half::f16;
use std::fmt;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

use Element::*;

/// Every type, with its usual name and NumPy's.
const ALL: [(Element, &str, &str); 11] = [
    (U8, "u8", "u1"),
    (I8, "i8", "i1"),
    (U16, "u16", "u2"),
    (I16, "i16", "i2"),
    (U32, "u32", "u4"),
    (I32, "i32", "i4"),
    (U64, "u64", "u8"),
    (I64, "i64", "i8"),
    (F16, "f16", "f2"),
    (F32, "f32", "f4"),
    (F64, "f64", "f8"),
];

impl Element {
    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            U8 | I8 => 1,
            U16 | I16 | F16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 => 8,
        }
    }

    /// By its name: `u8`, `f32`.
    pub(super) fn named(name: &str) -> Option<Element> {
        ALL.iter().find(|(_, word, _)| *word == name).map(|(element, ..)| *element)
    }

    /// By NumPy's description: `|u1`, `<f4`. Truth values count as bytes; big endian is not read.
    pub(super) fn numpy(descr: &str) -> Option<Element> {
        let (order, word) = descr.split_at_checked(1)?;
        let word = if word == "b1" { "u1" } else { word };
        let found = ALL.iter().find(|(.., numpy)| *numpy == word).map(|(element, ..)| *element)?;
        (matches!(order, "<" | "|") || found.bytes() == 1).then_some(found)
    }

    /// The number in so many bytes; 0 where there are fewer.
    pub(super) fn number(self, bytes: &[u8]) -> f64 {
        fn part<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.first_chunk().copied().unwrap_or([0; N])
        }
        match self {
            U8 => f64::from(u8::from_le_bytes(part(bytes))),
            I8 => f64::from(i8::from_le_bytes(part(bytes))),
            U16 => f64::from(u16::from_le_bytes(part(bytes))),
            I16 => f64::from(i16::from_le_bytes(part(bytes))),
            U32 => f64::from(u32::from_le_bytes(part(bytes))),
            I32 => f64::from(i32::from_le_bytes(part(bytes))),
            U64 => u64::from_le_bytes(part(bytes)) as f64,
            I64 => i64::from_le_bytes(part(bytes)) as f64,
            F16 => f16::from_le_bytes(part(bytes)).to_f64(),
            F32 => f64::from(f32::from_le_bytes(part(bytes))),
            F64 => f64::from_le_bytes(part(bytes)),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.iter().find(|(element, ..)| element == self).map_or("", |(_, name, _)| name))
    }
}
