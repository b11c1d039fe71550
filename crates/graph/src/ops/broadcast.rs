//! Shapes that stretch to a common one: aligned at their ends, an axis of length 1 repeats (NumPy's rule).

use super::{Kept, ShapeError, Typed, float, show, wrong};
use crate::{Axes, Dim, Kind, Port, Shape};

/// The common shape of all inputs.
pub(super) fn common(inputs: &[Typed]) -> Result<Vec<Typed>, ShapeError> {
    let mut made = float(inputs, 0)?.clone();
    for n in 1..inputs.len() {
        let shape = float(inputs, n)?;
        made =
            stretch(&made, shape).ok_or_else(|| ShapeError(format!("{} and {} differ", show(&made), show(shape))))?;
    }
    Ok(vec![(Kind::Float, made)])
}

/// The common shape of two inputs.
pub(super) fn two(inputs: &[Typed]) -> Result<Vec<Typed>, ShapeError> {
    if inputs.len() != 2 {
        return wrong(format!("{} inputs, expected 2", inputs.len()));
    }
    common(inputs)
}

pub(super) fn stretch(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| shape[i]);
    let one = |axis| match (at(a, axis), at(b, axis)) {
        (a, b) if a == b => Some(a),
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Some(other),
        _ => None,
    };
    (0..rank).map(one).collect()
}

/// Axes of the inputs that do not repeat are those of the output.
pub(super) fn axes(inputs: &[Typed]) -> Axes {
    let rank = inputs.iter().map(|i| i.1.len()).max().unwrap_or_default();
    let made = common(inputs).map(|made| made[0].1.clone()).unwrap_or_default();
    let mut axes = Axes::default();
    for (n, (_, shape)) in inputs.iter().enumerate() {
        for (axis, dim) in shape.iter().enumerate() {
            let to = rank - shape.len() + axis;
            if made.get(to) == Some(dim) {
                axes = axes.same((Port::Input(n), axis), (Port::Output(0), to));
            }
        }
    }
    axes
}

/// A shape less what its axes, an output's, lost.
pub(super) fn left(shape: &[Dim], kept: &Kept) -> Shape {
    let one = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(n) => Dim::Fixed(kept.count(Port::Output(0), axis, *n)),
        open => *open,
    };
    shape.iter().enumerate().map(one).collect()
}
