//! Normalisation of runs of `size` numbers along the last axis, then a scale (and shift) per number.
//!
//! RMS: `x / √(mean x² + ε) · (w + offset)`; layer norm: `(x − mean) / √(var + ε) · (w + offset) + b`. `size` is the whole
//! width, or a head's for the query and key norms of Qwen 3 and Gemma 3. Gemma stores `w − 1`: `offset` is 1.

use super::{Kept, Op, OpSpec, ShapeError, Typed, expect, width, wrong};
use crate::{Axes, Port, WeightId, WeightStore};

/// What is taken away before scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Nothing: root mean square only.
    Rms,
    /// The mean.
    Layer,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Which statistic.
    pub kind: NormKind,
    /// Length of a normalised run; divides the width.
    pub size: usize,
    /// `[size]`.
    pub weight: WeightId,
    /// `[size]`.
    pub bias: Option<WeightId>,
    /// ε.
    pub eps: f64,
    /// Added to every weight.
    pub offset: f64,
}

impl OpSpec for Norm {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let width = width(inputs, 0)?;
        if self.size == 0 || width % self.size != 0 {
            return wrong(format!("norm of runs of {} over width {width}", self.size));
        }
        for id in self.weights() {
            expect(weights, id, &[self.size])?;
        }
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        let axes = Axes::elementwise(last + 1, 1);
        if width(inputs, 0) != Ok(self.size) {
            return axes.run((Port::Input(0), last), self.size);
        }
        let axes = axes.statistics((Port::Output(0), last));
        (0..self.weights().len()).fold(axes, |axes, n| axes.same((Port::Output(0), last), (Port::Weight(n), 0)))
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        let left = kept.get(Port::Weight(0), 0)?.left.len();
        Some(Norm { size: left, ..self.clone() }.into())
    }

    fn weights(&self) -> Vec<WeightId> {
        [Some(self.weight), self.bias].into_iter().flatten().collect()
    }
}
