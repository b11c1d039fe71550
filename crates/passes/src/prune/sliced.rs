//! A weight less some of its indices, read from the whole one when it is wanted.

use graph::{Source, SourceError, Weight};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Kept indices of a weight of plain numbers.
pub(super) struct Sliced {
    inner: Arc<Weight>,
    /// For each axis: the indices that stay, ascending; all where it is `None`.
    kept: Vec<Option<Vec<usize>>>,
}

impl Sliced {
    /// `kept` has an entry for each axis of `inner`.
    pub fn new(inner: Arc<Weight>, kept: Vec<Option<Vec<usize>>>) -> Sliced {
        Sliced { inner, kept }
    }

    /// The shape that is left.
    pub fn shape(&self) -> Vec<usize> {
        let left = |(length, kept): (&usize, &Option<Vec<usize>>)| kept.as_ref().map_or(*length, Vec::len);
        self.inner.shape.iter().zip(&self.kept).map(left).collect()
    }

    /// The row of the whole weight that a row was.
    fn old_row(&self, mut row: usize) -> usize {
        let (mut old, mut stride) = (0, 1);
        let outer = self.inner.shape.len().saturating_sub(1);
        for axis in (0..outer).rev() {
            let length = self.inner.shape[axis];
            let left = self.kept[axis].as_ref().map_or(length, Vec::len).max(1);
            let index = self.kept[axis].as_ref().map_or(row % left, |kept| kept[row % left]);
            old += index * stride;
            (row, stride) = (row / left, stride * length);
        }
        old
    }

    fn rows_in_all(&self) -> usize {
        self.shape().split_last().map_or(1, |(_, outer)| outer.iter().product())
    }
}

impl Source for Sliced {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let total = self.rows_in_all();
        if rows.start > rows.end || rows.end > total {
            let (start, end) = (rows.start, rows.end);
            return Err(SourceError::Rows { name: self.inner.name.clone(), start, end, rows: total });
        }
        let old: Vec<usize> = rows.map(|row| self.old_row(row)).collect();
        let (Some(first), Some(last)) = (old.first(), old.last()) else { return Ok(Cow::Owned(Vec::new())) };
        let bytes = self.inner.source.rows(*first..last + 1)?;
        let cols = self.inner.cols();
        let size = bytes.len() / ((last + 1 - first) * cols).max(1);
        let mut left = Vec::new();
        for row in &old {
            let row = &bytes[(row - first) * cols * size..][..cols * size];
            match self.kept.last().and_then(Option::as_ref) {
                None => left.extend_from_slice(row),
                Some(kept) => kept.iter().for_each(|col| left.extend_from_slice(&row[col * size..][..size])),
            }
        }
        Ok(Cow::Owned(left))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.rows_in_all())?])
    }

    fn release(&self, rows: Range<usize>) {
        if rows.start < rows.end && rows.end <= self.rows_in_all() {
            self.inner.source.release(self.old_row(rows.start)..self.old_row(rows.end - 1) + 1);
        }
    }
}

/// A weight whose numbers at some indices are zero.
pub(super) struct Masked {
    inner: Arc<Weight>,
    /// For each axis: the indices whose numbers are zero.
    dead: Vec<Vec<usize>>,
}

impl Masked {
    /// `dead` has an entry for each axis of `inner`.
    pub fn new(inner: Arc<Weight>, dead: Vec<Vec<usize>>) -> Masked {
        Masked { inner, dead }
    }
}

impl Source for Masked {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let mut bytes = self.inner.source.rows(rows.clone())?.into_owned();
        let cols = self.inner.cols();
        let size = bytes.len() / (rows.len() * cols).max(1);
        for (at, row) in rows.zip(bytes.chunks_mut((cols * size).max(1))) {
            let mut outer = at;
            let dead = self.inner.shape.split_last().map_or(&[][..], |(_, outer)| outer);
            let dead = dead.iter().enumerate().rev().any(|(axis, length)| {
                let index = outer % length;
                outer /= length;
                self.dead[axis].binary_search(&index).is_ok()
            });
            if dead {
                row.fill(0);
            }
            for col in self.dead.last().into_iter().flatten() {
                row[col * size..][..size].fill(0);
            }
        }
        Ok(Cow::Owned(bytes))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.inner.rows())?])
    }
}
