//! What every encoding offers: its parts for a given shape, encode, decode.

use crate::{BlockFormat, Dtype, Packed};
use std::fmt;
use std::str::FromStr;

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
    /// Bytes of the part; `usize::MAX` where that overflows, which no buffer reaches.
    pub fn bytes(&self) -> usize {
        self.shape.iter().fold(self.dtype.bytes(), |bytes, n| bytes.saturating_mul(*n))
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
    #[error(
        "{encoding} needs rows whose length is a multiple of {group}, got {cols}: \
         take a group size that divides {cols}, or one scale per channel"
    )]
    Group { encoding: String, group: usize, cols: usize },
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
    #[error(
        "no encoding is called `{name}`: there are plain types (f32, f16, bf16), ggml's block formats ({}) and packed \
         ones (such as int4-g128, int4-g128-asym, int8-channel, fp8-channel, mxfp4-g32, nvfp4-g16)",
        BlockFormat::ALL.map(BlockFormat::name).join(", ")
    )]
    Unknown { name: String },
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
                let (cols, stride) = (matrix.cols.max(1), row.max(1));
                for (x, out) in matrix.data.chunks_exact(cols).zip(bytes.chunks_exact_mut(stride)) {
                    format.encode_row(x, importance, out)?;
                }
                Ok(vec![Part { spec, bytes }])
            }
            Encoding::Packed(packed) => packed.encode(matrix, None),
        }
    }

    /// Decodes the parts of a `rows × cols` matrix. `part(suffix)` gives the bytes of a part.
    pub fn decode<'a>(
        &self,
        rows: usize,
        cols: usize,
        part: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Vec<f32>, CodecError> {
        self.check_lengths(rows, cols, &part)?;
        let bytes = |suffix| part(suffix).unwrap_or_default();
        let mut out = vec![0.0; rows * cols];
        match self {
            Encoding::Plain(dtype) => crate::block::plain::decode(*dtype, bytes("weight"), &mut out),
            Encoding::Block(format) => {
                let row = format.row_bytes(cols)?;
                for (b, y) in bytes("weight").chunks_exact(row.max(1)).zip(out.chunks_exact_mut(cols.max(1))) {
                    format.decode_row(b, y);
                }
            }
            Encoding::Packed(packed) => packed.decode(rows, cols, &bytes, &mut out)?,
        }
        Ok(out)
    }

    /// Checks that the parts of a `rows × cols` matrix are there, as long as they must be, and what an encoder could
    /// have written: scales finite, codes legal. Plain numbers must be finite.
    pub fn validate<'a>(
        &self,
        rows: usize,
        cols: usize,
        part: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), CodecError> {
        self.check_lengths(rows, cols, &part)?;
        let bytes = |suffix| part(suffix).unwrap_or_default();
        match self {
            Encoding::Plain(dtype) => {
                let mut value = [0.0];
                for (index, b) in bytes("weight").chunks_exact(dtype.bytes()).enumerate() {
                    crate::block::plain::decode(*dtype, b, &mut value);
                    if !value[0].is_finite() {
                        let index = index % cols.max(1);
                        return Err(CodecError::NotFinite { encoding: self.to_string(), index, value: value[0] });
                    }
                }
                Ok(())
            }
            Encoding::Block(format) => format.validate(bytes("weight")),
            Encoding::Packed(packed) => packed.validate(rows, cols, &bytes),
        }
    }

    pub(crate) fn check_lengths<'a>(
        &self,
        rows: usize,
        cols: usize,
        part: &impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), CodecError> {
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
        Ok(())
    }
}

/// The inverse of [`Display`](fmt::Display), for the encodings that a recipe may ask for.
impl FromStr for Encoding {
    type Err = CodecError;

    fn from_str(name: &str) -> Result<Self, CodecError> {
        let lower = name.to_ascii_lowercase();
        let plain = match lower.as_str() {
            "f32" => Some(Dtype::F32),
            "f16" => Some(Dtype::F16),
            "bf16" => Some(Dtype::BF16),
            _ => None,
        };
        let block = || BlockFormat::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name));
        plain
            .map(Encoding::Plain)
            .or_else(|| block().map(Encoding::Block))
            .or_else(|| lower.parse().ok().map(Encoding::Packed))
            .ok_or_else(|| CodecError::Unknown { name: name.to_owned() })
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Plain(dtype) => f.write_str(&dtype.name().to_ascii_lowercase()),
            Encoding::Block(format) => write!(f, "{format}"),
            Encoding::Packed(packed) => write!(f, "{packed}"),
        }
    }
}
