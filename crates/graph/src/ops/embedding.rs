//! Looks token ids up: `[…]` indices to `[…, width]` rows of a `[vocabulary, width]` table.

use super::{OpSpec, ShapeError, Typed, wrong};
use crate::{Axes, Dim, Kind, Port, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// `[vocabulary, width]`.
    pub weight: WeightId,
}

impl OpSpec for Embedding {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let weight = weights.get(self.weight);
        let ([(Kind::Index, ids)], [_, width]) = (inputs, &weight.shape[..]) else {
            return wrong(format!("`{}`: expected indices and a [vocabulary, width] table", weight.name));
        };
        let mut shape = ids.clone();
        shape.push(Dim::Fixed(*width));
        Ok(vec![(Kind::Float, shape)])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let rank = inputs[0].1.len();
        Axes::elementwise(rank, 1).same((Port::Output(0), rank), (Port::Weight(0), 1)).freeze((Port::Weight(0), 0))
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.weight]
    }
}
