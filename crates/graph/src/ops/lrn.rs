//! Local response normalisation across channels: `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` neighbouring
//! channels, `⌊(size − 1) / 2⌋` before and `⌈(size − 1) / 2⌉` after.

use super::{OpSpec, ShapeError, Typed, channels};
use crate::{Axes, Port, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels in the sum.
    pub size: usize,
    /// Multiplies the mean square.
    pub alpha: f32,
    /// The power.
    pub beta: f32,
    /// Added to the sum.
    pub bias: f32,
}

impl OpSpec for Lrn {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        channels(inputs, 0)?;
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        Axes::elementwise(inputs[0].1.len(), 1).freeze((Port::Input(0), 1))
    }
}
