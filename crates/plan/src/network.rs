//! What happened to a network: steps, layers, and how far its outputs moved.

use crate::{Accuracy, Counters, Energy, Fusion, Note};
use serde::{Deserialize, Serialize};

/// A network before, between and after the steps of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkEntry {
    /// The source.
    pub before: Counters,
    /// The artifact, reopened.
    pub after: Counters,
    /// The steps, in order.
    pub steps: Vec<StepEntry>,
    /// Every node that multiplies, in running order.
    pub layers: Vec<LayerEntry>,
    /// Source and artifact on the same inputs; `None` where an op is not understood, so that nothing runs.
    pub difference: Option<Difference>,
    /// On what was held out, beside the source; `None` where nothing was.
    #[serde(default)]
    pub accuracy: Option<Accuracy>,
    /// Energy of one sample; `None` where nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
    /// What onnxruntime makes of the artifact; `None` where nothing is rounded to a grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion: Option<Fusion>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEntry {
    /// Its name in recipes.
    pub name: String,
    /// What the network costs after it.
    pub after: Counters,
    /// What a reader must know.
    pub notes: Vec<Note>,
    /// What was measured, in order: a name and a value.
    pub figures: Vec<(String, f64)>,
    /// Prune groups, where it took channels out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupEntry>,
    /// Values, where it put them on grids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeEntry>,
    /// What each layer costs when it alone is rounded, where that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitivity: Vec<SensitivityEntry>,
    /// How long it took.
    pub seconds: f64,
}

/// A prune group: channels among which was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// The first weight that makes the channels.
    pub name: String,
    /// What it is made of; groups of one kind are alike.
    pub kind: String,
    /// Channels before.
    pub before: usize,
    /// Channels after.
    pub after: usize,
    /// How far the output moves when a quarter, a half and three quarters go, relative to its norm; empty where nobody asked.
    pub moved: Vec<f64>,
}

/// What a value was on the samples, and what its grid keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangeEntry {
    /// The value.
    pub value: String,
    /// The least and the greatest number that was seen, zero between them.
    pub seen: [f32; 2],
    /// The least and the greatest number of the grid.
    pub kept: [f32; 2],
    /// Numbers in equal parts of what was seen, zeros left out.
    pub counts: Vec<u64>,
    /// Share of zeros.
    pub zeros: f64,
}

/// What a layer costs when its weights and what it reads are rounded, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityEntry {
    /// The node.
    pub node: String,
    /// By codes of the weights: `‖ŷ − y‖ / ‖y‖` of the network's outputs.
    pub moved: Vec<(String, f64)>,
}

/// A node that multiplies: before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerEntry {
    /// The node.
    pub node: String,
    /// Its op.
    pub op: String,
    /// Shape of its first weight in the source.
    pub before: Vec<usize>,
    /// The same in the artifact.
    pub after: Vec<usize>,
    /// Multiply–accumulates of one sample in the source.
    pub macs_before: u64,
    /// The same in the artifact.
    pub macs_after: u64,
    /// Seconds of one sample in the source and in the artifact, as this program runs them here; `None` where nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<[f64; 2]>,
}

/// Outputs of two networks on the same inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What the inputs are: `random, seed 0`, or the name of a data set.
    pub on: String,
    /// Samples.
    pub samples: usize,
    /// For each output of the graph.
    pub outputs: Vec<OutputDifference>,
    /// The artifact against the compressed network before it was written: `max |a − b| / max |b|` over all outputs.
    pub written: f64,
}

/// One output of two networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputDifference {
    /// Its name.
    pub name: String,
    /// `‖artifact − source‖ / ‖source‖` (Frobenius norms).
    pub relative: f64,
    /// Share of rows (last axis) whose largest number is at the same place.
    pub top1: f64,
}
