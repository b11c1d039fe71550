//! Convolution (cross-correlation) over one or two spatial axes.
//!
//! Input `[batch, in, space…]`, weight `[out, in / groups, kernel…]`, output `[batch, out, windows…]`. Group `g` turns its
//! `in / groups` inputs into its `out / groups` outputs; depthwise where each input is a group.

use super::span::windows;
use super::{Cost, Kept, Op, OpSpec, ShapeError, Span, Typed, channels, expect, wrong};
use crate::{Axes, Dim, Kind, Port, Relation, Size, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// `[out, in / groups, kernel…]`.
    pub weight: WeightId,
    /// `[out]`.
    pub bias: Option<WeightId>,
    /// `out`.
    pub outputs: usize,
    /// One for each spatial axis; sizes are the kernel's.
    pub window: Vec<Span>,
    /// Divides inputs and outputs.
    pub groups: usize,
}

impl Conv {
    /// Whether every one of so many inputs is a group of its own, and there is more than one.
    pub fn is_depthwise(&self, inputs: usize) -> bool {
        self.groups == inputs && inputs > 1
    }
}

impl OpSpec for Conv {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let (input, shape) = (channels(inputs, 0)?, &inputs[0].1);
        if self.groups == 0 || !input.is_multiple_of(self.groups) || !self.outputs.is_multiple_of(self.groups) {
            return wrong(format!("{input} inputs and {} outputs in {} groups", self.outputs, self.groups));
        }
        let kernel = self.window.iter().map(|s| s.size);
        let expected: Vec<_> = [self.outputs, input / self.groups].into_iter().chain(kernel).collect();
        expect(weights, self.weight, &expected)?;
        self.bias.map_or(Ok(()), |bias| expect(weights, bias, &[self.outputs]))?;
        let mut made = vec![shape[0], Dim::Fixed(self.outputs)];
        made.extend(windows(&shape[2..], &self.window, false)?);
        Ok(vec![(Kind::Float, made)])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let (rank, input) = (inputs[0].1.len(), channels(inputs, 0).unwrap_or_default());
        let ends = [(Port::Input(0), 1), (Port::Output(0), 1)];
        let axes = Axes::default()
            .same((Port::Input(0), 0), (Port::Output(0), 0))
            .same(ends[1], (Port::Weight(0), 0))
            .freeze_from(Port::Input(0), 2, rank)
            .freeze_from(Port::Output(0), 2, rank)
            .freeze_from(Port::Weight(0), 2, rank);
        let axes = self.bias.iter().fold(axes, |axes, _| axes.same(ends[1], (Port::Weight(1), 0)));
        grouped(axes, ends, (Port::Weight(0), 1), [input, self.outputs], self.groups)
    }

    fn weights(&self) -> Vec<WeightId> {
        [Some(self.weight), self.bias].into_iter().flatten().collect()
    }

    fn cost(&self, inputs: &[Typed], weights: &WeightStore, size: Size) -> Cost {
        let Ok(outputs) = self.outputs(inputs, weights) else { return Cost::default() };
        let each = weights.get(self.weight).shape[1..].iter().product::<usize>();
        Cost { macs: size.elements(&outputs[0].1) as u64 * each as u64 }
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        let outputs = kept.count(Port::Output(0), 1, self.outputs);
        let inputs = kept.get(Port::Input(0), 1);
        let groups = inputs.filter(|k| self.is_depthwise(k.of)).map_or(self.groups, |k| k.left.len());
        Some(Conv { outputs, groups, ..self.clone() }.into())
    }
}

/// What grouping says of `[inputs, outputs]` and of the weight axis that is shared by all groups (`[input]` ends first).
/// Depthwise: outputs `m·i … m·i + m − 1` go with input `i`. Grouped: the same local index goes in every group.
pub(super) fn grouped(
    axes: Axes,
    ends: [(Port, usize); 2],
    local: (Port, usize),
    [inputs, outputs]: [usize; 2],
    groups: usize,
) -> Axes {
    match groups {
        1 => axes.same(ends[0], local),
        _ if groups == inputs && inputs > 0 => {
            axes.link(ends[1], ends[0], Relation::Digit { unit: outputs / inputs }).freeze(local)
        }
        _ => axes.link(ends[0], local, Relation::Digit { unit: 1 }).cycle(ends[1], outputs / groups.max(1)),
    }
}
