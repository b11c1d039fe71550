//! Numbers rounded to a grid and back. Backward: `dy` passes where nothing was clamped; the scale has LSQ's gradient.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::FakeQuant;
use kernels::{Along, QuantRange};

/// The kernel's view of the op.
fn quant<'a, R: Scalar>(op: &'a FakeQuant, shape: &[usize], scales: &'a [R]) -> kernels::FakeQuant<'a, R> {
    let along = match op.axis {
        Some(axis) => Along::axis(shape, axis),
        None => Along { outer: 1, length: 1, inner: shape.iter().product() },
    };
    let (low, high) = op.levels.range();
    // Codes have at most 32 bits.
    kernels::FakeQuant { along, range: QuantRange { low: low as i32, high: high as i32 }, scales, zeros: &op.zero }
}

impl<R: Scalar> Rule<R> for FakeQuant {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let mut y = cx.pool.tensor(x.shape().to_vec());
        kernels::fake_quant(&quant(self, x.shape(), cx.weights.full(self.scale)?), x.data(), y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (x, dy) = (cx.input(0)?, cx.grad(0)?);
        let quant = quant(self, x.shape(), cx.weights.full(self.scale)?);
        cx.weight_grad(self.scale, |ds| kernels::fake_quant_grad_scale(&quant, x.data(), dy.data(), ds));
        cx.input_grad(0, x.shape(), |dx, write| kernels::fake_quant_grad(&quant, x.data(), dy.data(), dx, write));
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
