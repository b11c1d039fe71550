//! A function of two numbers, each with each, stretched to a common shape where they differ. Sum and product are ops of their
//! own, [`super::Add`] and [`super::Mul`].

use super::{OpSpec, ShapeError, Typed, broadcast};
use crate::{Axes, WeightStore};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a − b`.
    Sub,
    /// `a / b`.
    Div,
    /// `aᵇ`.
    Pow,
    /// The greater.
    Max,
    /// The lesser.
    Min,
    /// `a` where `a ≥ 0`, else `a · b` (PRelu: `b` holds slopes).
    Slope,
}

impl OpSpec for Binary {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        broadcast::two(inputs)
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        broadcast::axes(inputs)
    }
}
