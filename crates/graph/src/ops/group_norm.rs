//! Normalisation of groups of channels over all their positions, then a scale and shift per channel:
//! `(x − mean) / √(var + ε) · scale + bias`, input `[batch, channels, space…]`. Instance norm where each channel is a group.

use super::{Kept, Op, OpSpec, ShapeError, Typed, channels, expect, wrong};
use crate::{Axes, Port, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNorm {
    /// Divides the channels.
    pub groups: usize,
    /// `[channels]`.
    pub scale: WeightId,
    /// `[channels]`.
    pub bias: WeightId,
    /// ε.
    pub eps: f64,
}

impl OpSpec for GroupNorm {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let channels = channels(inputs, 0)?;
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            return wrong(format!("{channels} channels in {} groups", self.groups));
        }
        self.weights().into_iter().try_for_each(|id| expect(weights, id, &[channels]))?;
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let channel = (Port::Output(0), 1);
        let axes = Axes::elementwise(inputs[0].1.len(), 1).freeze_from(Port::Input(0), 2, inputs[0].1.len());
        let axes = (0..2).fold(axes, |axes, n| axes.same(channel, (Port::Weight(n), 0)));
        match channels(inputs, 0) {
            Ok(channels) if channels == self.groups => axes,
            Ok(channels) => axes.cycle(channel, channels / self.groups.max(1)).statistics(channel),
            Err(_) => axes.freeze(channel),
        }
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.scale, self.bias]
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        let channels = kept.get(Port::Input(0), 1).filter(|k| k.of == self.groups)?;
        Some(GroupNorm { groups: channels.left.len(), ..self.clone() }.into())
    }
}
