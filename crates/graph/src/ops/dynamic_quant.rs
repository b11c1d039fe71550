//! Numbers rounded to the 8-bit grid of their own range, found in every run: ONNX's DynamicQuantizeLinear, and back.
//!
//! `s = (max(0, max x) − min(0, min x)) / 255`, `z = round(−min(0, min x) / s)`, `y = (clamp(round(x / s) + z, 0, 255) − z) · s`. The
//! range is that of all numbers together, so what a sample becomes depends on those that run beside it.

use super::{OpSpec, ShapeError, Typed, float};
use crate::{Axes, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicQuant;

impl OpSpec for DynamicQuant {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        float(inputs, 0)?;
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        // A channel of zeros does not change the range.
        Axes::elementwise(inputs[0].1.len(), 1)
    }
}
