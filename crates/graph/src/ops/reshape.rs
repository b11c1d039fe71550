//! The same numbers in row-major order under another shape: reshape, flatten, squeeze, unsqueeze.
//!
//! Old and new axes are factored into the shortest runs of equal product. A run of one and one is the same axis; of one and
//! several is a product of axes; several and several mix, and freeze. Axes of length 1 belong to no run.

use super::{Kept, Op, OpSpec, ShapeError, Typed, float, show, wrong};
use crate::{Axes, Dim, End, Kind, Port, Product, Shape, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The new shape; the batch may stand anywhere in it.
    pub shape: Shape,
}

/// An axis: what it belongs to, and its length.
type Side = (End, Dim);

impl OpSpec for Reshape {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        match measure(shape) == measure(&self.shape) {
            true => Ok(vec![(Kind::Float, self.shape.clone())]),
            false => wrong(format!("{} does not fill {}", show(shape), show(&self.shape))),
        }
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let (old, new) = (sides(Port::Input(0), &inputs[0].1), sides(Port::Output(0), &self.shape));
        runs(&old, &new).into_iter().fold(Axes::default(), |mut axes, (old, new)| {
            match (old, new) {
                ([a], [b]) => return axes.same((a.0.port, a.0.axis), (b.0.port, b.0.axis)),
                ([whole], parts) | (parts, [whole]) if parts.iter().all(|p| p.1.fixed().is_some()) => {
                    let parts = parts.iter().filter_map(|(end, dim)| Some((*end, dim.fixed()?))).collect();
                    axes.products.push(Product { whole: whole.0, parts });
                }
                _ => axes.frozen.extend(old.iter().chain(new).map(|side| side.0)),
            }
            axes
        })
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        let left = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(n) => Dim::Fixed(kept.count(Port::Output(0), axis, *n)),
            open => *open,
        };
        Some(Reshape { shape: self.shape.iter().enumerate().map(left).collect() }.into())
    }
}

/// Product of the fixed axes, how often the batch occurs, and how often the tokens.
fn measure(shape: &[Dim]) -> (Option<usize>, usize, usize) {
    let fixed = shape.iter().filter_map(|d| d.fixed()).try_fold(1usize, |product, n| product.checked_mul(n));
    let count = |dim| shape.iter().filter(|d| **d == dim).count();
    (fixed, count(Dim::Batch), count(Dim::Tokens))
}

/// The axes that are not of length 1.
fn sides(port: Port, shape: &[Dim]) -> Vec<Side> {
    let axes = shape.iter().enumerate().filter(|(_, dim)| **dim != Dim::Fixed(1));
    axes.map(|(axis, dim)| (End { port, axis }, *dim)).collect()
}

/// Cuts both sides into the shortest runs of equal measure.
fn runs<'a>(old: &'a [Side], new: &'a [Side]) -> Vec<(&'a [Side], &'a [Side])> {
    let (mut runs, mut from, mut to) = (Vec::new(), (0, 0), (0, 0));
    let of = |sides: &[Side]| measure(&sides.iter().map(|s| s.1).collect::<Vec<_>>());
    while from.0 < old.len() || to.0 < new.len() {
        let smaller_old = from.1 == 0 || size(&old[from.0..from.0 + from.1]) < size(&new[to.0..to.0 + to.1]);
        match (smaller_old && from.0 + from.1 < old.len(), to.0 + to.1 < new.len()) {
            (true, _) => from.1 += 1,
            (false, true) => to.1 += 1,
            (false, false) if from.0 + from.1 < old.len() => from.1 += 1,
            (false, false) => return [runs, vec![(&old[from.0..], &new[to.0..])]].concat(),
        }
        let run = (&old[from.0..from.0 + from.1], &new[to.0..to.0 + to.1]);
        if !run.0.is_empty() && !run.1.is_empty() && of(run.0) == of(run.1) {
            runs.push(run);
            (from, to) = ((from.0 + from.1, 0), (to.0 + to.1, 0));
        }
    }
    runs
}

/// How large a run is, to see which side needs another axis. An open axis is larger than any fixed one.
fn size(run: &[Side]) -> (usize, usize) {
    let (fixed, batch, tokens) = measure(&run.iter().map(|s| s.1).collect::<Vec<_>>());
    (batch + tokens, fixed.unwrap_or(usize::MAX))
}
