//! Values side by side along one axis.

use super::{OpSpec, ShapeError, Typed, float, show, wrong};
use crate::{Axes, Dim, Kind, Port, Relation, WeightStore};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// Along which axis.
    pub axis: usize,
}

impl OpSpec for Concat {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let mut made = float(inputs, 0)?.clone();
        let mut total = 0;
        for n in 0..inputs.len() {
            let mut shape = float(inputs, n)?.clone();
            let Some(length) = shape.get(self.axis).and_then(|d| d.fixed()) else {
                return wrong(format!("input {n} {} has no fixed axis {}", show(&shape), self.axis));
            };
            total += length;
            shape[self.axis] = made[self.axis];
            if shape != made {
                return wrong(format!("{} and {} differ beside axis {}", show(&made), show(&inputs[n].1), self.axis));
            }
        }
        made[self.axis] = Dim::Fixed(total);
        Ok(vec![(Kind::Float, made)])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let (mut axes, mut offset) = (Axes::default(), 0);
        for (n, (_, shape)) in inputs.iter().enumerate() {
            for (axis, dim) in shape.iter().enumerate() {
                let ends = ((Port::Output(0), axis), (Port::Input(n), axis));
                if axis == self.axis {
                    axes = axes.link(ends.0, ends.1, Relation::Offset(offset));
                    offset += dim.fixed().unwrap_or_default();
                } else {
                    axes = axes.same(ends.0, ends.1);
                }
            }
        }
        axes
    }
}
