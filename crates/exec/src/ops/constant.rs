//! A weight as a value. Backward: `dW += dy`.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Constant;

impl<R: Scalar> Rule<R> for Constant {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let mut y = cx.pool.tensor(cx.weights.store().get(self.weight).shape.clone());
        y.data_mut().copy_from_slice(cx.weights.full(self.weight)?);
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        cx.weight_grad(self.weight, |dw| kernels::add_assign(dw, dy.data()));
        cx.recycle(dy);
        Ok(())
    }
}
