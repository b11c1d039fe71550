//! What can go wrong when a graph runs.

use graph::SourceError;

/// Why a graph did not run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("node `{node}`: {source}")]
    Weight { node: String, source: SourceError },
    #[error("weight `{weight}`: element {index} is {value}; a model with such weights computes nothing")]
    NotFinite { weight: String, index: usize, value: f32 },
    #[error("token id {id} ≥ vocabulary {vocab} (node `{node}`)")]
    Token { node: String, id: u32, vocab: usize },
    #[error("{got} numbers do not fill the shape {shape:?}")]
    Shape { shape: Vec<usize>, got: usize },
    #[error("value `{value}`: got shape {got:?}, expected {expected:?}")]
    Value { value: String, got: Vec<usize>, expected: Vec<usize> },
    #[error("value `{value}` is needed and was not given")]
    Missing { value: String },
    #[error("node `{node}`: input {input} holds {got}, expected {expected}")]
    Kind { node: String, input: usize, got: &'static str, expected: &'static str },
    #[error("node `{node}` cannot be run: {reason}")]
    Unrunnable { node: String, reason: String },
    #[error("nodes {start}..{end} of a graph with {nodes} nodes")]
    Range { start: usize, end: usize, nodes: usize },
    #[error("`{what}` has a dimension of zero")]
    Empty { what: String },
    #[error("rows {start}..{end} of {rows}")]
    Rows { start: usize, end: usize, rows: usize },
    #[error("weight `{weight}`: its shape changed from {old:?} to {new:?}; that takes a new executor")]
    Reshaped { weight: String, old: Vec<usize>, new: Vec<usize> },
    #[error("a graph with {inputs} inputs and {outputs} outputs computes nothing")]
    NoEnds { inputs: usize, outputs: usize },
    #[error("a language model has one input, of token ids, and one output; this graph has {inputs} and {outputs}")]
    NotALanguageModel { inputs: usize, outputs: usize },
    #[error("{got} inputs for a graph with {expected}")]
    Inputs { got: usize, expected: usize },
    #[error("a network with one input of numbers is needed, of fixed lengths but for the batch: {why}")]
    Intake { why: String },
    #[error("sample {index}: {source}")]
    Sample { index: usize, source: crate::SampleError },
    #[error("value `{value}`: {got} samples, another value of the same run has another number")]
    Batches { value: String, got: usize },
    #[error("{targets} targets for {tokens} tokens")]
    Targets { targets: usize, tokens: usize },
    #[error("weight `{weight}` is held in bf16; gradients need `Compute::F32`")]
    Half { weight: String },
    #[error("the cache holds {batch} sequences, the batch has {got}")]
    CacheBatch { batch: usize, got: usize },
    #[error("{past} cached and {new} new tokens exceed the cache's capacity of {capacity}")]
    CacheFull { past: usize, new: usize, capacity: usize },
    #[error("the logits of the next token are not numbers")]
    Logits,
    #[error("sampling needs a temperature above zero, got {0}; greedy decoding takes none")]
    Temperature(f64),
    #[error("a prompt needs at least one token")]
    EmptyPrompt,
}
