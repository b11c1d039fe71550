//! A weight as a value: the constant side of an addition, a class token.

use super::{OpSpec, ShapeError, Typed};
use crate::{Axes, Dim, Kind, Port, Shape, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Of any shape.
    pub weight: WeightId,
    /// How many axes it has.
    pub rank: usize,
}

impl OpSpec for Constant {
    fn outputs(&self, _inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape: Shape = weights.get(self.weight).shape.iter().map(|n| Dim::Fixed(*n)).collect();
        match shape.len() == self.rank {
            true => Ok(vec![(Kind::Float, shape)]),
            false => super::wrong(format!("a constant of rank {}, expected {}", shape.len(), self.rank)),
        }
    }

    fn axes(&self, _inputs: &[Typed]) -> Axes {
        (0..self.rank).fold(Axes::default(), |axes, axis| axes.same((Port::Output(0), axis), (Port::Weight(0), axis)))
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.weight]
    }
}
