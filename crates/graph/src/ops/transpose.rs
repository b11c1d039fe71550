//! The same numbers with the axes in another order: axis `i` of the output is axis `order[i]` of the input.

use super::{OpSpec, ShapeError, Typed, float, wrong};
use crate::{Axes, Kind, Port, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// A permutation of the axes.
    pub order: Vec<usize>,
}

impl OpSpec for Transpose {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..shape.len()) {
            return wrong(format!("{:?} does not order {} axes", self.order, shape.len()));
        }
        Ok(vec![(Kind::Float, self.order.iter().map(|axis| shape[*axis]).collect())])
    }

    fn axes(&self, _inputs: &[Typed]) -> Axes {
        let pairs = self.order.iter().enumerate();
        pairs.fold(Axes::default(), |axes, (to, from)| axes.same((Port::Input(0), *from), (Port::Output(0), to)))
    }
}
