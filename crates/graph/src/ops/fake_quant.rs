//! Numbers rounded to a grid and back: `(clamp(round(x / scale) + zero) − zero) · scale`, halves to even.
//!
//! What a QuantizeLinear and the DequantizeLinear behind it do together. One scale for all, or one for each index of `axis`.

use super::{OpSpec, ShapeError, Typed, float, wrong};
use crate::{Axes, Levels, Port, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeQuant {
    /// One number, or as many as `axis` has indices; positive.
    pub scale: WeightId,
    /// As many integers as scales.
    pub zero: Vec<i32>,
    /// The axis with a scale for each index.
    pub axis: Option<usize>,
    /// The integers there are.
    pub levels: Levels,
}

impl OpSpec for FakeQuant {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        let expected = match self.axis {
            None => 1,
            Some(axis) => shape.get(axis).and_then(|d| d.fixed()).unwrap_or_default(),
        };
        let scales = weights.get(self.scale).elements();
        match scales == expected && self.zero.len() == expected {
            true => Ok(vec![inputs[0].clone()]),
            false => wrong(format!("{scales} scales and {} zero points, expected {expected}", self.zero.len())),
        }
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let axes = Axes::elementwise(inputs[0].1.len(), 1);
        self.axis.iter().fold(axes, |axes, axis| axes.same((Port::Output(0), *axis), (Port::Weight(0), 0)))
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.scale]
    }

    fn keep(&self, kept: &super::Kept) -> Option<super::Op> {
        let left = &kept.get(Port::Output(0), self.axis?)?.left;
        let zero = left.iter().filter_map(|i| self.zero.get(*i).copied()).collect();
        Some(FakeQuant { zero, ..self.clone() }.into())
    }
}
