//! Chosen indices of some axes, one axis after the other. Backward: gradients go back to where they were read.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Select;
use kernels::Along;

impl<R: Scalar> Rule<R> for Select {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let mut x = cx.owned(0)?;
        for pick in &self.picks {
            let mut shape = x.shape().to_vec();
            let along = Along::axis(&shape, pick.axis);
            shape[pick.axis] = pick.indices.len();
            let mut y = cx.pool.tensor(shape);
            kernels::take(along, x.data(), &pick.indices, y.data_mut());
            cx.pool.give(std::mem::replace(&mut x, y).into_data());
        }
        Ok(vec![x.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let mut d = cx.grad(0)?;
        let mut shapes = vec![cx.shape(0)?.to_vec()];
        for pick in &self.picks {
            let mut next = shapes[shapes.len() - 1].clone();
            next[pick.axis] = pick.indices.len();
            shapes.push(next);
        }
        for (pick, shape) in self.picks.iter().zip(&shapes).rev() {
            let mut dx = cx.pool.tensor(shape.clone());
            dx.data_mut().fill(R::ZERO);
            kernels::take_grad(Along::axis(shape, pick.axis), d.data(), &pick.indices, dx.data_mut());
            cx.recycle(std::mem::replace(&mut d, dx));
        }
        cx.add_grad(0, d);
        Ok(())
    }
}
