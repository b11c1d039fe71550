//! Files to graph: Hugging Face folders and GGUF files, one decoder builder for every family; ONNX files, node by node.
//!
//! [`open`] maps a model, reads its config, finds every weight that the config calls for, and builds the graph. It
//! collects every problem, then fails. Weights stay in their files until they are read.
//!
//! ```text
//! config.json ─┐                     ┌─ names ─ load ─┐
//!              ├─ arch/<family> ─ DecoderConfig       ├─ Model
//! GGUF keys ───┘  (one reading)      └─ decoder ──────┘
//! ```

pub mod arch;
mod compressed_tensors;
mod decoder;
mod error;
mod finite;
mod gguf;
mod hf;
pub mod hub;
mod keys;
mod load;
mod names;
pub mod onnx;
mod rope;
pub mod running;
mod stored;
pub mod tokenizer;
mod transposed;

pub use arch::Arch;
pub use decoder::{build, places};
pub use error::{ImportError, Problem};
pub use finite::check_finite;
pub use hf::{Parsed, parse_config};

use formats::gguf::Metadata;
use graph::Model;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizer::{Tokenizer, TokenizerError};

/// The container that a model came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder with `config.json` and safetensors.
    HuggingFace,
    /// One GGUF file, or all files of a split.
    Gguf,
    /// One ONNX file, with the files of its external data.
    Onnx,
}

/// An opened model.
#[derive(Clone)]
pub struct Imported {
    /// Its graph and weights.
    pub model: Model,
    /// The container that it came in.
    pub kind: Kind,
    /// What was opened.
    pub path: PathBuf,
    /// Its family, where that is known.
    pub arch: Option<&'static Arch>,
    /// `config.json`, or what GGUF metadata say in that form.
    pub config: Map<String, Value>,
    /// The keys of a GGUF file.
    pub metadata: Option<Metadata>,
    /// The files with its weights.
    pub files: Vec<PathBuf>,
    /// Files beside the weights that an artifact should carry over: tokenizer, generation settings, licence, ….
    pub extras: Vec<PathBuf>,
    /// Weights given as numbers although the files hold them packed: their groups are scattered over the columns.
    pub scattered: Vec<String>,
    /// What a user should know: tensors left out, limits of what is run.
    pub notes: Vec<String>,
    /// Where everything stands in an ONNX file.
    pub network: Option<Arc<onnx::Network>>,
}

impl Imported {
    /// Reads its tokenizer, which may take longer than opening the model.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        match &self.metadata {
            Some(keys) => Tokenizer::from_gguf(&self.path, keys),
            None => Tokenizer::from_folder(&self.path),
        }
    }
}

/// Opens a model folder, a `.gguf` file (any file of a split) or an `.onnx` file.
pub fn open(path: &Path) -> Result<Imported, ImportError> {
    if path.is_dir() {
        return hf::open(path);
    }
    if !path.exists() {
        return Err(ImportError::one(path, Problem::NotFound(path.to_owned())));
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) || starts_like_gguf(path) {
        return gguf::open(path);
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return onnx::open(path);
    }
    Err(ImportError::one(path, Problem::NotAModel(path.to_owned())))
}

fn starts_like_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"GGUF"
}
