//! Local response normalisation across channels.

use super::Rule;
use super::conv::channels;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Lrn;

fn rule(op: &Lrn) -> kernels::Lrn {
    let [alpha, beta, bias] = [op.alpha, op.beta, op.bias].map(f64::from);
    kernels::Lrn { size: op.size, alpha, beta, bias }
}

impl<R: Scalar> Rule<R> for Lrn {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let mut y = cx.pool.tensor(x.shape().to_vec());
        kernels::lrn(&rule(self), &channels(x.shape()), x.data(), y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (x, dy) = (cx.input(0)?, cx.grad(0)?);
        cx.input_grad(0, x.shape(), |dx, write| {
            kernels::lrn_grad(&rule(self), &channels(x.shape()), x.data(), dy.data(), dx, write);
        });
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
