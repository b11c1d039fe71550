//! What can be wrong with a safetensors file or its index.

use crate::InFile;
use std::io;

/// A problem, and the file that has it.
pub type Error = InFile<Problem>;

const DAMAGED: &str = "the file is damaged, download or convert it again";

/// What is wrong with a safetensors file, its index or its folder.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("cannot read")]
    Io(#[source] io::Error),
    #[error(
        "holds neither model.safetensors nor model.safetensors.index.json; give a model folder in safetensors form"
    )]
    NoModel,
    #[error("ends after {len} bytes, inside the header; {DAMAGED}")]
    Truncated { len: usize },
    #[error("claims a header of {claimed} bytes, but has {available} (and at most 100 MB are read); {DAMAGED}")]
    HeaderLength { claimed: u64, available: usize },
    #[error("header is not valid: {0}; {DAMAGED}")]
    Json(serde_json::Error),
    #[error(
        "tensor `{tensor}` has the unknown type `{dtype}`; known are F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I8 … U64, BOOL"
    )]
    Dtype { tensor: String, dtype: String },
    #[error("tensor `{tensor}`: the product of its shape {shape:?} is too large; {DAMAGED}")]
    Overflow { tensor: String, shape: Vec<usize> },
    #[error("tensor `{tensor}` needs {expected} bytes, its offsets give {got}; {DAMAGED}")]
    Size { tensor: String, expected: usize, got: usize },
    #[error(
        "tensor `{tensor}` has offsets {begin}..{end}, but the data has {len} bytes; the file is cut short or damaged, download it again"
    )]
    Beyond { tensor: String, begin: usize, end: usize, len: usize },
    #[error("tensor `{tensor}` overlaps `{other}`; {DAMAGED}")]
    Overlap { tensor: String, other: String },
    #[error("{bytes} bytes before tensor `{tensor}` belong to nothing; {DAMAGED}")]
    Hole { tensor: String, bytes: usize },
    #[error("{bytes} bytes after the last tensor belong to nothing; {DAMAGED}")]
    Trailing { bytes: usize },
    #[error("tensor `{tensor}` appears twice; remove one of the two")]
    Duplicate { tensor: String },
    #[error("index of {len} bytes is too large (at most 100 MB are read)")]
    IndexSize { len: u64 },
    #[error("puts tensor `{tensor}` into `{shard}`, which is not a plain file name in the same folder; refused")]
    ShardPath { tensor: String, shard: String },
    #[error("names the shard `{shard}`, which is not there; download it")]
    ShardMissing { shard: String },
    #[error(
        "puts tensor `{tensor}` into `{shard}`, which does not have it; index and shards are of different models, download both again"
    )]
    NotInShard { tensor: String, shard: String },
}
