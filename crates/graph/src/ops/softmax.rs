//! `exp x / Σ exp x` along one axis, or its logarithm.

use super::{OpSpec, ShapeError, Typed, float, wrong};
use crate::{Axes, Port, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// Along which axis.
    pub axis: usize,
    /// Whether the logarithm is taken.
    pub log: bool,
}

impl OpSpec for Softmax {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        match self.axis < float(inputs, 0)?.len() {
            true => Ok(vec![inputs[0].clone()]),
            false => wrong(format!("axis {} of a value of rank {}", self.axis, inputs[0].1.len())),
        }
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        Axes::elementwise(inputs[0].1.len(), 1).freeze((Port::Input(0), self.axis))
    }
}
