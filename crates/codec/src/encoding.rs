//! What every encoding offers: its parts for a given shape, encode, decode.

use crate::{BlockFormat, Dtype, Packed};
use std::fmt;

/// How a matrix of numbers lies in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One number after the other, row by row.
    Plain(Dtype),
    /// Self-contained blocks along each row (the GGUF types): one part.
    Block(BlockFormat),
    /// Integers or small floats with scales beside them (the compressed-tensors formats): several parts.
    Packed(Packed),
}

/// A matrix to encode: `data.len() == rows * cols`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Rows (output features).
    pub rows: usize,
    /// Columns (input features).
    pub cols: usize,
    /// Row-major values.
    pub data: &'a [f32],
}

/// The name, type and shape of one part of an encoded matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSpec {
    /// What the part is called beside the tensor's base name: `weight`, `weight_packed`, `weight_scale`, ….
    pub suffix: &'static str,
    /// Element type; block formats count bytes (`U8`).
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

impl PartSpec {
    /// Bytes of the part.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// One part of an encoded matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name, type and shape.
    pub spec: PartSpec,
    /// `spec.bytes()` bytes.
    pub bytes: Vec<u8>,
}

/// Why a matrix cannot be encoded, or bytes cannot be decoded.
#[derive(Debug, thiserror::Error, PartialEq)]
#[allow(missing_docs)]
pub enum CodecError {
    #[error("{encoding} needs rows whose length is a multiple of {multiple}, got {cols}")]
    Columns { encoding: String, multiple: usize, cols: usize },
    #[error("{encoding}: part `{part}` has {got} bytes, expected {expected}")]
    Length { encoding: String, part: &'static str, expected: usize, got: usize },
    #[error("{encoding}: part `{part}` is missing")]
    Missing { encoding: String, part: &'static str },
    #[error("{encoding}: invalid block {block}: {what}")]
    Invalid { encoding: String, block: usize, what: &'static str },
    #[error("{encoding} cannot hold element {index} of the row: {value}")]
    NotFinite { encoding: String, index: usize, value: f32 },
    #[error("{encoding} does not encode, it only decodes")]
    DecodeOnly { encoding: String },
    #[error("{encoding}: importance of column {index} is {value}; it must be finite and not negative")]
    Importance { encoding: String, index: usize, value: f32 },
    #[error("{encoding} refuses to encode without importance weights")]
    NeedsImportance { encoding: String },
}

impl Encoding {
    /// The parts a `rows × cols` matrix becomes. Fails where the shape does not fit the encoding.
    pub fn parts(&self, rows: usize, cols: usize) -> Result<Vec<PartSpec>, CodecError> {
        match self {
            Encoding::Plain(dtype) => Ok(vec![PartSpec { suffix: "weight", dtype: *dtype, shape: vec![rows, cols] }]),
            Encoding::Block(format) => {
                let row = format.row_bytes(cols)?;
                Ok(vec![PartSpec { suffix: "weight", dtype: Dtype::U8, shape: vec![rows, row] }])
            }
            Encoding::Packed(packed) => packed.parts(rows, cols),
        }
    }

    /// Bytes of a `rows × cols` matrix, scales and codebooks counted.
    pub fn bytes(&self, rows: usize, cols: usize) -> Result<usize, CodecError> {
        Ok(self.parts(rows, cols)?.iter().map(PartSpec::bytes).sum())
    }

    /// Encodes a matrix. `importance` holds one weight per column (mean square of the input), where known.
    pub fn encode(&self, matrix: Matrix<'_>, importance: Option<&[f32]>) -> Result<Vec<Part>, CodecError> {
        match self {
            Encoding::Plain(dtype) => {
                let spec = PartSpec { suffix: "weight", dtype: *dtype, shape: vec![matrix.rows, matrix.cols] };
                let mut bytes = vec![0; spec.bytes()];
                crate::block::plain::encode(*dtype, matrix.data, &mut bytes);
                Ok(vec![Part { spec, bytes }])
            }
            Encoding::Block(format) => {
                let row = format.row_bytes(matrix.cols)?;
                let spec = PartSpec { suffix: "weight", dtype: Dtype::U8, shape: vec![matrix.rows, row] };
                let mut bytes = vec![0; spec.bytes()];
                for (x, out) in matrix.data.chunks_exact(matrix.cols).zip(bytes.chunks_exact_mut(row)) {
                    format.encode_row(x, importance, out)?;
                }
                Ok(vec![Part { spec, bytes }])
            }
            Encoding::Packed(packed) => packed.encode(matrix),
        }
    }

    /// Decodes the parts of a `rows × cols` matrix. `part(suffix)` gives the bytes of a part.
    pub fn decode<'a>(
        &self,
        rows: usize,
        cols: usize,
        part: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Vec<f32>, CodecError> {
        let mut out = vec![0.0; rows * cols];
        for spec in self.parts(rows, cols)? {
            let bytes = part(spec.suffix)
                .ok_or_else(|| CodecError::Missing { encoding: self.to_string(), part: spec.suffix })?;
            if bytes.len() != spec.bytes() {
                return Err(CodecError::Length {
                    encoding: self.to_string(),
                    part: spec.suffix,
                    expected: spec.bytes(),
                    got: bytes.len(),
                });
            }
        }
        let bytes = |suffix| part(suffix).unwrap_or_default();
        match self {
            Encoding::Plain(dtype) => crate::block::plain::decode(*dtype, bytes("weight"), &mut out),
            Encoding::Block(format) => {
                let row = format.row_bytes(cols)?;
                for (b, y) in bytes("weight").chunks_exact(row).zip(out.chunks_exact_mut(cols)) {
                    format.decode_row(b, y);
                }
            }
            Encoding::Packed(packed) => packed.decode(rows, cols, &bytes, &mut out),
        }
        Ok(out)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Plain(dtype) => write!(f, "{dtype}"),
            Encoding::Block(format) => write!(f, "{format}"),
            Encoding::Packed(packed) => write!(f, "{packed}"),
        }
    }
}
