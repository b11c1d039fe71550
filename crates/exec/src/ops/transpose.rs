//! The axes in another order. Backward: the order undone.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Transpose;
use kernels::{Walk, Write};

impl<R: Scalar> Rule<R> for Transpose {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let walk = Walk::transpose(x.shape(), &self.order);
        let mut y = cx.pool.tensor(walk.shape.clone());
        kernels::walk(&walk, x.data(), y.data_mut(), Write::Set);
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (dy, shape) = (cx.grad(0)?, cx.shape(0)?.to_vec());
        let walk = Walk::transpose(&shape, &self.order).reversed();
        cx.input_grad(0, &shape, |dx, write| kernels::walk(&walk, dy.data(), dx, write));
        cx.recycle(dy);
        Ok(())
    }
}
