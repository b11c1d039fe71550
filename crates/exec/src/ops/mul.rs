//! `a · b`. Backward: `da = dy · b`, `db = dy · a`.

use super::{Rule, binary};
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Mul;
use kernels::Write;

impl<R: Scalar> Rule<R> for Mul {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let (a, b) = (cx.float(0)?, cx.float(1)?);
        if a.shape() != b.shape() {
            return binary::forward(kernels::Binary::Mul, cx);
        }
        let mut y = cx.pool.tensor(a.shape().to_vec());
        kernels::mul(a.data(), b.data(), y.data_mut(), Write::Set);
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (a, b) = (cx.input(0)?, cx.input(1)?);
        if a.shape() != b.shape() {
            return binary::backward(kernels::Binary::Mul, cx);
        }
        let dy = cx.grad(0)?;
        cx.input_grad(0, a.shape(), |da, write| kernels::mul(dy.data(), b.data(), da, write));
        cx.input_grad(1, b.shape(), |db, write| kernels::mul(dy.data(), a.data(), db, write));
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
