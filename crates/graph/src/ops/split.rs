//! Cuts an axis into consecutive parts (fused query/key/value and gate/up projections, channel splits).

use super::{Kept, Op, OpSpec, ShapeError, Typed, float, show, wrong};
use crate::{Axes, Dim, Kind, Port, Relation, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Along which axis.
    pub axis: usize,
    /// Lengths of the parts, in order.
    pub widths: Vec<usize>,
}

impl OpSpec for Split {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        if shape.get(self.axis) != Some(&Dim::Fixed(self.widths.iter().sum())) {
            return wrong(format!("parts {:?} do not add up to axis {} of {}", self.widths, self.axis, show(shape)));
        }
        let part = |width: &usize| {
            let mut shape = shape.clone();
            shape[self.axis] = Dim::Fixed(*width);
            (Kind::Float, shape)
        };
        Ok(self.widths.iter().map(part).collect())
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let mut offset = 0;
        self.widths.iter().enumerate().fold(Axes::default(), |axes, (n, width)| {
            let others = (0..inputs[0].1.len()).filter(|axis| *axis != self.axis);
            let axes = others.fold(axes, |axes, axis| axes.same((Port::Input(0), axis), (Port::Output(n), axis))).link(
                (Port::Input(0), self.axis),
                (Port::Output(n), self.axis),
                Relation::Offset(offset),
            );
            offset += width;
            axes
        })
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        let part = |(n, width): (usize, &usize)| kept.count(Port::Output(n), self.axis, *width);
        Some(Split { axis: self.axis, widths: self.widths.iter().enumerate().map(part).collect() }.into())
    }
}
