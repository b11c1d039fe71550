//! Consecutive parts of an axis. Backward: the parts' gradients side by side, zeros for a part without one.

use super::Rule;
use super::concat::{cut, paste};
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Split;
use kernels::Write;

impl<R: Scalar> Rule<R> for Split {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let mut offset = 0;
        let mut part = |length: usize| {
            let mut shape = x.shape().to_vec();
            shape[self.axis] = length;
            let mut y = cx.pool.tensor(shape);
            cut(&x, self.axis, offset, length, y.data_mut(), Write::Set);
            offset += length;
            y.into()
        };
        Ok(self.widths.iter().map(|w| part(*w)).collect())
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let grads: Vec<_> = (0..self.widths.len()).map(|n| cx.grad(n).ok()).collect();
        let shape = cx.shape(0)?.to_vec();
        let (mut dx, mut offset) = (cx.pool.tensor(shape.clone()), 0);
        for (length, grad) in self.widths.iter().zip(grads) {
            let mut part = shape.clone();
            part[self.axis] = *length;
            match grad {
                Some(dy) => {
                    paste(&mut dx, self.axis, offset, &part, dy.data());
                    cx.recycle(dy);
                }
                None => paste(&mut dx, self.axis, offset, &part, &vec![R::ZERO; part.iter().product()]),
            }
            offset += length;
        }
        cx.add_grad(0, dx);
        Ok(())
    }
}
