//! Rows of a table by id. Backward: each row's gradient is added to its id's, in the order of the tokens.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Embedding;

impl<R: Scalar> Rule<R> for Embedding {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let ids = cx.index(0)?;
        let table = cx.weights.store().get(self.weight);
        let (vocab, width) = (table.rows(), table.cols());
        let mut shape = ids.shape().to_vec();
        shape.push(width);
        let mut y = cx.pool.tensor(shape);
        for (id, row) in ids.data().iter().zip(y.data_mut().chunks_exact_mut(width)) {
            if *id as usize >= vocab {
                return Err(Error::Token { node: cx.node.name.clone(), id: *id, vocab });
            }
            cx.weights.row(&cx.node.name, self.weight, *id as usize, row)?;
        }
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (ids, dy) = (cx.index(0)?, cx.grad(0)?);
        let width = dy.width();
        cx.weight_grad(self.weight, |dw| {
            for (id, row) in ids.data().iter().zip(dy.data().chunks_exact(width)) {
                let at = *id as usize * width;
                dw[at..at + width].iter_mut().zip(row).for_each(|(dw, dy)| *dw += *dy);
            }
        });
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
