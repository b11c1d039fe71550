//! The product of two values, `a · b`, stretched to a common shape where they differ (see `broadcast.rs`).

use super::{OpSpec, ShapeError, Typed, broadcast};
use crate::{Axes, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mul;

impl OpSpec for Mul {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        broadcast::two(inputs)
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        broadcast::axes(inputs)
    }
}
