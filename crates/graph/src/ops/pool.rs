//! The greatest number or the average of each window, channel by channel: input `[batch, channels, space…]`.
//!
//! Padding never is the greatest. An average divides by the numbers in the window, or, with `count_padding`, by those and the
//! padding (but not by what hangs over the padded end under `ceil`). Pooling over the whole plane is [`super::Reduce`].

use super::span::windows;
use super::{OpSpec, ShapeError, Span, Typed, channels};
use crate::{Axes, Kind, WeightStore};

/// What is taken of each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The greatest.
    Max,
    /// The average.
    Average {
        /// Whether padding counts.
        count_padding: bool,
    },
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What is taken.
    pub kind: PoolKind,
    /// One for each spatial axis.
    pub window: Vec<Span>,
    /// Whether the last window may hang over the end.
    pub ceil: bool,
}

impl OpSpec for Pool {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        channels(inputs, 0)?;
        let (outer, space) = inputs[0].1.split_at(2);
        Ok(vec![(Kind::Float, [outer.to_vec(), windows(space, &self.window, self.ceil)?].concat())])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        Axes::channelwise(inputs[0].1.len())
    }
}
