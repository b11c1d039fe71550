//! Block formats: each row is a run of self-contained blocks (ggml's types).
//!
//! One file per format, each a unit struct that implements [`BlockCodec`]; [`BlockFormat`] lists them. A block is
//! scales and codes: [`BlockCodec::grid`] says what the codes mean under a block's scales, so a solver can encode a
//! block, keep its scales, choose other codes, and [`pack`](BlockCodec::pack) them.

mod fields;
mod grid;
mod iq4;
mod mxfp4;
mod nvfp4;
pub mod plain;
mod q1_0;
mod q2_0;
pub mod q2_k;
pub mod q3_k;
mod q4_0;
mod q4_1;
pub mod q4_k;
mod q5_0;
mod q5_1;
pub mod q5_k;
pub mod q6_k;
mod q8_0;
pub mod search;
pub mod superblock;
mod ternary;

pub use grid::{Grid, Levels, Step};

use crate::CodecError;
use std::fmt;

/// Longest block of any format.
const MAX_LEN: usize = 256;

/// How much each number of a block matters.
#[derive(Clone, Copy, Debug)]
pub struct Importance<'a> {
    /// One weight per number of the block (mean square of the layer's input there).
    pub columns: &'a [f32],
    /// Mean of the squares of the whole row that the block is part of.
    pub row_mean_square: f32,
}

impl Importance<'_> {
    /// Weights of the block's numbers, relative to the power of the row.
    fn weights(&self, x: &[f32], out: &mut [f32]) {
        search::importance_weights(x, self.columns, self.row_mean_square, out);
    }
}

/// What one block format offers. A block is [`block_len`](Self::block_len) numbers in
/// [`block_bytes`](Self::block_bytes) bytes; methods panic on slices of other lengths, and on nothing else.
pub trait BlockCodec: Sync {
    /// Numbers in a block, at most 256.
    fn block_len(&self) -> usize;
    /// Bytes of a block.
    fn block_bytes(&self) -> usize;
    /// Encodes one block of finite numbers, as ggml does.
    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]);
    /// Writes `codes` into a block, beside the scales that it has.
    fn pack(&self, codes: &[u8], block: &mut [u8]);
    /// Reads the codes of a block into cleared `codes`.
    fn unpack(&self, block: &[u8], codes: &mut [u8]);
    /// What codes stand for under the scales of a block.
    fn grid(&self, block: &[u8]) -> Grid;
    /// Where the `f16` scales of a block lie; its numbers grow with all of them together. None in formats whose scales
    /// are of other types.
    fn f16_at(&self) -> &'static [usize] {
        &[]
    }

    /// Why a block is not one that a runtime accepts (a scale that is not finite).
    fn invalid(&self, block: &[u8]) -> Option<&'static str> {
        fields::check_f16(block, self.f16_at())
    }

    /// Encodes whole blocks of finite numbers. `importance`: one weight per column.
    fn encode_row(&self, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let row_mean_square = importance.map_or(0.0, |_| search::sum(x.iter().map(|v| v * v)) / x.len() as f32);
        let len = self.block_len();
        let blocks = x.chunks_exact(len).zip(out.chunks_exact_mut(self.block_bytes()));
        for (i, (x, out)) in blocks.enumerate() {
            let columns = importance.map(|w| &w[i * len..][..len]);
            self.encode_block(x, columns.map(|columns| Importance { columns, row_mean_square }), out);
        }
    }

    /// Decodes whole blocks; any bytes decode.
    fn decode_row(&self, bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block_len()));
        for (block, out) in blocks {
            let mut codes = [0; MAX_LEN];
            let codes = &mut codes[..out.len()];
            self.unpack(block, codes);
            self.grid(block).decode(codes, out);
        }
    }
}

/// The block formats, by the names that ggml gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, non_camel_case_types)]
pub enum BlockFormat {
    Q1_0,
    Q2_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
}

impl BlockFormat {
    /// Every format, in the order of the enum.
    pub const ALL: [BlockFormat; 18] = {
        use BlockFormat::*;
        [
            Q1_0, Q2_0, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, TQ1_0, TQ2_0,
            MXFP4, NVFP4,
        ]
    };

    /// The name that ggml gives the type: `q8_0`, `q4_K`, `iq4_nl`, ….
    pub const fn name(self) -> &'static str {
        self.entry().0
    }

    /// The format's implementation.
    pub const fn codec(self) -> &'static dyn BlockCodec {
        self.entry().1
    }

    const fn entry(self) -> (&'static str, &'static dyn BlockCodec) {
        match self {
            BlockFormat::Q1_0 => ("q1_0", &q1_0::Q1_0),
            BlockFormat::Q2_0 => ("q2_0", &q2_0::Q2_0),
            BlockFormat::Q4_0 => ("q4_0", &q4_0::Q4_0),
            BlockFormat::Q4_1 => ("q4_1", &q4_1::Q4_1),
            BlockFormat::Q5_0 => ("q5_0", &q5_0::Q5_0),
            BlockFormat::Q5_1 => ("q5_1", &q5_1::Q5_1),
            BlockFormat::Q8_0 => ("q8_0", &q8_0::Q8_0),
            BlockFormat::Q2_K => ("q2_K", &q2_k::Q2K),
            BlockFormat::Q3_K => ("q3_K", &q3_k::Q3K),
            BlockFormat::Q4_K => ("q4_K", &q4_k::Q4K),
            BlockFormat::Q5_K => ("q5_K", &q5_k::Q5K),
            BlockFormat::Q6_K => ("q6_K", &q6_k::Q6K),
            BlockFormat::IQ4_NL => ("iq4_nl", &iq4::Iq4Nl),
            BlockFormat::IQ4_XS => ("iq4_xs", &iq4::Iq4Xs),
            BlockFormat::TQ1_0 => ("tq1_0", &ternary::Tq1),
            BlockFormat::TQ2_0 => ("tq2_0", &ternary::Tq2),
            BlockFormat::MXFP4 => ("mxfp4", &mxfp4::Mxfp4),
            BlockFormat::NVFP4 => ("nvfp4", &nvfp4::Nvfp4),
        }
    }

    /// Bytes of a row of `cols` numbers.
    pub fn row_bytes(self, cols: usize) -> Result<usize, CodecError> {
        let codec = self.codec();
        if !cols.is_multiple_of(codec.block_len()) {
            return Err(CodecError::Columns { encoding: self.to_string(), multiple: codec.block_len(), cols });
        }
        Ok(cols / codec.block_len() * codec.block_bytes())
    }

    /// Bits per number, scales counted.
    pub fn bpw(self) -> f64 {
        self.codec().block_bytes() as f64 * 8.0 / self.codec().block_len() as f64
    }

    /// Encodes one row. Refuses numbers that are not finite or too large for the format's scales, importance that is
    /// not finite or negative, and slices whose lengths do not fit.
    pub fn encode_row(self, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), CodecError> {
        self.check_rows(x.len(), x, importance, out)?;
        self.codec().encode_row(x, importance, out);
        self.validate(out)
    }

    /// Whether rows of `cols` numbers can be encoded into `out`: what every encoder checks before its work.
    pub fn check_rows(self, cols: usize, x: &[f32], importance: Option<&[f32]>, out: &[u8]) -> Result<(), CodecError> {
        let row_bytes = self.row_bytes(cols)?;
        let length = |part, expected, got| match expected == got {
            true => Ok(()),
            false => Err(CodecError::Length { encoding: self.to_string(), part, expected, got }),
        };
        let rows = x.len().checked_div(cols).unwrap_or(0);
        length("values", rows * cols, x.len())?;
        length("bytes", rows * row_bytes, out.len())?;
        if let Some(at) = not_encodable(x) {
            return Err(CodecError::NotFinite { encoding: self.to_string(), index: at % cols, value: x[at] });
        }
        let Some(importance) = importance else { return Ok(()) };
        length("importance", cols, importance.len())?;
        match importance.iter().position(|w| !w.is_finite() || *w < 0.0) {
            Some(index) => Err(CodecError::Importance { encoding: self.to_string(), index, value: importance[index] }),
            None => Ok(()),
        }
    }

    /// Decodes one row of whole blocks.
    pub fn decode_row(self, bytes: &[u8], out: &mut [f32]) {
        self.codec().decode_row(bytes, out);
    }

    /// Checks that every block is one that a runtime accepts.
    pub fn validate(self, bytes: &[u8]) -> Result<(), CodecError> {
        for (block, b) in bytes.chunks_exact(self.codec().block_bytes()).enumerate() {
            if let Some(what) = self.codec().invalid(b) {
                return Err(CodecError::Invalid { encoding: self.to_string(), block, what });
            }
        }
        Ok(())
    }
}

/// Multiplies the `f16` scales of a block by about `factor`, if that leaves them finite; says whether any changed.
pub(crate) fn stretch(codec: &dyn BlockCodec, block: &mut [u8], factor: f32) -> bool {
    let scaled = |at: &usize| half::f16::from_f32(fields::read_f16(block, *at).to_f32() * factor);
    let scales: Vec<half::f16> = codec.f16_at().iter().map(scaled).collect();
    let changes = codec.f16_at().iter().zip(&scales).any(|(at, scale)| fields::read_f16(block, *at) != *scale);
    if changes && scales.iter().all(|scale| scale.is_finite()) {
        codec.f16_at().iter().zip(scales).for_each(|(at, scale)| fields::write_f16(block, *at, scale));
        return true;
    }
    false
}

/// Magnitudes from here on are refused: no `f16` scale reaches them, and their cubes, which searches sum, might overflow
/// to scales that look valid.
const TOO_LARGE: f32 = (1u32 << 30) as f32;

/// Where the first number is that is not finite or too large. Looks at runs, so that the compiler can vectorize.
fn not_encodable(x: &[f32]) -> Option<usize> {
    const RUN: usize = 64;
    let fits = |v: &f32| v.abs() < TOO_LARGE;
    let run = x.chunks(RUN).position(|run| !run.iter().fold(true, |all, v| all & fits(v)))? * RUN;
    x[run..].iter().position(|v| !fits(v)).map(|at| run + at)
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
