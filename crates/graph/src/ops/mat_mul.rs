//! The product of two values: `[…, m, k] · […, k, n]`, outer axes stretched to a common shape. A product with a weight
//! is [`super::Linear`].

use super::{Cost, OpSpec, ShapeError, Typed, broadcast, float, show, wrong};
use crate::{Axes, Kind, Port, Size, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul;

impl OpSpec for MatMul {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let (a, b) = (float(inputs, 0)?, float(inputs, 1)?);
        let ([outer_a @ .., m, k], [outer_b @ .., rows, n]) = (&a[..], &b[..]) else {
            return wrong(format!("{} and {} are not both matrices", show(a), show(b)));
        };
        match broadcast::stretch(outer_a, outer_b) {
            Some(outer) if k == rows => Ok(vec![(Kind::Float, [&outer[..], &[*m, *n]].concat())]),
            _ => wrong(format!("{} times {}", show(a), show(b))),
        }
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let [a, b] = [inputs[0].1.len(), inputs[1].1.len()];
        let outer = |n: usize, rank: usize| (inputs[n].0, inputs[n].1[..rank - 2].to_vec());
        let axes = broadcast::axes(&[outer(0, a), outer(1, b)]);
        let rank = a.max(b);
        axes.same((Port::Input(0), a - 2), (Port::Output(0), rank - 2))
            .same((Port::Input(1), b - 1), (Port::Output(0), rank - 1))
            .same((Port::Input(0), a - 1), (Port::Input(1), b - 2))
    }

    fn cost(&self, inputs: &[Typed], weights: &WeightStore, size: Size) -> Cost {
        let (Ok(made), Some(k)) = (self.outputs(inputs, weights), inputs[0].1.last()) else { return Cost::default() };
        Cost { macs: size.elements(&made[0].1) as u64 * size.of(*k) as u64 }
    }
}
