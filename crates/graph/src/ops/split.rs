//! Cuts the last axis into consecutive parts (fused query/key/value and gate/up projections).

use super::{OpSpec, ShapeError, Typed, width, with_width, wrong};
use crate::{Axes, Kind, Port, Relation, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Widths of the parts, in order.
    pub widths: Vec<usize>,
}

impl OpSpec for Split {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let width = width(inputs, 0)?;
        if self.widths.iter().sum::<usize>() != width {
            return wrong(format!("parts {:?} do not add up to {width}", self.widths));
        }
        Ok(self.widths.iter().map(|w| (Kind::Float, with_width(&inputs[0].1, *w))).collect())
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        let mut offset = 0;
        self.widths.iter().enumerate().fold(Axes::default(), |axes, (n, width)| {
            let axes = (0..last)
                .fold(axes, |axes, axis| axes.same((Port::Input(0), axis), (Port::Output(n), axis)))
                .link((Port::Input(0), last), (Port::Output(n), last), Relation::Offset(offset));
            offset += width;
            axes
        })
    }
}
