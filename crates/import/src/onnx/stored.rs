//! Weights as an ONNX file has them: plain, transposed (`[in, out]` matrices), or as codes on a grid.

use codec::{Dtype, Encoding};
use formats::onnx::{Bytes, DataType, integers};
use graph::{Grid, Source, SourceError, Weight};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Which part of the file holds a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// An initialiser of this name.
    Initializer(String),
    /// The `value` of a Constant node, by its position.
    Node(usize),
}

/// Where a weight lies in the file, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The name under which nodes read it.
    pub name: String,
    /// What holds its numbers or codes.
    pub home: Home,
    /// Its shape there; the weight's may lack leading ones, and has axes 0 and 1 swapped where `transposed`.
    pub dims: Vec<usize>,
    /// Whether the file has it as `[in, out]`.
    pub transposed: bool,
}

/// Numbers as they lie in the file.
pub(super) struct Raw {
    pub name: String,
    pub bytes: Bytes,
    pub rows: usize,
}

/// The same numbers with rows and columns swapped.
pub(super) struct Transposed {
    pub inner: Arc<Weight>,
}

/// Codes that become numbers when they are read.
pub(super) struct Dequantized {
    pub name: String,
    pub bytes: Bytes,
    pub dtype: DataType,
    pub shape: Vec<usize>,
    pub grid: Grid,
}

/// The encoding of a type that weights come in.
pub(super) fn encoding(dtype: DataType) -> Option<Encoding> {
    Some(Encoding::Plain(match dtype {
        DataType::Float => Dtype::F32,
        DataType::Float16 => Dtype::F16,
        DataType::Bfloat16 => Dtype::BF16,
        DataType::Double => Dtype::F64,
        _ => return None,
    }))
}

fn out_of_range(name: &str, range: &Range<usize>, rows: usize) -> SourceError {
    SourceError::Rows { name: name.into(), start: range.start, end: range.end, rows }
}

impl Source for Raw {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let row = self.bytes.len() / self.rows.max(1);
        let bytes = self.bytes.get(rows.start * row..rows.end * row);
        bytes.map(Cow::Borrowed).ok_or_else(|| out_of_range(&self.name, &rows, self.rows))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![Cow::Borrowed(&self.bytes)])
    }
}

impl Source for Transposed {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let (height, width) = (self.inner.cols(), self.inner.rows());
        if rows.end > height || rows.start > rows.end {
            return Err(out_of_range(&self.inner.name, &rows, height));
        }
        let all = self.inner.source.rows(0..width)?;
        let size = all.len() / (height * width).max(1);
        let mut out = Vec::with_capacity(rows.len() * width * size);
        for row in rows {
            (0..width).for_each(|col| out.extend_from_slice(&all[(col * height + row) * size..][..size]));
        }
        Ok(Cow::Owned(out))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.inner.cols())?])
    }
}

impl Dequantized {
    fn numbers(&self) -> Option<Vec<u8>> {
        let codes = integers(self.dtype, &self.bytes, self.shape.iter().product())?;
        let inner: usize = self.grid.axis.map_or(1, |axis| self.shape.iter().skip(axis + 1).product());
        let mut out = Vec::with_capacity(4 * codes.len());
        for (i, code) in codes.into_iter().enumerate() {
            let at = i / inner.max(1) % self.grid.scale.len().max(1);
            let (scale, zero) = (self.grid.scale.get(at)?, self.grid.zero.get(at)?);
            out.extend_from_slice(&((code - i64::from(*zero)) as f32 * scale).to_le_bytes());
        }
        Some(out)
    }

    fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }
}

impl Source for Dequantized {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let all = self.numbers().ok_or_else(|| SourceError::Read {
            name: self.name.clone(),
            why: "its codes do not fit its scales".into(),
        })?;
        let row = all.len() / Dequantized::rows(self).max(1);
        let bytes = all.get(rows.start * row..rows.end * row).map(<[u8]>::to_vec);
        bytes.map(Cow::Owned).ok_or_else(|| out_of_range(&self.name, &rows, Dequantized::rows(self)))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![Source::rows(self, 0..Dequantized::rows(self))?])
    }
}
