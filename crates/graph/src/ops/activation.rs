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
    /// `x` where `x ≥ 0`, else `slope · x`.
    LeakyRelu(f32),
    /// `x` where `x ≥ 0`, else `alpha · (eˣ − 1)`.
    Elu(f32),
    /// `min(max(x, low), high)`: ReLU6 is `Clip(0, 6)`; ±∞ where there is no bound.
    Clip(f32, f32),
    /// `σ(x) = 1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `min(max(alpha · x + beta, 0), 1)`.
    HardSigmoid(f32, f32),
    /// `x · min(max(x / 6 + ½, 0), 1)`.
    HardSwish,
    /// `tanh x`.
    Tanh,
    /// `x · tanh(ln(1 + eˣ))`.
    Mish,
    /// `ln(1 + eˣ)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// The error function.
    Erf,
    /// `eˣ`.
    Exp,
    /// `ln x`.
    Log,
    /// `√x`.
    Sqrt,
    /// `|x|`.
    Abs,
    /// `−x`.
    Neg,
    /// `1 / x`.
    Reciprocal,
}

impl OpSpec for Activation {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        super::float(inputs, 0)?;
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        Axes::elementwise(inputs[0].1.len(), 1)
    }
}
