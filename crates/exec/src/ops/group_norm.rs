//! Group and instance norm. The forward keeps each group's mean and variance for the backward.

use super::Rule;
use super::conv::channels;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::GroupNorm;
use kernels::{Affine, NormGrads};

impl<R: Scalar> Rule<R> for GroupNorm {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let shape = channels(x.shape());
        let affine = Affine { weight: cx.weights.full(self.scale)?, bias: cx.weights.full(self.bias)? };
        let moments = kernels::group_moments(&shape, self.groups, x.data());
        let mut y = cx.pool.tensor(x.shape().to_vec());
        kernels::group_norm(&shape, self.groups, x.data(), &affine, &moments, self.eps, y.data_mut());
        cx.save(moments.into_flattened());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (x, dy, saved) = (cx.input(0)?, cx.grad(0)?, cx.saved()?);
        let shape = channels(x.shape());
        let affine = Affine { weight: cx.weights.full(self.scale)?, bias: cx.weights.full(self.bias)? };
        let (mut dw, mut db) = (vec![R::ZERO; shape.channels], vec![R::ZERO; shape.channels]);
        let mut dx = cx.wants(0).then(|| cx.open(0, x.shape()));
        let grads = NormGrads { dx: dx.as_mut().map(|(dx, write)| (dx.data_mut(), *write)), dw: &mut dw, db: &mut db };
        let moments = saved.as_chunks::<2>().0;
        kernels::group_norm_grad(&shape, self.groups, x.data(), &affine, moments, self.eps, dy.data(), grads);
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
