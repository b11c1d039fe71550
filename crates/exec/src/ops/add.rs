//! `a + b`, over whichever input nothing else reads. Backward: `dy` to both.

use super::{Rule, binary};
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Add;

impl<R: Scalar> Rule<R> for Add {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        if cx.float(0)?.shape() != cx.float(1)?.shape() {
            return binary::forward(kernels::Binary::Add, cx);
        }
        let into = if cx.dying(0) { 0 } else { 1 };
        let mut y = cx.owned(into)?;
        kernels::add_assign(y.data_mut(), cx.float(1 - into)?.data());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        if cx.shape(0)? != cx.shape(1)? {
            return binary::backward(kernels::Binary::Add, cx);
        }
        let dy = cx.grad(0)?;
        cx.input_grad(1, dy.shape(), |db, write| kernels::scale(R::ONE, dy.data(), db, write));
        cx.add_grad(0, dy);
        Ok(())
    }
}
