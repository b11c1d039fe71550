//! Consecutive parts of the last axis. Backward: the parts' gradients side by side, zeros for a part without one.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Split;

impl<R: Scalar> Rule<R> for Split {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let mut offset = 0;
        let mut part = |width: usize| {
            let mut y = cx.pool.tensor(x.shape_with_width(width));
            for (y, x) in y.data_mut().chunks_exact_mut(width.max(1)).zip(x.data().chunks_exact(x.width())) {
                y.copy_from_slice(&x[offset..offset + width]);
            }
            offset += width;
            y.into()
        };
        Ok(self.widths.iter().map(|w| part(*w)).collect())
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let grads: Vec<_> = (0..self.widths.len()).map(|n| cx.grad(n).ok()).collect();
        let Some(shape) = grads.iter().flatten().map(|g| g.shape_with_width(self.widths.iter().sum())).next() else {
            return Ok(());
        };
        let mut dx = cx.pool.tensor(shape);
        let (total, mut offset) = (dx.width(), 0);
        for (width, grad) in self.widths.iter().zip(grads) {
            let rows = dx.data_mut().chunks_exact_mut(total).map(|row| &mut row[offset..offset + width]);
            match &grad {
                Some(dy) => rows.zip(dy.data().chunks_exact(*width)).for_each(|(dx, dy)| dx.copy_from_slice(dy)),
                None => rows.for_each(|dx| dx.fill(R::ZERO)),
            }
            grad.into_iter().for_each(|grad| cx.recycle(grad));
            offset += width;
        }
        cx.add_grad(0, dx);
        Ok(())
    }
}
