//! Every number times a constant (Gemma's embedding scale).

use super::{OpSpec, ShapeError, Typed, width};
use crate::{Axes, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The constant.
    pub factor: f32,
}

impl OpSpec for Scale {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        width(inputs, 0)?;
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        Axes::elementwise(inputs[0].1.len(), 1)
    }
}
