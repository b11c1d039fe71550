//! Pooling over one or two spatial axes. Backward: the maximum's gradient to the first element that attains it, the mean's shared.

use super::Rule;
use super::space::{plane, spans};
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::{Pool, PoolKind};
use kernels::Divisor;

/// The kernel's sizes for an input `[batch, channels, space…]`, and the shape of the output.
fn sizes(op: &Pool, node: &str, shape: &[usize]) -> Result<(kernels::Pool, Vec<usize>), Error> {
    let count = |(length, span): (&usize, &graph::ops::Span)| span.count(*length, op.ceil);
    let output: Option<Vec<usize>> = shape[2..].iter().zip(&op.window).map(count).collect();
    let unfit = || Error::Unrunnable { node: node.into(), reason: format!("windows do not fit {shape:?}") };
    let (output, spans) = (output.ok_or_else(unfit)?, spans(node, &op.window)?);
    let pool = kernels::Pool {
        planes: shape[0] * shape[1],
        input: plane(node, &shape[2..], 1)?,
        output: plane(node, &output, 1)?,
        kernel: spans.map(|s| s.size),
        stride: spans.map(|s| s.stride),
        dilation: spans.map(|s| s.dilation),
        pads: spans.map(|s| s.pad),
    };
    Ok((pool, [&shape[..2], &output].concat()))
}

fn divisor(count_padding: bool) -> Divisor {
    if count_padding { Divisor::Padded } else { Divisor::Present }
}

impl<R: Scalar> Rule<R> for Pool {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let (pool, shape) = sizes(self, &cx.node.name, x.shape())?;
        let mut y = cx.pool.tensor(shape);
        match self.kind {
            PoolKind::Max => kernels::max_pool(&pool, x.data(), y.data_mut()),
            PoolKind::Average { count_padding } => {
                kernels::average_pool(&pool, divisor(count_padding), x.data(), y.data_mut());
            }
        }
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (dy, shape) = (cx.grad(0)?, cx.shape(0)?.to_vec());
        let (pool, _) = sizes(self, &cx.node.name, &shape)?;
        match self.kind {
            PoolKind::Max => {
                let x = cx.input(0)?;
                cx.input_grad(0, &shape, |dx, write| kernels::max_pool_grad(&pool, x.data(), dy.data(), dx, write));
            }
            PoolKind::Average { count_padding } => {
                let divisor = divisor(count_padding);
                cx.input_grad(0, &shape, |dx, write| {
                    kernels::average_pool_grad(&pool, divisor, dy.data(), dx, write);
                });
            }
        }
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        self.kind == PoolKind::Max
    }
}
