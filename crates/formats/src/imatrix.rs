//! llama.cpp's imatrix files: how much each input column of each matrix matters, as mean squares of what came in.
//!
//! Two layouts. **GGUF** (`llama-imatrix` since 2025-07):
//!
//! ```text
//! general.type = "imatrix" · imatrix.datasets [string] · imatrix.chunk_count u32 · imatrix.chunk_size u32
//! per matrix, in the order of names:  NAME.in_sum2 F32 [matrices, columns]   sums of squares
//!                                     NAME.counts  F32 [matrices, 1]        tokens that each has seen
//! ```
//!
//! **Legacy** (`.dat`), little endian, without a magic number; the tail may be absent:
//!
//! ```text
//! i32 entries · per entry: i32 length, name, i32 calls, i32 values, f32 values   (mean square × calls)
//! i32 calls of the last · i32 length, name of the text
//! ```
//!
//! A tensor that stacks experts has a matrix for each. The legacy layout has one count for all of them and stores mean
//! squares of 1 for experts that saw no token, so who they were is lost.
//!
//! Source: `tools/imatrix/imatrix.cpp` and `common/imatrix-loader.cpp` of llama.cpp (2026-09).

mod legacy;
mod problem;

pub use problem::{Error, Problem};

use crate::atomic::{WriteError, write_file};
use crate::gguf::{Gguf, GgufType, Metadata, TensorSpec, Writer};
use crate::{InFile, Mapped};
use codec::{Dtype, Encoding};
use std::collections::BTreeMap;
use std::path::Path;

const TYPE: &str = "general.type";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// Tokens that a call of a legacy file is taken to have: they do not say, and this is what `llama-imatrix` takes.
const LEGACY_CALL: u32 = 512;

/// A whole imatrix file, in one meaning whatever its layout: sums of squares, and how many tokens they are over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// By the GGUF name of the tensor, in the order of files.
    pub entries: BTreeMap<String, Entry>,
    /// The texts that were read.
    pub datasets: Vec<String>,
    /// How many chunks of text were read.
    pub chunks: u32,
    /// Tokens of a chunk.
    pub chunk_size: u32,
}

/// What is known of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Sums of squares, matrix after matrix, a number for each column.
    pub sums: Vec<f32>,
    /// Tokens that each matrix has seen; one count for all of them in files that were in the legacy layout.
    pub counts: Vec<u64>,
}

/// How a file lies in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The current one.
    Gguf,
    /// The one before, which older tools read.
    Legacy,
}

impl Entry {
    /// Numbers that each count is for.
    fn columns(&self) -> usize {
        self.sums.len() / self.counts.len().max(1)
    }

    /// Mean squares, as `llama-quantize` takes them; 1 where no token was seen.
    pub fn means(&self) -> Vec<f32> {
        let columns = self.columns().max(1);
        let mean = |(sums, count): (&[f32], &u64)| -> Vec<f32> {
            let count = *count as f32;
            sums.iter().map(|sum| if count > 0.0 { sum / count } else { 1.0 }).collect()
        };
        self.sums.chunks(columns).zip(&self.counts).flat_map(mean).collect()
    }

    fn check(&self, tensor: &str) -> Result<(), Problem> {
        let tensor = || tensor.to_owned();
        if self.counts.is_empty() || self.sums.is_empty() || !self.sums.len().is_multiple_of(self.counts.len()) {
            return Err(Problem::Sizes { tensor: tensor(), sums: self.sums.len(), counts: self.counts.len() });
        }
        match self.sums.iter().position(|v| !v.is_finite() || *v < 0.0) {
            Some(at) => Err(Problem::Number { tensor: tensor(), column: at % self.columns(), value: self.sums[at] }),
            None => Ok(()),
        }
    }
}

impl Imatrix {
    /// Reads a file of either layout.
    ///
    /// # Errors
    /// The file and what is wrong with it: cut short, a GGUF of another kind, numbers that are not finite or negative.
    pub fn open(path: &Path) -> Result<Imatrix, Error> {
        let fail = InFile::at(path);
        let bytes = Mapped::open(path).map_err(|e| fail(Problem::Io(e)))?;
        let read = match bytes.starts_with(b"GGUF") {
            true => from_gguf(&Gguf::open(path).map_err(|e| fail(Problem::Gguf(e.problem)))?),
            false => legacy::parse(&bytes),
        };
        let imatrix = read.map_err(&fail)?;
        if imatrix.entries.is_empty() {
            return Err(fail(Problem::Empty));
        }
        imatrix.entries.iter().try_for_each(|(name, entry)| entry.check(name)).map_err(fail)?;
        Ok(imatrix)
    }

    /// Writes a file with the bytes that `llama-imatrix` would give it.
    ///
    /// # Errors
    /// The system's, and counts or names that the layout cannot hold.
    pub fn write(&self, path: &Path, layout: Layout) -> Result<(), WriteError> {
        for (name, entry) in &self.entries {
            let problem = |p: Problem| WriteError::Header { path: path.to_owned(), what: p.to_string() };
            entry.check(name).map_err(problem)?;
        }
        match layout {
            Layout::Gguf => self.write_gguf(path),
            Layout::Legacy => {
                let what = "has counts or sizes beyond what the legacy layout can hold; write GGUF".to_owned();
                let bytes = legacy::write(self).ok_or(WriteError::Header { path: path.to_owned(), what })?;
                write_file(path, &bytes)
            }
        }
    }

    fn write_gguf(&self, path: &Path) -> Result<(), WriteError> {
        let mut keys = Metadata::default();
        keys.set(TYPE, "imatrix");
        keys.set(DATASETS, self.datasets.clone());
        keys.set(CHUNK_COUNT, self.chunks);
        keys.set(CHUNK_SIZE, self.chunk_size);
        let spec = |name: String, shape: Vec<usize>| TensorSpec { name, shape, encoding: Encoding::Plain(Dtype::F32) };
        // As ggml counts dimensions: one where there is one matrix.
        let shape =
            |matrices: usize, columns: usize| if matrices == 1 { vec![columns] } else { vec![matrices, columns] };
        let specs = |(name, entry): (&String, &Entry)| {
            let (matrices, columns) = (entry.counts.len(), entry.columns());
            [
                spec(format!("{name}{SUMS}"), shape(matrices, columns)),
                spec(format!("{name}{COUNTS}"), shape(matrices, 1)),
            ]
        };
        let specs: Vec<_> = self.entries.iter().flat_map(specs).collect();
        let mut writer = Writer::file(path, &keys, &specs)?;
        for (name, entry) in &self.entries {
            writer.write(&format!("{name}{SUMS}"), &bytes(entry.sums.iter().copied()))?;
            writer.write(&format!("{name}{COUNTS}"), &bytes(entry.counts.iter().map(|n| *n as f32)))?;
        }
        writer.finish()
    }
}

fn bytes(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    numbers.flat_map(f32::to_le_bytes).collect()
}

fn from_gguf(file: &Gguf) -> Result<Imatrix, Problem> {
    let keys = file.metadata();
    if keys.find::<&str>(TYPE)? != Some("imatrix") {
        return Err(Problem::OtherKind);
    }
    let mut entries = BTreeMap::new();
    for tensor in file.tensors() {
        let other = match (tensor.name.strip_suffix(SUMS), tensor.name.strip_suffix(COUNTS)) {
            (Some(name), _) => {
                let counts = numbers(file, &format!("{name}{COUNTS}"))?;
                let entry = Entry { sums: numbers(file, &tensor.name)?, counts: whole(name, &counts)? };
                entries.insert(name.to_owned(), entry);
                continue;
            }
            (None, Some(name)) => format!("{name}{SUMS}"),
            (None, None) => return Err(Problem::Stray { tensor: tensor.name.clone() }),
        };
        if file.get(&other).is_none() {
            return Err(Problem::Missing { tensor: other });
        }
    }
    let datasets = keys.need::<&[String]>(DATASETS)?.to_vec();
    Ok(Imatrix { entries, datasets, chunks: keys.need(CHUNK_COUNT)?, chunk_size: keys.need(CHUNK_SIZE)? })
}

fn numbers(file: &Gguf, name: &str) -> Result<Vec<f32>, Problem> {
    let tensor = file.get(name).ok_or_else(|| Problem::Missing { tensor: name.to_owned() })?;
    if tensor.ty != GgufType::F32 {
        return Err(Problem::Type { tensor: name.to_owned(), ty: tensor.ty });
    }
    let (numbers, _) = file.bytes(name).unwrap_or_default().as_chunks();
    Ok(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Counts are stored as floats.
fn whole(tensor: &str, counts: &[f32]) -> Result<Vec<u64>, Problem> {
    let whole = |(matrix, count): (usize, &f32)| match count.is_finite() && *count >= 0.0 {
        true => Ok(count.round() as u64),
        false => Err(Problem::Count { tensor: tensor.to_owned(), matrix, count: *count }),
    };
    counts.iter().enumerate().map(whole).collect()
}
