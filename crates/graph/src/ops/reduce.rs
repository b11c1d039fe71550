//! One number for all along some axes: mean, sum, greatest, least. Global average pooling is the mean over space.

use super::{OpSpec, ShapeError, Typed, float, wrong};
use crate::{Axes, Dim, Kind, Port, WeightStore};

/// What is made of many numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ReduceKind {
    Mean,
    Sum,
    Max,
    Min,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// What is made of them.
    pub kind: ReduceKind,
    /// Along which axes, ascending.
    pub axes: Vec<usize>,
    /// Whether these stay, with length 1.
    pub keep: bool,
}

impl OpSpec for Reduce {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        if self.axes.iter().any(|a| *a >= shape.len()) || !self.axes.is_sorted_by(|a, b| a < b) {
            return wrong(format!("axes {:?} of a value of rank {}", self.axes, shape.len()));
        }
        let reduced = |axis: &usize| self.axes.contains(axis);
        let left = shape.iter().enumerate().filter(|(axis, _)| self.keep || !reduced(axis));
        let made = left.map(|(axis, dim)| if reduced(&axis) { Dim::Fixed(1) } else { *dim });
        Ok(vec![(Kind::Float, made.collect())])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let mut to = 0;
        (0..inputs[0].1.len()).fold(Axes::default(), |axes, axis| {
            let (from, at) = ((Port::Input(0), axis), to);
            let reduced = self.axes.contains(&axis);
            to += usize::from(self.keep || !reduced);
            if reduced { axes.freeze(from) } else { axes.same(from, (Port::Output(0), at)) }
        })
    }
}
