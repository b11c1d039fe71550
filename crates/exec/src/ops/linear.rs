//! `y = x · Wᵀ + b`. Backward: `dx = dy · W`, `dW += dyᵀ · x`, `db += Σ dy`.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Linear;
use kernels::Write;

impl<R: Scalar> Rule<R> for Linear {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let outputs = cx.weights.store().get(self.weight).rows();
        let mut y = cx.pool.tensor(x.shape_with_width(outputs));
        cx.weights.linear(x.data(), self.weight, self.bias, y.data_mut())?;
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        let outputs = dy.width();
        if cx.trains(self.weight) {
            let x = cx.input(0)?;
            cx.weight_grad(self.weight, |dw| {
                kernels::linear_grad_weight(dy.data(), x.data(), dw, x.width(), outputs, Write::Add);
            });
        }
        if let Some(bias) = self.bias {
            cx.weight_grad(bias, |db| kernels::linear_grad_bias(dy.data(), db));
        }
        if cx.wants(0) {
            let (weight, inputs) = (cx.weights.full(self.weight)?, cx.weights.store().get(self.weight).cols());
            cx.input_grad(0, &dy.shape_with_width(inputs), |dx, write| {
                kernels::linear_grad_input(dy.data(), weight, dx, inputs, outputs, write);
            });
        }
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
