//! Convolution over one or two spatial axes. Backward: `dx` by the transposed convolution, `dW` by products of `dy` with `x`, `db` by sums.

use super::Rule;
use super::space::{plane, spans};
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::{Conv, Span};
use kernels::{Channels, Write};

/// The kernels' sizes, for an input `[batch, channels, space…]` and so many filters.
pub(super) fn sizes(
    node: &str,
    shape: &[usize],
    filters: usize,
    window: &[Span],
    groups: usize,
) -> Result<kernels::Conv, Error> {
    let (spans, input) = (spans(node, window)?, plane(node, &shape[2..], 1)?);
    Ok(kernels::Conv {
        batch: shape[0],
        channels: shape[1],
        filters,
        groups,
        input,
        kernel: spans.map(|s| s.size),
        stride: spans.map(|s| s.stride),
        dilation: spans.map(|s| s.dilation),
        pads: spans.map(|s| s.pad),
    })
}

/// A value `[batch, channels, space…]` as channels of planes.
pub(super) fn channels(shape: &[usize]) -> Channels {
    Channels { batch: shape[0], channels: shape[1], area: shape[2..].iter().product() }
}

impl<R: Scalar> Rule<R> for Conv {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let (weight, bias) = (cx.weights.full(self.weight)?, self.bias.map(|b| cx.weights.full(b)).transpose()?);
        let filters = cx.weights.store().get(self.weight).shape[0];
        let sizes = sizes(&cx.node.name, x.shape(), filters, &self.window, self.groups)?;
        let output = sizes.output();
        let mut shape = vec![x.shape()[0], filters];
        shape.extend(&output[2 - self.window.len()..]);
        let mut y = cx.pool.tensor(shape);
        kernels::conv(&sizes, x.data(), weight, bias, y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        let shape = cx.shape(0)?.to_vec();
        let sizes = sizes(&cx.node.name, &shape, dy.shape()[1], &self.window, self.groups)?;
        if cx.trains(self.weight) {
            let x = cx.input(0)?;
            cx.weight_grad(self.weight, |dw| kernels::conv_grad_weight(&sizes, dy.data(), x.data(), dw, Write::Add));
        }
        if let Some(bias) = self.bias {
            cx.weight_grad(bias, |db| kernels::add_channel_sums(&channels(dy.shape()), dy.data(), db));
        }
        let weight = cx.weights.full(self.weight)?;
        cx.input_grad(0, &shape, |dx, write| kernels::conv_grad_input(&sizes, dy.data(), weight, None, dx, write));
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
