//! Packed formats: integers or small floats with scales beside them (the compressed-tensors layouts).
//!
//! One file per format; [`Packed`] lists them.

pub mod fp8;
mod int8;

use crate::{CodecError, Matrix, Part, PartSpec};
use std::fmt;

/// The packed formats of compressed-tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packed {
    /// `int-quantized`, one scale per row: parts `weight` (I8) and `weight_scale` (`[rows, 1]`).
    Int8Channel,
}

impl Packed {
    /// See [`crate::Encoding::parts`].
    pub fn parts(self, rows: usize, cols: usize) -> Result<Vec<PartSpec>, CodecError> {
        match self {
            Packed::Int8Channel => Ok(int8::parts(rows, cols)),
        }
    }

    /// See [`crate::Encoding::encode`].
    pub fn encode(self, matrix: Matrix<'_>) -> Result<Vec<Part>, CodecError> {
        match self {
            Packed::Int8Channel => Ok(int8::encode(matrix)),
        }
    }

    /// Decodes checked parts; `bytes(suffix)` gives the bytes of a part.
    pub fn decode<'a>(self, rows: usize, cols: usize, bytes: &dyn Fn(&'static str) -> &'a [u8], out: &mut [f32]) {
        match self {
            Packed::Int8Channel => int8::decode(rows, cols, bytes, out),
        }
    }
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packed::Int8Channel => f.write_str("int8"),
        }
    }
}
