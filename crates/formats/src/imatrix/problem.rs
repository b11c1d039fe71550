//! What can be wrong with an imatrix file.

use crate::InFile;
use crate::gguf::{self, GgufType};
use std::io;

/// A problem, and the file that has it.
pub type Error = InFile<Problem>;

const AGAIN: &str = "make it again with `tinier imatrix` or llama-imatrix";

/// What is wrong with an imatrix file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("cannot read")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Gguf(#[from] gguf::Problem),
    #[error("is a GGUF file, but not an imatrix; give one that `tinier imatrix` or llama-imatrix wrote")]
    OtherKind,
    #[error("ends at byte {at} inside {what}; it is cut short, or no imatrix: {AGAIN}")]
    Truncated { at: usize, what: &'static str },
    #[error("claims {value} {what} at byte {at}; it is damaged, or no imatrix: {AGAIN}")]
    Legacy { at: usize, what: &'static str, value: i32 },
    #[error("a name at byte {at} is not UTF-8; it is damaged, or no imatrix: {AGAIN}")]
    Utf8 { at: usize },
    #[error("names `{tensor}` twice; {AGAIN}")]
    Duplicate { tensor: String },
    #[error("holds nothing; {AGAIN}")]
    Empty,
    #[error("lacks `{tensor}`; {AGAIN}")]
    Missing { tensor: String },
    #[error("holds `{tensor}`, which is neither sums nor counts; {AGAIN}")]
    Stray { tensor: String },
    #[error("`{tensor}` has type {ty}, not f32; {AGAIN}")]
    Type { tensor: String, ty: GgufType },
    #[error("`{tensor}` has {sums} sums for {counts} counts; {AGAIN}")]
    Sizes { tensor: String, sums: usize, counts: usize },
    #[error("`{tensor}`, matrix {matrix}: the count is {count}; {AGAIN}")]
    Count { tensor: String, matrix: usize, count: f32 },
    #[error("`{tensor}`, column {column}: a sum of squares is {value}; the model gave that for the text, {AGAIN}")]
    Number { tensor: String, column: usize, value: f32 },
}
