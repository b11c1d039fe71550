//! Graph to files: GGUF; folders as compressed-tensors, GPTQ, AWQ; plain safetensors. Networks go back into ONNX files.
//!
//! A writer takes the model as it is: every weight has its encoding, and one that is encoded lazily is encoded while it
//! is written, a few rows at a time. Files appear complete or not at all ([`formats::atomic`]).

pub mod compressed_tensors;
mod error;
mod folder;
pub mod gguf;
pub mod onnx;
mod stream;
pub mod transposed;

pub use error::ExportError;

use std::path::PathBuf;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// Tensors in them.
    pub tensors: usize,
    /// Bytes of tensors.
    pub bytes: u64,
    /// What a user should know: where the runtime will differ from the model, what was left out.
    pub notes: Vec<String>,
}

/// Hears how many bytes of tensors were written so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);
