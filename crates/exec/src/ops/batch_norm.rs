//! Batch norm. With live statistics the batch's own mean and variance are used and kept for the backward, and the running ones
//! follow; else the running ones are used, and nothing flows into them.

use super::Rule;
use super::conv::channels;
use crate::backward::Backward;
use crate::forward::{BatchStatistics, Forward, Update};
use crate::{Data, Error, Scalar, Weights};
use graph::ops::BatchNorm;
use kernels::{Affine, Moments, NormGrads};

fn affine<'a, R: Scalar>(op: &BatchNorm, weights: &'a Weights<R>) -> Result<Affine<'a, R>, Error> {
    Ok(Affine { weight: weights.full(op.scale)?, bias: weights.full(op.bias)? })
}

fn kept<R: Scalar>(op: &BatchNorm, weights: &Weights<R>) -> Result<Vec<Moments<R>>, Error> {
    Ok(weights.full(op.mean)?.iter().zip(weights.full(op.var)?).map(|(mean, var)| [*mean, *var]).collect())
}

impl<R: Scalar> Rule<R> for BatchNorm {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let shape = channels(x.shape());
        let moments = match cx.statistics {
            BatchStatistics::Kept => kept(self, cx.weights)?,
            BatchStatistics::Live { momentum } => {
                let moments = kernels::channel_moments(&shape, x.data());
                let keep = momentum.unwrap_or(self.momentum);
                for (n, weight) in [self.mean, self.var].into_iter().enumerate() {
                    cx.updates.push(Update { weight, keep, toward: moments.iter().map(|m| m[n]).collect() });
                }
                cx.save(moments.as_flattened().to_vec());
                moments
            }
        };
        let mut y = cx.pool.tensor(x.shape().to_vec());
        kernels::batch_norm(&shape, x.data(), &affine(self, cx.weights)?, &moments, self.eps, y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (x, dy) = (cx.input(0)?, cx.grad(0)?);
        let live = cx.saved().ok();
        let moments = match &live {
            Some(saved) => saved.as_chunks::<2>().0.to_vec(),
            None => kept(self, cx.weights)?,
        };
        let (shape, affine) = (channels(x.shape()), affine(self, cx.weights)?);
        let (mut dw, mut db) = (vec![R::ZERO; shape.channels], vec![R::ZERO; shape.channels]);
        let mut dx = cx.wants(0).then(|| cx.open(0, x.shape()));
        let grads = NormGrads { dx: dx.as_mut().map(|(dx, write)| (dx.data_mut(), *write)), dw: &mut dw, db: &mut db };
        kernels::batch_norm_grad(&shape, x.data(), &affine, &moments, self.eps, live.is_some(), dy.data(), grads);
        dx.into_iter().for_each(|(dx, _)| cx.close(0, dx));
        cx.weight_grad(self.scale, |total| kernels::add_assign(total, &dw));
        cx.weight_grad(self.bias, |total| kernels::add_assign(total, &db));
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
