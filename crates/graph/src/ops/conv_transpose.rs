//! Transposed convolution: the gradient of a convolution with respect to its input, as a layer.
//!
//! Input `[batch, in, space…]`, weight `[in, out / groups, kernel…]`, output `[batch, out, space…]` of length
//! `(n − 1) · stride + reach − pad[0] − pad[1] + extra` along each axis.

use super::conv::grouped;
use super::{Cost, Kept, Op, OpSpec, ShapeError, Span, Typed, channels, expect, show, wrong};
use crate::{Axes, Dim, Kind, Port, Size, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// `[in, out / groups, kernel…]`.
    pub weight: WeightId,
    /// `[out]`.
    pub bias: Option<WeightId>,
    /// `out`.
    pub outputs: usize,
    /// One for each spatial axis; sizes are the kernel's.
    pub window: Vec<Span>,
    /// Added at the end of each spatial axis of the output.
    pub extra: Vec<usize>,
    /// Divides inputs and outputs.
    pub groups: usize,
}

impl ConvTranspose {
    /// Length of an output axis.
    fn length(&self, axis: usize, input: usize) -> Option<usize> {
        let span = self.window.get(axis)?;
        let spread = input.checked_sub(1)?.checked_mul(span.stride)?;
        let full = spread.checked_add(span.reach())?.checked_add(*self.extra.get(axis)?)?;
        full.checked_sub(span.pad[0])?.checked_sub(span.pad[1])
    }
}

impl OpSpec for ConvTranspose {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let (input, shape) = (channels(inputs, 0)?, &inputs[0].1);
        if self.groups == 0 || !input.is_multiple_of(self.groups) || !self.outputs.is_multiple_of(self.groups) {
            return wrong(format!("{input} inputs and {} outputs in {} groups", self.outputs, self.groups));
        }
        let kernel = self.window.iter().map(|s| s.size);
        let expected: Vec<_> = [input, self.outputs / self.groups].into_iter().chain(kernel).collect();
        expect(weights, self.weight, &expected)?;
        self.bias.map_or(Ok(()), |bias| expect(weights, bias, &[self.outputs]))?;
        let space = shape[2..].iter().enumerate().map(|(n, dim)| self.length(n, dim.fixed()?).map(Dim::Fixed));
        let Some(space) = space.collect::<Option<Vec<_>>>().filter(|s| s.len() == self.window.len()) else {
            return wrong(format!("windows {:?} do not fit {}", self.window, show(shape)));
        };
        Ok(vec![(Kind::Float, [vec![shape[0], Dim::Fixed(self.outputs)], space].concat())])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let (rank, input) = (inputs[0].1.len(), channels(inputs, 0).unwrap_or_default());
        // The weight is a convolution's the other way round, so its grouping is, too.
        let ends = [(Port::Output(0), 1), (Port::Input(0), 1)];
        let axes = Axes::default()
            .same((Port::Input(0), 0), (Port::Output(0), 0))
            .same(ends[1], (Port::Weight(0), 0))
            .freeze_from(Port::Input(0), 2, rank)
            .freeze_from(Port::Output(0), 2, rank)
            .freeze_from(Port::Weight(0), 2, rank);
        let axes = self.bias.iter().fold(axes, |axes, _| axes.same(ends[0], (Port::Weight(1), 0)));
        grouped(axes, ends, (Port::Weight(0), 1), [self.outputs, input], self.groups)
    }

    fn weights(&self) -> Vec<WeightId> {
        [Some(self.weight), self.bias].into_iter().flatten().collect()
    }

    fn cost(&self, inputs: &[Typed], weights: &WeightStore, size: Size) -> Cost {
        let each = weights.get(self.weight).shape[1..].iter().product::<usize>();
        Cost { macs: size.elements(&inputs[0].1) as u64 * each as u64 }
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        let outputs = kept.count(Port::Output(0), 1, self.outputs);
        let depthwise = self.groups == self.outputs && self.groups > 1;
        Some(ConvTranspose { outputs, groups: if depthwise { outputs } else { self.groups }, ..self.clone() }.into())
    }
}
