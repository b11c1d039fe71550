//! A value stretched to a shape. Backward: sums over the axes along which it repeated.

use super::Rule;
use super::binary::add_stretched;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Expand;
use kernels::{Walk, Write};

impl<R: Scalar> Rule<R> for Expand {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let (x, size) = (cx.float(0)?, cx.size());
        let mut y = cx.pool.tensor(self.shape.iter().map(|dim| size.of(*dim)).collect());
        let walk = Walk::broadcast(x.shape(), y.shape());
        kernels::walk(&walk, x.data(), y.data_mut(), Write::Set);
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        add_stretched(cx, 0, dy)
    }
}
