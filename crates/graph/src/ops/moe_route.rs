//! Chooses experts: the `top_k` largest of softmax(x · Wᵀ) per token.
//!
//! Outputs: their probabilities `[…, top_k]`, made to sum to one if `normalize`, and their numbers `[…, top_k]`, larger
//! probability first and, between equals, the lower number first.

use super::{Cost, OpSpec, ShapeError, Typed, expect, rows, width, with_width, wrong};
use crate::{Axes, Kind, Port, Size, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoeRoute {
    /// `[experts, width]`.
    pub weight: WeightId,
    /// How many experts there are.
    pub experts: usize,
    /// How many each token goes to.
    pub top_k: usize,
    /// Whether the chosen probabilities are made to sum to one.
    pub normalize: bool,
}

impl OpSpec for MoeRoute {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        expect(weights, self.weight, &[self.experts, width(inputs, 0)?])?;
        if self.top_k == 0 || self.top_k > self.experts {
            return wrong(format!("{} of {} experts", self.top_k, self.experts));
        }
        let shape = with_width(&inputs[0].1, self.top_k);
        Ok(vec![(Kind::Float, shape.clone()), (Kind::Index, shape)])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        Axes::rowwise(last + 1).same((Port::Input(0), last), (Port::Weight(0), 1)).freeze((Port::Output(0), last))
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.weight]
    }

    fn cost(&self, inputs: &[Typed], weights: &WeightStore, size: Size) -> Cost {
        Cost { macs: rows(size, &inputs[0].1) * weights.get(self.weight).elements() as u64 }
    }
}
