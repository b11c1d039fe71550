//! A function of each number.

use super::{OpSpec, ShapeError, Typed};
use crate::{Axes, WeightStore};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)`, exact.
    Gelu,
    /// GELU by the tanh formula (`gelu_pytorch_tanh`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `cap · tanh(x / cap)`.
    SoftCap(f32),
}

impl OpSpec for Activation {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        super::width(inputs, 0)?;
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        Axes::elementwise(inputs[0].1.len(), 1)
    }
}
