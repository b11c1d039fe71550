//! safetensors: named tensors in one file, or in several under an index.
//!
//! ```text
//! u64 header length n (little endian) · n bytes of JSON · data
//! {"__metadata__": {"format": "pt"}, "name": {"dtype": "BF16", "shape": [out, in], "data_offsets": [begin, end]}, …}
//! ```
//!
//! Offsets count from the start of the data; tensors cover the data without overlap and without holes. A large model
//! is a folder of such files with `model.safetensors.index.json`: `{"metadata": {…}, "weight_map": {"name": "file"}}`.
//!
//! Source: the format's own description, <https://github.com/huggingface/safetensors>.

mod header;
mod index;
mod problem;
mod writer;

pub use header::{Header, MAX_HEADER, parse};
pub use index::shards;
pub use problem::{Error, Problem};
pub use writer::{TensorSpec, Writer};

use crate::{InFile, Mapped};
use codec::Dtype;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

/// The single file of a model folder.
pub const SINGLE: &str = "model.safetensors";
/// The index of a model folder that holds several files.
pub const INDEX: &str = "model.safetensors.index.json";

/// What the header says about a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, as the checkpoint spells it.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Outermost dimension first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where its bytes are, from the start of the file.
    pub range: Range<usize>,
    /// Which file of [`Safetensors::files`] has it.
    pub file: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.range.len() / self.dtype.bytes()
    }
}

/// The tensors of a file, or of a folder's files. Mapped: only headers are read until bytes are asked for.
#[derive(Debug)]
pub struct Safetensors {
    files: Vec<Mapped>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl Safetensors {
    /// Opens a file, an index, or a folder that holds [`SINGLE`] or else [`INDEX`].
    pub fn open(path: &Path) -> Result<Safetensors, Error> {
        if path.is_dir() {
            let (single, index) = (path.join(SINGLE), path.join(INDEX));
            match (single.exists(), index.exists()) {
                (true, _) => Self::open_files(&[single]),
                (false, true) => Self::open_index(&index),
                (false, false) => Err(InFile { file: path.to_owned(), problem: Problem::NoModel }),
            }
        } else if path.extension().is_some_and(|e| e == "json") {
            Self::open_index(path)
        } else {
            Self::open_files(&[path.to_owned()])
        }
    }

    fn open_files(paths: &[std::path::PathBuf]) -> Result<Safetensors, Error> {
        let mut all =
            Safetensors { files: vec![], tensors: vec![], by_name: HashMap::new(), metadata: BTreeMap::new() };
        for path in paths {
            all.add(path)?;
        }
        Ok(all)
    }

    fn open_index(path: &Path) -> Result<Safetensors, Error> {
        let map = index::read(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut names: Vec<&String> = map.values().collect();
        names.sort();
        names.dedup();
        if let Some(file) = names.iter().find(|n| !folder.join(n).exists()) {
            return Err(InFile { file: path.to_owned(), problem: Problem::ShardMissing { shard: file.to_string() } });
        }
        let all = Self::open_files(&names.into_iter().map(|n| folder.join(n)).collect::<Vec<_>>())?;
        for (tensor, shard) in map {
            let found = all.get(&tensor).map(|t| all.file(t));
            if found.and_then(Path::file_name) != Some(shard.as_ref()) {
                return Err(InFile { file: path.to_owned(), problem: Problem::NotInShard { tensor, shard } });
            }
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let at = InFile::at(path);
        let mapped = Mapped::open(path).map_err(|e| at(Problem::Io(e)))?;
        let header = parse(&mapped).map_err(&at)?;
        let file = self.files.len();
        for tensor in header.tensors {
            if self.by_name.insert(tensor.name.clone(), self.tensors.len()).is_some() {
                return Err(at(Problem::Duplicate { tensor: tensor.name }));
            }
            self.tensors.push(TensorInfo { file, ..tensor });
        }
        self.metadata.extend(header.metadata);
        self.files.push(mapped);
        Ok(())
    }

    /// Every tensor, file by file, in the order of their bytes.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> &[Mapped] {
        &self.files
    }

    /// What `__metadata__` holds.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.by_name.get(name)?)
    }

    /// The file that holds a tensor of this model.
    pub fn file(&self, tensor: &TensorInfo) -> &Path {
        self.files.get(tensor.file).map_or(Path::new(""), Mapped::path)
    }

    /// A tensor's bytes, without a copy. Nothing promises alignment.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let tensor = self.get(name)?;
        self.files.get(tensor.file)?.get(tensor.range.clone())
    }
}
