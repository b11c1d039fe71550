//! Block formats: each row is a run of self-contained blocks (ggml's types).
//!
//! One file per format, each a unit struct that implements [`BlockCodec`]; [`BlockFormat`] lists them.

pub mod plain;
mod q8_0;

use crate::CodecError;
use std::fmt;

/// What one block format offers. Blocks are `block_len` numbers in `block_bytes` bytes.
pub trait BlockCodec: Sync {
    /// Numbers in a block.
    fn block_len(&self) -> usize;
    /// Bytes of a block.
    fn block_bytes(&self) -> usize;
    /// Encodes finite numbers. `importance`: one weight per column.
    fn encode_row(&self, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]);
    /// Decodes whole blocks; any bytes decode without panic.
    fn decode_row(&self, bytes: &[u8], out: &mut [f32]);
    /// Why a block is not one an encoder could have written (non-finite scale, illegal code).
    fn invalid(&self, block: &[u8]) -> Option<&'static str>;
}

/// The block formats, by the names that ggml gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum BlockFormat {
    Q8_0,
}

impl BlockFormat {
    /// Every format, in the order of the enum.
    pub const ALL: [BlockFormat; 1] = [BlockFormat::Q8_0];

    /// Lower-case name, as ggml spells it in its mixes.
    pub const fn name(self) -> &'static str {
        match self {
            BlockFormat::Q8_0 => "q8_0",
        }
    }

    /// The format's implementation.
    pub const fn codec(self) -> &'static dyn BlockCodec {
        match self {
            BlockFormat::Q8_0 => &q8_0::Q8_0,
        }
    }

    /// Bytes of a row of `cols` numbers.
    pub fn row_bytes(self, cols: usize) -> Result<usize, CodecError> {
        let codec = self.codec();
        if cols % codec.block_len() != 0 {
            return Err(CodecError::Columns { encoding: self.to_string(), multiple: codec.block_len(), cols });
        }
        Ok(cols / codec.block_len() * codec.block_bytes())
    }

    /// Bits per number, scales counted.
    pub fn bpw(self) -> f64 {
        self.codec().block_bytes() as f64 * 8.0 / self.codec().block_len() as f64
    }

    /// Encodes one row. Refuses numbers that are not finite.
    pub fn encode_row(self, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), CodecError> {
        if let Some(index) = x.iter().position(|v| !v.is_finite()) {
            return Err(CodecError::NotFinite { encoding: self.to_string(), index, value: x[index] });
        }
        self.codec().encode_row(x, importance, out);
        Ok(())
    }

    /// Decodes one row.
    pub fn decode_row(self, bytes: &[u8], out: &mut [f32]) {
        self.codec().decode_row(bytes, out);
    }

    /// Checks that every block is one that an encoder could have written.
    pub fn validate(self, bytes: &[u8]) -> Result<(), CodecError> {
        for (block, b) in bytes.chunks_exact(self.codec().block_bytes()).enumerate() {
            if let Some(what) = self.codec().invalid(b) {
                return Err(CodecError::Invalid { encoding: self.to_string(), block, what });
            }
        }
        Ok(())
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
