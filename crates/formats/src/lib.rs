//! File formats: safetensors, GGUF, ONNX, Hugging Face configs. Parse and write; bytes are hostile; knows no graph.
//!
//! Every reader maps its file and parses only the header, so opening costs no more than the list of tensors. Every
//! length and count read from a file is checked against the file's size before anything is allocated. Every writer
//! goes through [`atomic`]: a temporary name beside the target, sync, rename.

pub mod atomic;
mod error;
pub mod gguf;
pub mod hf;
pub mod images;
pub mod imatrix;
mod mapped;
pub mod memory;
pub mod onnx;
pub mod safetensors;
mod shape;
mod stream;

pub use error::InFile;
pub use mapped::Mapped;
