//! Why a model could not be written.

use codec::Encoding;
use codec::packed::{RepackError, TransposedError};
use formats::atomic::WriteError;
use graph::SourceError;
use import::tokenizer::TokenizerError;
use std::io;
use std::path::PathBuf;

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ExportError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(
        "GGUF needs an architecture that llama.cpp runs, and this model has none that is known here ({reason}); write safetensors or compressed-tensors"
    )]
    UnknownArchitecture { reason: String },
    #[error("llama.cpp cannot run this model: {}; write safetensors or compressed-tensors", problems.join("; "))]
    NotInLlamaCpp { problems: Vec<String> },
    #[error("weight `{weight}`: {container} has no place for {encoding}; choose another encoding or another format")]
    Encoding { weight: String, encoding: Encoding, container: &'static str },
    #[error(
        "weight `{weight}`: {container} keeps the experts of a layer in one tensor, and this one has another encoding or shape; give all the same"
    )]
    Experts { weight: String, container: &'static str },
    #[error("weight `{weight}`: {source}")]
    Repack { weight: String, source: RepackError },
    #[error("weight `{weight}` does not fit {container}: {source}")]
    Transposed { weight: String, container: &'static str, source: TransposedError },
    #[error(
        "weight `{weight}` is {encoding}, others are not: {container} has one group size; write GPTQ or compressed-tensors"
    )]
    OneGroup { weight: String, encoding: Encoding, container: &'static str },
    #[error(
        "`{tensor}` is {number}: quantized inputs and caches need calibration, which has not been done or met no numbers; calibrate, or take a dynamic scheme"
    )]
    Uncalibrated { tensor: String, number: f32 },
    #[error("the tokenizer has {tokens} tokens, the embedding only {rows} rows; they are of different models")]
    Vocabulary { tokens: usize, rows: usize },
    #[error("{}: cannot be copied into the artifact; check its permissions and the space left", file.display())]
    Copy { file: PathBuf, source: io::Error },
    #[error("cannot be written as ONNX: {why}")]
    Onnx { why: String },
    #[error("what was written does not read back, which is a defect of this program: {why}")]
    ReadBack { why: String },
}
