//! What can be wrong with a config file.

use crate::InFile;
use std::io;

/// A problem, and the file that has it.
pub type Error = InFile<Problem>;

/// What is wrong with a config file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("cannot read")]
    Io(#[source] io::Error),
    #[error("has {len} bytes, at most {max} are read; this is not a model's config")]
    Size { len: u64, max: u64 },
    #[error("is not valid JSON: {0}; download the file again")]
    Json(serde_json::Error),
    #[error("is not a JSON object; download the file again")]
    NotAnObject,
    #[error("key `{key}` is missing; add it, or download the file again")]
    Missing { key: String },
    #[error("key `{key}` is {got}, expected {expected}")]
    Type { key: String, expected: &'static str, got: String },
    #[error("key `{key}` is `{got}`; supported: {supported}")]
    Unsupported { key: String, got: String, supported: &'static str },
    #[error("keys `{a}` and `{b}` contradict each other; remove one")]
    Contradiction { a: String, b: String },
    #[error("key `{key}` does not describe a quantization of compressed-tensors: {source}")]
    Quantization { key: String, source: serde_json::Error },
}
