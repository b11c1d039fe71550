//! Transforms: what is done to the weights of a model, without changing what it computes, so that they lose less when
//! they are encoded.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A change of weights that leaves the model's function as it is. What each does, costs and needs stands in the file of
/// its name under `passes/src/transform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// Random rotations of the channels of a model, by Hadamard matrices.
    Rotate,
    /// Scales of channels searched for the least error of the encoded weights.
    Awq,
    /// Scales of channels that even out the ranges of inputs and weights, for inputs in eight bits.
    Smooth,
}

impl Transform {
    /// Every transform.
    pub const ALL: [Transform; 3] = [Transform::Rotate, Transform::Awq, Transform::Smooth];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Transform::Rotate => "rotate",
            Transform::Awq => "awq",
            Transform::Smooth => "smooth",
        }
    }

    /// Whether it needs the model to be run over calibration text.
    pub const fn calibrates(self) -> bool {
        !matches!(self, Transform::Rotate)
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
