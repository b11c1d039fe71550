//! What can be wrong with an ONNX file.

use crate::InFile;
use std::io;

/// A problem, and the file that has it.
pub type Error = InFile<Problem>;

const DAMAGED: &str = "the file is damaged, download or export it again";

/// What is wrong with an ONNX file or its external data.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("cannot read")]
    Io(#[source] io::Error),
    #[error("is not an ONNX model, or is damaged: {0}")]
    Protobuf(#[source] prost::DecodeError),
    #[error("holds no graph; it is not an ONNX model, or {DAMAGED}")]
    NoGraph,
    #[error("names no version of the ONNX operators; {DAMAGED}")]
    NoOpset,
    #[error("{what} is called `{name}` a second time; names must be unique, export the model again")]
    Duplicate { what: &'static str, name: String },
    #[error("node `{node}` reads `{value}`, which nothing makes; {DAMAGED}")]
    Undefined { node: String, value: String },
    #[error("nodes form a cycle through `{node}`; {DAMAGED}")]
    Cycle { node: String },
    #[error("output `{value}` is made by nothing; {DAMAGED}")]
    NoOutput { value: String },
    #[error("tensor `{tensor}` has the unknown element type {number}; a newer program may read it")]
    DataType { tensor: String, number: i32 },
    #[error("tensor `{tensor}` has the impossible shape {dims:?}; {DAMAGED}")]
    Dims { tensor: String, dims: Vec<i64> },
    #[error("tensor `{tensor}` needs {expected} bytes, {got} are there; {DAMAGED}")]
    Size { tensor: String, expected: usize, got: usize },
    #[error("tensor `{tensor}`: {why}; {DAMAGED}")]
    Tensor { tensor: String, why: &'static str },
    #[error("tensor `{tensor}` lies in `{location}`, which is not inside the model's folder; refused")]
    Outside { tensor: String, location: String },
    #[error("tensor `{tensor}` lies in `{location}`, which cannot be read; download it beside the model")]
    External {
        tensor: String,
        location: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "tensor `{tensor}` lies at {offset}, {length} bytes long, in `{location}`, which has {len} bytes; {DAMAGED}"
    )]
    Beyond { tensor: String, location: String, offset: u64, length: u64, len: usize },
    #[error("tensor `{tensor}`: its external {key} `{value}` is no number; {DAMAGED}")]
    ExternalKey { tensor: String, key: &'static str, value: String },
}
