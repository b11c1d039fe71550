//! The sum of two values of the same shape: `a + b`.

use super::{OpSpec, ShapeError, Typed, show, wrong};
use crate::{Axes, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;

impl OpSpec for Add {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        match inputs {
            [a, b] if a == b => Ok(vec![a.clone()]),
            [a, b] => wrong(format!("{} and {} differ", show(&a.1), show(&b.1))),
            _ => wrong(format!("{} inputs, expected 2", inputs.len())),
        }
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        Axes::elementwise(inputs[0].1.len(), 2)
    }
}
