//! Where a weight's bytes come from: lazily, and in rows where the encoding allows.

use crate::Weight;
use codec::{CodecError, Encoding, Matrix, Part};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Why a weight could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SourceError {
    #[error("weight `{name}`: {source}")]
    Codec { name: String, source: CodecError },
    #[error("weight `{name}`: rows {start}..{end} of a weight with {rows} rows")]
    Rows { name: String, start: usize, end: usize, rows: usize },
    #[error("weight `{name}`: its {encoding} encoding has several parts and is read whole")]
    NotByRows { name: String, encoding: String },
    #[error("weight `{name}`: {why}")]
    Read { name: String, why: String },
}

/// A lazy source of a weight's bytes, in the weight's own encoding.
pub trait Source: Send + Sync {
    /// Bytes of rows, for encodings with one part ([`Encoding::Plain`], [`Encoding::Block`]).
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError>;

    /// Every part, whole, in the order of [`Encoding::parts`].
    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError>;

    /// Says that these rows will not be read again soon, so that mapped pages can be given back.
    fn release(&self, _rows: Range<usize>) {}
}

/// Bytes in memory.
pub struct Buffer {
    name: String,
    rows: usize,
    parts: Vec<Part>,
}

impl Buffer {
    /// Parts as [`Encoding::encode`] returns them, of a weight of `rows` rows.
    pub fn new(name: impl Into<String>, rows: usize, parts: Vec<Part>) -> Buffer {
        Buffer { name: name.into(), rows, parts }
    }
}

impl Source for Buffer {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let [part] = &self.parts[..] else {
            return Err(SourceError::NotByRows { name: self.name.clone(), encoding: "packed".into() });
        };
        let row = part.bytes.len() / self.rows.max(1);
        part.bytes
            .get(rows.start * row..rows.end * row)
            .map(Cow::Borrowed)
            .ok_or_else(|| out_of_range(&self.name, &rows, self.rows))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(self.parts.iter().map(|p| Cow::Borrowed(&p.bytes[..])).collect())
    }
}

/// Rows of another weight: an expert of a stacked tensor, a projection of a fused one.
pub struct RowSlice {
    whole: Arc<Weight>,
    first: usize,
    rows: usize,
}

impl RowSlice {
    /// Rows `first..first + rows` of `whole`, which must have one part.
    pub fn new(whole: Arc<Weight>, first: usize, rows: usize) -> RowSlice {
        RowSlice { whole, first, rows }
    }
}

impl Source for RowSlice {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        if rows.end > self.rows {
            return Err(out_of_range(&self.whole.name, &rows, self.rows));
        }
        self.whole.source.rows(self.first + rows.start..self.first + rows.end)
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.rows)?])
    }

    fn release(&self, rows: Range<usize>) {
        self.whole.source.release(self.first + rows.start..self.first + rows.end);
    }
}

/// Another weight with its rows in another order.
pub struct PermutedRows {
    inner: Arc<Weight>,
    order: Vec<usize>,
}

impl PermutedRows {
    /// Row `i` is row `order[i]` of `inner`, which must have one part.
    pub fn new(inner: Arc<Weight>, order: Vec<usize>) -> PermutedRows {
        PermutedRows { inner, order }
    }
}

impl Source for PermutedRows {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let order =
            self.order.get(rows.clone()).ok_or_else(|| out_of_range(&self.inner.name, &rows, self.order.len()))?;
        let mut bytes = Vec::new();
        for row in order {
            bytes.extend_from_slice(&self.inner.source.rows(*row..row + 1)?);
        }
        Ok(Cow::Owned(bytes))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.order.len())?])
    }

    fn release(&self, rows: Range<usize>) {
        let Some(order) = self.order.get(rows) else { return };
        if let (Some(first), Some(last)) = (order.iter().min(), order.iter().max()) {
            self.inner.source.release(*first..last + 1);
        }
    }
}

/// How rows of numbers become rows of bytes: the reference in `codec`, or a faster equal.
pub type EncodeRows = fn(&Encoding, Matrix<'_>, Option<&[f32]>) -> Result<Vec<Part>, CodecError>;

/// Another weight in another encoding, encoded when it is read: what a data-free pass leaves behind.
pub struct Encoded {
    inner: Arc<Weight>,
    encoding: Encoding,
    importance: Option<Vec<f32>>,
    encode: EncodeRows,
    /// Weights that share the range of the numbers, where that counts.
    fused: Vec<Arc<Weight>>,
    range: OnceLock<codec::packed::Range>,
}

impl Encoded {
    /// `inner` encoded anew on every read by `encode`.
    pub fn new(inner: Arc<Weight>, encoding: Encoding, importance: Option<Vec<f32>>, encode: EncodeRows) -> Encoded {
        Encoded { inner, encoding, importance, encode, fused: Vec::new(), range: OnceLock::new() }
    }

    /// The same, with one range of numbers over all these weights ([`codec::Packed::shares_range`]).
    #[must_use]
    pub fn fused_with(mut self, weights: Vec<Arc<Weight>>) -> Encoded {
        self.fused = weights;
        self
    }

    /// The range of all fused weights together, read once.
    fn range(&self) -> Result<codec::packed::Range, SourceError> {
        if let Some(range) = self.range.get() {
            return Ok(*range);
        }
        let of = |w: &Arc<Weight>| w.read().map(|x| codec::packed::Range::of(&x));
        let ranges = self.fused.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let range = ranges.into_iter().fold(codec::packed::Range::default(), codec::packed::Range::union);
        Ok(*self.range.get_or_init(|| range))
    }

    fn encode(&self, rows: Range<usize>) -> Result<Vec<Part>, SourceError> {
        let data = self.inner.read_rows(rows.clone())?;
        let matrix = Matrix { rows: rows.len(), cols: self.inner.cols(), data: &data };
        let encoded = match &self.encoding {
            Encoding::Packed(packed) if !self.fused.is_empty() => packed.encode(matrix, Some(self.range()?)),
            encoding => (self.encode)(encoding, matrix, self.importance.as_deref()),
        };
        encoded.map_err(|source| SourceError::Codec { name: self.inner.name.clone(), source })
    }
}

impl Source for Encoded {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let mut parts = self.encode(rows)?;
        match (parts.pop(), parts.is_empty()) {
            (Some(part), true) => Ok(Cow::Owned(part.bytes)),
            _ => Err(SourceError::NotByRows { name: self.inner.name.clone(), encoding: self.encoding.to_string() }),
        }
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        let parts = self.encode(0..self.inner.rows())?;
        Ok(parts.into_iter().map(|p| Cow::Owned(p.bytes)).collect())
    }

    fn release(&self, rows: Range<usize>) {
        self.inner.source.release(rows);
    }
}

fn out_of_range(name: &str, range: &Range<usize>, rows: usize) -> SourceError {
    SourceError::Rows { name: name.into(), start: range.start, end: range.end, rows }
}
