//! Steps: what is done to a network, in the order in which it is asked for. Language models take `prune` and `sparsify`; a preset, a size
//! or rules beside them then say how what is left is encoded, in the same run.
//!
//! ```toml
//! [[step]]                                      # language models: whole layers; heads and channels; key heads with their queries
//! prune = { layers = 0.75 }                     # or a count: layers = 6; needs calibration text
//!
//! [[step]]
//! prune = { experts = 0.5 }                     # of each layer; by = "reap" needs calibration text, "l2" none
//!
//! [[step]]
//! prune = { channels = 0.5, only = ["attn_k"] }  # ["attn_q"]: queries alone; ["ffn_gate"]: feed-forward channels
//!
//! [[step]]
//! prune = { macs = 0.5, by = "taylor", across = "isomorphic", multiple = 8 }
//!
//! [[step]]
//! prune = { macs = 0.4, gradual = { rounds = 4, recover = { epochs = 1 } } }
//!
//! [[step]]
//! sparsify = { zeros = "2:4", by = "magnitude" }
//!
//! [[step]]
//! sparsify = { zeros = 0.9, by = "movement", recover = { epochs = 3, rate = 0.01 } }
//!
//! [[step]]
//! recover = { epochs = 3, rate = 0.01, flip = true, crop = 4, distill = { share = 0.7 } }
//!
//! [[step]]
//! quantize = { ranges = "mse", correct = true }
//! ```

use crate::{PruneSpec, QuantizeSpec, SparseSpec, TrainingSpec};
use serde::{Deserialize, Serialize};

/// One thing that is done to a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Channels are taken out.
    Prune(PruneSpec),
    /// Single numbers become zero, where they are.
    Sparsify(SparseSpec),
    /// What is left learns again, from labelled samples and from the network as it was before any step.
    Recover(TrainingSpec),
    /// Values and weights become codes.
    Quantize(QuantizeSpec),
}

impl Step {
    /// The name in recipes.
    pub const fn name(&self) -> &'static str {
        match self {
            Step::Prune(_) => "prune",
            Step::Sparsify(_) => "sparsify",
            Step::Recover(_) => "recover",
            Step::Quantize(_) => "quantize",
        }
    }

    /// What makes no sense of it, if anything.
    pub fn problem(&self) -> Option<String> {
        match self {
            Step::Sparsify(spec) => spec.problem(),
            Step::Recover(spec) => spec.problem(),
            // These are checked as they are read.
            Step::Prune(_) | Step::Quantize(_) => None,
        }
    }
}

/// The names of steps, in order: `prune-quantize`; `keep` where there are none.
pub fn step_names(steps: &[Step]) -> String {
    match steps {
        [] => "keep".into(),
        steps => steps.iter().map(Step::name).collect::<Vec<_>>().join("-"),
    }
}
