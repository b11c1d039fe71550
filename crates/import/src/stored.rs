//! Weights as they lie in a mapped file: read row by row, given back page by page.

use formats::Mapped;
use formats::gguf::Gguf;
use formats::safetensors::Safetensors;
use graph::{Source, SourceError};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// The files that hold a model's tensors.
#[derive(Clone)]
pub(crate) enum Files {
    Safetensors(Arc<Safetensors>),
    Gguf(Arc<Gguf>),
}

impl Files {
    pub fn mapped(&self, file: usize) -> Option<&Mapped> {
        match self {
            Files::Safetensors(all) => all.files().get(file),
            Files::Gguf(all) => all.files().get(file),
        }
    }
}

/// One tensor of one part, in place.
pub(crate) struct Stored {
    pub files: Files,
    pub name: String,
    /// Which of the files.
    pub file: usize,
    /// Its bytes there.
    pub range: Range<usize>,
    /// How many rows they are.
    pub rows: usize,
}

impl Stored {
    /// Where rows lie in the file.
    fn locate(&self, rows: &Range<usize>) -> Result<Range<usize>, SourceError> {
        if rows.start > rows.end || rows.end > self.rows {
            let (start, end) = (rows.start, rows.end);
            return Err(SourceError::Rows { name: self.name.clone(), start, end, rows: self.rows });
        }
        let row = self.range.len() / self.rows.max(1);
        Ok(self.range.start + rows.start * row..self.range.start + rows.end * row)
    }
}

impl Source for Stored {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let range = self.locate(&rows)?;
        let bytes = self.files.mapped(self.file).and_then(|m| m.get(range));
        let missing = || SourceError::Read { name: self.name.clone(), why: "its bytes are beyond the file".into() };
        bytes.map(Cow::Borrowed).ok_or_else(missing)
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.rows)?])
    }

    fn release(&self, rows: Range<usize>) {
        if let (Ok(range), Some(mapped)) = (self.locate(&rows), self.files.mapped(self.file)) {
            mapped.release(range);
        }
    }
}
