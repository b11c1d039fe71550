//! What happened, measured: the third of the three values, beside the model and the plan.

use crate::measure::{Comparison, Machine};
use crate::{Method, NetworkEntry};
use codec::Encoding;
use serde::{Deserialize, Serialize};

/// What a run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// From what, by what, where.
    pub provenance: Provenance,
    /// What methods learned from, where any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibratedOn>,
    /// Every weight of the artifact, in the order of the plan.
    pub tensors: Vec<TensorEntry>,
    /// What a reader of the report must know: every fallback, everything left as it was.
    pub notes: Vec<Note>,
    /// The parts of the run, in order.
    pub stages: Vec<Stage>,
    /// Bytes of the artifact's files.
    pub size: Versus,
    /// Peak resident bytes of the process.
    pub memory: Versus,
    /// Seconds.
    pub seconds: Versus,
    /// The artifact reopened and measured.
    pub proof: Proof,
    /// What became of a network, where the model is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkEntry>,
}

/// From what, by what, where a run was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// `tinier 0.1.0`.
    pub tool: String,
    /// The files that the source consists of.
    pub source: Vec<FileHash>,
    /// The recipe, as TOML.
    pub recipe: String,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// Where.
    pub machine: Machine,
}

/// Text that methods learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibratedOn {
    /// Where it is from.
    pub name: String,
    /// Windows of it.
    pub windows: usize,
    /// Tokens of a window.
    pub length: usize,
    /// What the choice of the windows was worth, where `calibrate-data` chose them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<ChosenText>,
}

/// Words of chosen windows, beside those of windows that were not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenText {
    /// Share of the different words of the rest of the texts that were chosen somewhere.
    pub words: f64,
    /// The same of as many random windows, seed by seed.
    pub random: Vec<f64>,
}

/// How the codes of a weight were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitted {
    /// By which method, in the end: not always the one that was asked for.
    pub method: Method,
    /// Rows of calibration text that reached it.
    pub tokens: u64,
}

/// A file, and what was in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Name within the model's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its contents, in hexadecimal.
    pub sha256: String,
}

/// What became of one weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// Its name in the source.
    pub name: String,
    /// How it now lies in bytes.
    #[serde(with = "crate::names::serde_encoding")]
    pub encoding: Encoding,
    /// Its bytes in the artifact.
    pub bytes: u64,
    /// `‖Q − W‖ / ‖W‖` of the weight read back from the artifact (Frobenius norms); 0 for all-zero weights.
    pub relative_error: f64,
    /// How its codes were chosen, where calibration text had a say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted: Option<Fitted>,
}

/// Something a reader must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The weight it is about, if it is about one.
    pub weight: Option<String>,
    /// What happened.
    pub what: String,
}

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// A prediction beside its measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// What the plan said.
    pub predicted: f64,
    /// What came; `None` where the system does not say.
    pub measured: Option<f64>,
}

/// The artifact reopened: what was checked, and what was measured from the written bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Every check that passed.
    pub checks: Vec<Check>,
    /// Bits per weight: the files' bytes over the parameters.
    pub bpw: f64,
    /// Bytes of the artifact's files.
    pub bytes: u64,
    /// The artifact against its source; `None` where the architecture is unknown, or no text was given.
    pub quality: Option<Comparison>,
    /// The bounds that the quality was held to, and what it was measured on.
    pub asked: crate::ProofSpec,
}

/// A check that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Over how much: `75 tensors`.
    pub over: String,
}
