//! What can be wrong with a GGUF file.

use super::GgufType;
use crate::InFile;
use std::io;

/// A problem, and the file that has it.
pub type Error = InFile<Problem>;

const DAMAGED: &str = "the file is damaged, download or convert it again";

/// What is wrong with a GGUF file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("cannot read")]
    Io(#[source] io::Error),
    #[error("does not start with GGUF; give a .gguf file")]
    Magic,
    #[error("is GGUF version {version}; versions 2 and 3, little endian, are read: convert it with current llama.cpp")]
    Version { version: u32 },
    #[error("ends at byte {at} inside {what}; the file is cut short or damaged, download it again")]
    Truncated { at: usize, what: &'static str },
    #[error("claims {count} {what}, more than the rest of the file can hold ({rest} bytes); {DAMAGED}")]
    Count { what: &'static str, count: u64, rest: usize },
    #[error("{what} at byte {at} is not UTF-8; {DAMAGED}")]
    Utf8 { what: &'static str, at: usize },
    #[error("key `{key}` has the unknown value type {ty}; {DAMAGED}")]
    ValueType { key: String, ty: u32 },
    #[error("key `{key}` nests arrays more than {limit} deep; {DAMAGED}")]
    Depth { key: String, limit: usize },
    #[error("key `{key}` appears twice; {DAMAGED}")]
    DuplicateKey { key: String },
    #[error("key `{key}` is missing; convert the model again with current llama.cpp")]
    MissingKey { key: String },
    #[error("key `{key}` is {got}, expected {expected}")]
    KeyType { key: String, expected: &'static str, got: &'static str },
    #[error("`general.alignment` is {0}, not a power of two up to 65536; {DAMAGED}")]
    Alignment(u64),
    #[error("tensor `{tensor}` has {dims} dimensions, at most 4 are allowed; {DAMAGED}")]
    Dimensions { tensor: String, dims: u32 },
    #[error("tensor `{tensor}`: the product of its shape {shape:?} is too large; {DAMAGED}")]
    Overflow { tensor: String, shape: Vec<u64> },
    #[error(
        "tensor `{tensor}` has type {ty}, which cannot be decoded; convert the model from a source in another type"
    )]
    Type { tensor: String, ty: GgufType },
    #[error("tensor `{tensor}` has rows of {cols} numbers, type {ty} needs multiples of {multiple}; {DAMAGED}")]
    Columns { tensor: String, ty: GgufType, cols: usize, multiple: usize },
    #[error("tensor `{tensor}` has offset {offset}, which is not a multiple of the alignment {alignment}; {DAMAGED}")]
    Unaligned { tensor: String, offset: u64, alignment: usize },
    #[error(
        "tensor `{tensor}` has bytes {offset}+{bytes}, but the data has {len}; the file is cut short or damaged, download it again"
    )]
    Beyond { tensor: String, offset: u64, bytes: usize, len: usize },
    #[error("tensor `{tensor}` overlaps `{other}`; {DAMAGED}")]
    Overlap { tensor: String, other: String },
    #[error("tensor `{tensor}` appears twice; {DAMAGED}")]
    Duplicate { tensor: String },
    #[error("part {part} of {count}, `{name}`, is not there; download it")]
    PartMissing { name: String, part: usize, count: usize },
    #[error("is one file of a split, but its name does not end in -00001-of-000NN.gguf; give it its original name")]
    SplitName,
    #[error(
        "says it is part {no} of {of} (from 0), its name says {part} of {count}; give the files their original names"
    )]
    PartOrder { no: u64, of: u64, part: u64, count: u64 },
}
