//! Softmax along an axis, in place, or its logarithm. The backward reads the result.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Softmax;
use kernels::Along;

impl<R: Scalar> Rule<R> for Softmax {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let mut y = cx.owned(0)?;
        let along = Along::axis(y.shape(), self.axis);
        kernels::softmax_along(along, self.log, y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (y, dy) = (cx.output(0)?, cx.grad(0)?);
        let along = Along::axis(y.shape(), self.axis);
        cx.input_grad(0, y.shape(), |dx, write| {
            kernels::softmax_along_grad(along, self.log, y.data(), dy.data(), dx, write);
        });
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_outputs(&self) -> bool {
        true
    }
}
