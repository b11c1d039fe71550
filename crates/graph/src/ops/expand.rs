//! A value stretched to a shape: axes of length 1, and those missing in front, repeat.

use super::{Kept, Op, OpSpec, ShapeError, Typed, broadcast, float, show, wrong};
use crate::{Axes, Kind, Port, Shape, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The shape that comes out.
    pub shape: Shape,
}

impl OpSpec for Expand {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        match broadcast::stretch(shape, &self.shape) {
            Some(made) if made == self.shape => Ok(vec![(Kind::Float, made)]),
            _ => wrong(format!("{} does not stretch to {}", show(shape), show(&self.shape))),
        }
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let shape = &inputs[0].1;
        let pairs = shape.iter().enumerate().map(|(axis, dim)| (axis, axis + self.shape.len() - shape.len(), dim));
        pairs
            .filter(|(_, to, dim)| self.shape[*to] == **dim)
            .fold(Axes::default(), |axes, (from, to, _)| axes.same((Port::Input(0), from), (Port::Output(0), to)))
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        Some(Expand { shape: broadcast::left(&self.shape, kept) }.into())
    }
}
