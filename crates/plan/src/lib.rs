//! Recipe, plan, budgets and journal: data only.
//!
//! Three values carry a run: the [`Recipe`] (what is asked for) is resolved against a model into a [`Plan`] (every
//! decision, with its predicted bytes, memory and time), and carrying that out leaves a [`Journal`] (what was done,
//! measured). What evaluation measures ([`Comparison`], [`Perplexity`], [`Latency`]) is here too, because journals and
//! reports hold it. No I/O.

mod accuracy;
pub mod allocate;
mod arena;
mod cost;
mod counters;
mod energy;
mod fusion;
mod journal;
mod measure;
mod method;
mod mixed;
mod names;
mod network;
mod order;
mod pace;
mod pattern;
mod plan;
pub mod preset;
mod prune;
mod quantize;
mod recipe;
mod resolve;
mod sparse;
mod step;
mod training;
mod transform;
mod units;

pub use accuracy::{Accuracy, Against, SampleConditions, Share};
pub use arena::Arena;
pub use cost::{CostModel, Learning, Prediction, Setting, decoded_bytes, waiting_bytes};
pub use counters::{Counters, macs};
pub use energy::{Energy, EnergyBy, estimated_energy};
pub use fusion::{Conversion, FusedNode, Fusion, Runs, To};
pub use journal::{
    CalibratedOn, Check, ChosenText, FileHash, Fitted, Journal, Note, Proof, Provenance, Stage, TensorEntry, Versus,
};
pub use measure::{Comparison, Conditions, Divergence, Estimate, Latency, Machine, Perplexity, Protocol};
pub use method::{Learns, Method};
pub use mixed::{Candidate, Sensitivity, Spent, Unit, Validation, mixed, units};
pub use names::{UnknownEncoding, encoding, encoding_name, nearest};
pub use network::{
    Difference, GroupEntry, LayerEntry, NetworkEntry, OutputDifference, RangeEntry, SensitivityEntry, StepEntry,
};
pub use order::{Ordered, Ordering};
pub use pace::{Curve, Gradual, Pace, Penalty};
pub use pattern::Pattern;
pub use plan::{ExpertTokens, Plan, PlannedTensor, RoleSummary};
pub use preset::{Preset, UnknownPreset};
pub use prune::{Allocation, Amount, Budget, BudgetError, Criterion, Part, PruneSpec, Resource};
pub use quantize::{Calibrator, QuantizeSpec, Rounding, UnknownCalibrator, levels_name};
pub use recipe::{
    CalibrationSpec, Container, Experts, Goal, KvCache, Mode, Output, ProofSpec, Recipe, RecipeError, Rule, Violation,
};
pub use resolve::{PlanError, resolve};
pub use sparse::{SparseBy, SparseSpec, Zeros, ZerosError};
pub use step::{Step, step_names};
pub use training::{DistillSpec, OptimizerSpec, TrainingSpec};
pub use transform::Transform;
pub use units::{Bpw, Bytes, UnitError};
