//! Why a run failed.

use crate::contract::ContractError;
use crate::importance::ImportanceError;
use calib::LaneError;
use calib::data::DataError;
use eval::EvalError;
use export::ExportError;
use formats::atomic::WriteError;
use graph::{GraphError, SourceError};
use import::ImportError;
use import::tokenizer::TokenizerError;
use plan::{Bytes, Journal, Plan, PlanError, Violation};
use std::path::PathBuf;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum EngineError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Importance(#[from] ImportanceError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Images(#[from] crate::ImagesError),
    #[error("{}: line {line} is no JSON object with a text `{field}`; name the field with --field", path.display())]
    Line { path: PathBuf, line: usize, field: String },
    #[error("windows of {length} tokens are asked for, the model was made for {context}; ask for shorter ones")]
    WindowTooLong { length: usize, context: usize },
    #[error("text cannot be clustered by what the model makes of it: its architecture is unknown; choose by coverage")]
    CannotCluster,
    #[error("{}: is no selection of `tinier calibrate-data`: {source}", path.display())]
    Selection { path: PathBuf, source: serde_json::Error },
    #[error("the model is not sound {when} the pass `{pass}`: {source}")]
    Unsound { pass: &'static str, when: &'static str, source: GraphError },
    #[error("the pass `{pass}` failed: {source}")]
    Pass { pass: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(transparent)]
    Sequential(#[from] passes::quantize::sequential::SequentialError),
    #[error("the method `{method}` learns from text; give --calibration, or take --method round")]
    NoCalibration { method: plan::Method },
    #[error("the transform `{transform}` learns from text; give --calibration, or leave it out")]
    NoText { transform: plan::Transform },
    #[error(
        "refining begins with codes that were chosen on text; give --calibration, and a method that learns from it"
    )]
    NothingToRefine,
    #[error(
        "scales of {of} are found on text; give --calibration, or take a preset whose scales are found at run time"
    )]
    NoScales { of: &'static str },
    #[error("an artifact of the kind {container} cannot hold the scales of a key-value cache; take compressed-tensors")]
    CacheScales { container: plan::Container },
    #[error("an imatrix says how much columns matter before a transform changes them; give --calibration in its place")]
    ImatrixAndTransforms,
    #[error(
        "an imatrix is of the model before its steps, and says nothing of what they leave; give --calibration in its place"
    )]
    ImatrixAndSteps,
    #[error(transparent)]
    Rotate(#[from] passes::transform::rotate::RotateError),
    #[error(
        "the calibration text {name} holds {most} windows of {length} tokens, {samples} are asked for; give more text, or ask for fewer with --samples"
    )]
    CalibrationTooShort { name: String, samples: usize, length: usize, most: usize },
    #[error("{}: {why}; remove the folder to begin anew", path.display())]
    Checkpoint { path: PathBuf, why: String },
    #[error("{}: the checkpoint is of another run (other model, recipe or text); remove it, or replace it with --force", path.display())]
    OtherCheckpoint { path: PathBuf },
    #[error("{}: a network is written into an ONNX file; end its name in .onnx", path.display())]
    NotOnnx { path: PathBuf },
    #[error("{}: the output needs a name", path.display())]
    NoName { path: PathBuf },
    #[error("{}: the output is the model `{}` itself, or one of them lies in the other; write elsewhere", output.display(), model.display())]
    OutputIsSource { output: PathBuf, model: PathBuf },
    #[error("{}: {needs} are needed, {free} are free; free some, or write elsewhere", path.display())]
    NoSpace { path: PathBuf, needs: Bytes, free: Bytes },
    #[error("the run would need {needs} of memory, {limit} are allowed; allow more, or take fewer threads")]
    Memory { needs: Bytes, limit: Bytes },
    #[error("bounds on quality cannot be checked: {why}")]
    CannotGate { why: String },
    #[error("the model cannot be asked for text to measure on: {why}; give --text")]
    CannotSample { why: &'static str },
    #[error("{}: cannot read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: the artifact is not what its loaders expect: {source}; it was not kept", artifact.display())]
    Contract { artifact: PathBuf, source: ContractError },
    #[error("{}: cannot be opened again: {source}; it was not kept", artifact.display())]
    Reopen { artifact: PathBuf, source: ImportError },
    #[error("{}: run again from the file it is {apart:.1e} apart from the network that was written; it was not kept", artifact.display())]
    Unproven { artifact: PathBuf, apart: f64 },
    #[error("the step `{step}` learns from samples; give them with --data, or leave the step out")]
    NoData { step: &'static str },
    #[error(
        "orders are compared of two steps, recoveries not counted, on held-out samples; there are {steps} steps and {}",
        if *valid { "samples" } else { "no samples" }
    )]
    Order { steps: usize, valid: bool },
    #[error(transparent)]
    Training(#[from] crate::training::TrainingError),
    #[error("the data cannot be read")]
    Samples { source: Box<dyn std::error::Error + Send + Sync> },
    #[error(transparent)]
    Run(#[from] exec::Error),
    #[error("the artifact misses its bounds: {}; it was kept as `{}`", list(violations), rejected.display())]
    Gates { rejected: PathBuf, violations: Vec<Violation>, plan: Box<Plan>, journal: Box<Journal> },
    #[error(
        "weight `{weight}` ({from}) cannot be repacked without changing its numbers: {source}; `tinier compress` \
         quantizes it anew"
    )]
    Inexact { weight: String, from: codec::Encoding, source: codec::packed::RepackError },
    #[error(
        "{count} weights (`{weight}`, …) were quantized in the order of activations (act-order), so their groups are \
         scattered over the columns, which the other container cannot say; `tinier compress` quantizes them anew, \
         --to safetensors gives their numbers"
    )]
    Scattered { weight: String, count: usize },
    #[error("a folder of `{family}` cannot hold what is left: {what}; write gguf, or leave another number")]
    Unsayable { family: String, what: String },
    #[error("cannot start {threads} threads")]
    Threads { threads: usize, source: rayon::ThreadPoolBuildError },
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}
