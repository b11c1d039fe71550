//! Rotary position embedding over heads of `head_dim` channels, halves paired (`i` with `i + rotary/2`).
//!
//! Position `p` turns pair `i` by `p · frequencies[i]`; the result is multiplied by `scale` (YaRN, LongRoPE).
//! The first `2 · frequencies.len()` channels of a head turn, the rest pass.

use super::{OpSpec, ShapeError, Typed, width, wrong};
use crate::{Axes, Port, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Channels of a head.
    pub head_dim: usize,
    /// Radians per position, one for each pair.
    pub frequencies: Vec<f32>,
    /// Multiplies sine and cosine.
    pub scale: f32,
}

impl OpSpec for Rope {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let width = width(inputs, 0)?;
        if self.head_dim == 0 || width % self.head_dim != 0 || 2 * self.frequencies.len() > self.head_dim {
            return wrong(format!(
                "{} frequencies over heads of {} in width {width}",
                self.frequencies.len(),
                self.head_dim
            ));
        }
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        Axes::elementwise(last + 1, 1).run((Port::Input(0), last), self.head_dim)
    }
}
