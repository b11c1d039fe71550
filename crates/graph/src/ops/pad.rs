//! More indices before and after those of each axis.

use super::{Kept, Op, OpSpec, ShapeError, Typed, float, show, wrong};
use crate::{Axes, Dim, Kind, Port, Relation, WeightStore};

/// What the new positions hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadKind {
    /// This number.
    Constant(f32),
    /// The mirror image, without the border itself.
    Reflect,
    /// The nearest number inside.
    Edge,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// What they hold.
    pub kind: PadKind,
    /// Before and after, for every axis.
    pub pads: Vec<[usize; 2]>,
}

impl OpSpec for Pad {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        let one = |(dim, pad): (&Dim, &[usize; 2])| match (dim, pad) {
            (dim, [0, 0]) => Some(*dim),
            (Dim::Fixed(n), [before, after]) => n.checked_add(*before)?.checked_add(*after).map(Dim::Fixed),
            _ => None,
        };
        match shape.iter().zip(&self.pads).map(one).collect::<Option<Vec<_>>>() {
            Some(made) if self.pads.len() == shape.len() => Ok(vec![(Kind::Float, made)]),
            _ => wrong(format!("pads {:?} do not fit {}", self.pads, show(shape))),
        }
    }

    fn axes(&self, _inputs: &[Typed]) -> Axes {
        self.pads.iter().enumerate().fold(Axes::default(), |axes, (axis, pad)| {
            let (from, to) = ((Port::Input(0), axis), (Port::Output(0), axis));
            match (pad, self.kind) {
                ([0, 0], _) => axes.same(from, to),
                ([before, _], PadKind::Constant(_)) => axes.link(to, from, Relation::Offset(*before)),
                _ => axes.freeze(from).freeze(to),
            }
        })
    }

    /// Padded positions are channels like others where something adds to them, and go like others.
    fn keep(&self, kept: &Kept) -> Option<Op> {
        let of = |(axis, [before, after]): (usize, &[usize; 2])| match kept.get(Port::Output(0), axis) {
            None => [*before, *after],
            Some(k) => {
                let end = k.of.saturating_sub(*after);
                [k.left.iter().filter(|i| *i < before).count(), k.left.iter().filter(|i| **i >= end).count()]
            }
        };
        Some(Pad { kind: self.kind, pads: self.pads.iter().enumerate().map(of).collect() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::End;

    #[test]
    fn padded_channels_go_like_others() {
        let pad = Pad { kind: PadKind::Constant(0.0), pads: vec![[0, 0], [2, 3], [1, 1]] };
        let mut kept = Kept::default();
        kept.set(End { port: Port::Output(0), axis: 1 }, 9, vec![1, 3, 5, 6, 8]);
        let Some(Op::Pad(made)) = pad.keep(&kept) else { panic!("a pad stays one") };
        assert_eq!(made.pads, [[0, 0], [1, 2], [1, 1]]);
    }
}
