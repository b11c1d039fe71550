//! Chosen indices of some axes, in the order given: slices (with steps, backwards) and gathers with constant indices.

use super::{Kept, Op, OpSpec, ShapeError, Typed, float, show, wrong};
use crate::{Axes, Dim, Kind, Port, Relation, WeightStore};

/// The indices chosen of one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which axis.
    pub axis: usize,
    /// Index `i` of the output is this index of the input.
    pub indices: Vec<usize>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// At most one for each axis; other axes stay whole.
    pub picks: Vec<Pick>,
}

impl OpSpec for Select {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        let mut made = shape.clone();
        for pick in &self.picks {
            let length = shape.get(pick.axis).and_then(|d| d.fixed());
            if !length.is_some_and(|length| pick.indices.iter().all(|i| *i < length)) {
                return wrong(format!("indices beyond axis {} of {}", pick.axis, show(shape)));
            }
            made[pick.axis] = Dim::Fixed(pick.indices.len());
        }
        Ok(vec![(Kind::Float, made)])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        (0..inputs[0].1.len()).fold(Axes::default(), |axes, axis| {
            let (from, to) = ((Port::Input(0), axis), (Port::Output(0), axis));
            match self.picks.iter().find(|p| p.axis == axis) {
                Some(pick) => axes.link(from, to, Relation::Pick(pick.indices.clone().into())),
                None => axes.same(from, to),
            }
        })
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        let of = |pick: &Pick| {
            let left = kept.get(Port::Output(0), pick.axis).map(|k| k.left.clone());
            let left = left.unwrap_or_else(|| (0..pick.indices.len()).collect());
            let old = left.into_iter().filter_map(|i| pick.indices.get(i).copied());
            let new = |i: usize| kept.get(Port::Input(0), pick.axis).map_or(Some(i), |k| k.left.binary_search(&i).ok());
            Pick { axis: pick.axis, indices: old.filter_map(new).collect() }
        };
        Some(Select { picks: self.picks.iter().map(of).collect() }.into())
    }
}
