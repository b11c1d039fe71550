//! Transposed convolution: the input gradient of the convolution from its output to its input. So its own gradients are that
//! convolution and its weight gradient, with the ends exchanged.

use super::Rule;
use super::conv::{channels, sizes};
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::ConvTranspose;
use kernels::Write;

/// The convolution that this transposes, for an input of this shape; and the shape of the output.
fn transposed(op: &ConvTranspose, node: &str, shape: &[usize]) -> Result<(kernels::Conv, Vec<usize>), Error> {
    let mut output = vec![shape[0], op.outputs];
    for ((length, span), extra) in shape[2..].iter().zip(&op.window).zip(&op.extra) {
        output.push((length - 1) * span.stride + span.reach() + extra - span.pad[0] - span.pad[1]);
    }
    let sizes = sizes(node, &output, shape[1], &op.window, op.groups)?;
    match sizes.output()[2 - op.window.len()..] == shape[2..] {
        true => Ok((sizes, output)),
        false => {
            let reason = format!("{:?} more outputs are as many as a stride or more", op.extra);
            Err(Error::Unrunnable { node: node.into(), reason })
        }
    }
}

impl<R: Scalar> Rule<R> for ConvTranspose {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let (weight, bias) = (cx.weights.full(self.weight)?, self.bias.map(|b| cx.weights.full(b)).transpose()?);
        let (sizes, shape) = transposed(self, &cx.node.name, x.shape())?;
        let mut y = cx.pool.tensor(shape);
        kernels::conv_grad_input(&sizes, x.data(), weight, bias, y.data_mut(), Write::Set);
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        let shape = cx.shape(0)?.to_vec();
        let (sizes, _) = transposed(self, &cx.node.name, &shape)?;
        if cx.trains(self.weight) {
            let x = cx.input(0)?;
            cx.weight_grad(self.weight, |dw| kernels::conv_grad_weight(&sizes, x.data(), dy.data(), dw, Write::Add));
        }
        if let Some(bias) = self.bias {
            cx.weight_grad(bias, |db| kernels::add_channel_sums(&channels(dy.shape()), dy.data(), db));
        }
        if cx.wants(0) {
            let mut dx = cx.pool.tensor(shape);
            kernels::conv(&sizes, dy.data(), cx.weights.full(self.weight)?, None, dx.data_mut());
            cx.add_grad(0, dx);
        }
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
