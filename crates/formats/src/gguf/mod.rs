//! GGUF: llama.cpp's model file, version 3 (2 is read too), little endian.
//!
//! ```text
//! "GGUF" · u32 version · u64 tensor count · u64 key count · keys · tensor infos · zeros up to the alignment · data
//! key    = string, u32 value type, value          string = u64 length, bytes       array = u32 type, u64 count, values
//! info   = string, u32 dimensions, u64 each (innermost first), u32 tensor type, u64 offset from the start of the data
//! ```
//!
//! Every tensor starts at a multiple of `general.alignment` (32 if absent). A model may be split into files named
//! `…-00001-of-000NN.gguf`; the first holds the keys, all hold `split.no`, `split.count` and `split.tensors.count`.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod metadata;
mod parse;
mod problem;
mod types;
mod writer;

pub use metadata::{Array, FromValue, Metadata, Value};
pub use parse::{Header, parse};
pub use problem::{Error, Problem};
pub use types::GgufType;
pub use writer::{TensorSpec, Writer};

use crate::{InFile, Mapped};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Alignment where `general.alignment` is absent, in bytes.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// What a file says about a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Outermost dimension first (the file has them reversed); empty for a scalar.
    pub shape: Vec<usize>,
    /// How its numbers lie in bytes.
    pub ty: GgufType,
    /// Where its bytes are, from the start of the file; empty where the type is unknown, and so its length.
    pub range: Range<usize>,
    /// Which file of [`Gguf::files`] has it.
    pub file: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The encoding that decodes the tensor; an error that names tensor and type where there is none.
    pub fn encoding(&self) -> Result<codec::Encoding, Problem> {
        self.ty.encoding().ok_or_else(|| Problem::Type { tensor: self.name.clone(), ty: self.ty })
    }
}

/// A GGUF model: one file or all files of a split. Mapped: only headers are read until bytes are asked for.
#[derive(Debug)]
pub struct Gguf {
    files: Vec<Mapped>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Opens a file; any file of a split opens all of them.
    pub fn open(path: &Path) -> Result<Gguf, Error> {
        let mut all = Gguf { files: vec![], metadata: Metadata::default(), tensors: vec![], by_name: HashMap::new() };
        let paths = siblings(path)?;
        for path in &paths {
            all.add(path, paths.len()).map_err(InFile::at(path))?;
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, count: usize) -> Result<(), Problem> {
        let mapped = Mapped::open(path).map_err(Problem::Io)?;
        let header = parse(&mapped)?;
        let file = self.files.len();
        if count > 1 {
            check_split(&header.metadata, file, count)?;
        } else if header.metadata.find::<u64>("split.count")?.is_some_and(|n| n > 1) {
            return Err(Problem::SplitName);
        }
        for tensor in header.tensors {
            if self.by_name.insert(tensor.name.clone(), self.tensors.len()).is_some() {
                return Err(Problem::Duplicate { tensor: tensor.name });
            }
            self.tensors.push(TensorInfo { file, ..tensor });
        }
        if file == 0 {
            self.metadata = header.metadata;
        }
        self.files.push(mapped);
        Ok(())
    }

    /// The keys (of the first file, where split).
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every tensor, file by file, in the order of the infos.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The files, in order.
    pub fn files(&self) -> &[Mapped] {
        &self.files
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.by_name.get(name)?)
    }

    /// The file that holds a tensor of this model.
    pub fn file(&self, tensor: &TensorInfo) -> &Path {
        self.files.get(tensor.file).map_or(Path::new(""), Mapped::path)
    }

    /// A tensor's bytes, without a copy; empty where its type is unknown.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let tensor = self.get(name)?;
        self.files.get(tensor.file)?.get(tensor.range.clone())
    }
}

/// The file of one part of a split.
fn split_name(stem: &str, part: usize, count: usize) -> String {
    format!("{stem}-{part:05}-of-{count:05}.gguf")
}

/// The files that make up the model that `path` is one file of.
fn siblings(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let name = path.file_name().and_then(|n| n.to_str());
    let Some((stem, count)) = name.and_then(split_of) else { return Ok(vec![path.to_owned()]) };
    let mut paths = Vec::new();
    for part in 1..=count {
        let sibling = path.with_file_name(split_name(stem, part, count));
        if !sibling.exists() {
            let name = split_name(stem, part, count);
            return Err(InFile { file: path.to_owned(), problem: Problem::PartMissing { name, part, count } });
        }
        paths.push(sibling);
    }
    Ok(paths)
}

/// The stem and the count in `stem-00001-of-00003.gguf`.
fn split_of(name: &str) -> Option<(&str, usize)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let number = |s: &str| (s.len() == 5).then(|| s.parse::<usize>().ok()).flatten();
    let (part, count) = (number(part)?, number(count)?);
    (1 <= part && part <= count).then_some((stem, count))
}

/// Checks that a file is the part that its name says.
fn check_split(metadata: &Metadata, part: usize, count: usize) -> Result<(), Problem> {
    let (no, of) = (metadata.need::<u64>("split.no")?, metadata.need::<u64>("split.count")?);
    if (no, of) == (part as u64, count as u64) {
        Ok(())
    } else {
        Err(Problem::PartOrder { no, of, part: part as u64, count: count as u64 })
    }
}
