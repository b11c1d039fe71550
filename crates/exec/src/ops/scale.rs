//! Every number times a constant. Backward: `dx = factor · dy`.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Scale;
use kernels::Write;

impl<R: Scalar> Rule<R> for Scale {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let mut y = cx.pool.tensor(x.shape().to_vec());
        kernels::scale(R::from_f32(self.factor), x.data(), y.data_mut(), Write::Set);
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        let factor = R::from_f32(self.factor);
        cx.input_grad(0, dy.shape(), |dx, write| kernels::scale(factor, dy.data(), dx, write));
        cx.recycle(dy);
        Ok(())
    }
}
