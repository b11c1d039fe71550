//! Batch normalisation of each channel: `(x − mean) / √(var + ε) · scale + bias`, input `[batch, channels, space…]`.
//!
//! Running, `mean` and `var` are the stored statistics. Training, they are the batch's (biased variance), and the stored ones
//! become `momentum · old + (1 − momentum) · new`: ONNX's momentum is the weight of the *old* value, PyTorch's of the new.

use super::{OpSpec, ShapeError, Typed, channels, expect};
use crate::{Axes, Port, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// `[channels]`.
    pub scale: WeightId,
    /// `[channels]`.
    pub bias: WeightId,
    /// `[channels]`.
    pub mean: WeightId,
    /// `[channels]`.
    pub var: WeightId,
    /// ε.
    pub eps: f64,
    /// Weight of the old statistics.
    pub momentum: f64,
}

impl OpSpec for BatchNorm {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let channels = channels(inputs, 0)?;
        self.weights().into_iter().try_for_each(|id| expect(weights, id, &[channels]))?;
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let axes = Axes::elementwise(inputs[0].1.len(), 1);
        (0..4).fold(axes, |axes, n| axes.same((Port::Output(0), 1), (Port::Weight(n), 0)))
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.scale, self.bias, self.mean, self.var]
    }
}
