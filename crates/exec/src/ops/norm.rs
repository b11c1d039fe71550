//! RMS and layer norm of runs of `size` numbers. The forward keeps each run's statistics for the backward.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar, Weights};
use graph::WeightId;
use graph::ops::{Norm, NormKind};

/// `w + offset`: layer norm's kernel knows no offset.
fn shifted<R: Scalar>(op: &Norm, weight: &[R]) -> Vec<R> {
    weight.iter().map(|w| *w + R::from_f64(op.offset)).collect()
}

fn bias<'a, R: Scalar>(op: &Norm, weights: &'a Weights<R>) -> Result<Option<&'a [R]>, Error> {
    op.bias.map(|id: WeightId| weights.full(id)).transpose()
}

impl<R: Scalar> Rule<R> for Norm {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let (weight, bias) = (cx.weights.full(self.weight)?, bias(self, cx.weights)?);
        let (offset, eps) = (R::from_f64(self.offset), R::from_f64(self.eps));
        let mut y = cx.pool.tensor(x.shape().to_vec());
        let runs = x.data().len() / self.size;
        let mut statistics;
        match self.kind {
            NormKind::Rms => {
                statistics = cx.pool.take(runs);
                kernels::rms_norm(x.data(), weight, offset, eps, y.data_mut(), &mut statistics);
                if let Some(bias) = bias {
                    let runs = y.data_mut().chunks_exact_mut(self.size);
                    runs.for_each(|run| run.iter_mut().zip(bias).for_each(|(y, b)| *y += *b));
                }
            }
            NormKind::Layer => {
                statistics = cx.pool.take(2 * runs);
                let (pairs, _) = statistics.as_chunks_mut::<2>();
                kernels::layer_norm(x.data(), &shifted(self, weight), bias, eps, y.data_mut(), pairs);
            }
        }
        cx.save(statistics);
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (x, dy, statistics) = (cx.input(0)?, cx.grad(0)?, cx.saved()?);
        let weight = cx.weights.full(self.weight)?;
        let (mut dw, mut db) = (vec![R::ZERO; self.size], vec![R::ZERO; self.size]);
        let offset = R::from_f64(self.offset);
        let (mut dx, write) = cx.open(0, x.shape());
        match self.kind {
            NormKind::Rms => {
                let (dx, dw) = (dx.data_mut(), Some(&mut dw[..]));
                kernels::rms_norm_grad(x.data(), weight, offset, &statistics, dy.data(), dx, dw, write);
                if self.bias.is_some() {
                    kernels::linear_grad_bias(dy.data(), &mut db);
                }
            }
            NormKind::Layer => {
                let (pairs, _) = statistics.as_chunks::<2>();
                let (dx, dw, db) = (dx.data_mut(), Some(&mut dw[..]), Some(&mut db[..]));
                kernels::layer_norm_grad(x.data(), &shifted(self, weight), pairs, dy.data(), dx, dw, db, write);
            }
        }
        cx.close(0, dx);
        cx.weight_grad(self.weight, |total| kernels::add_assign(total, &dw));
        if let Some(bias) = self.bias {
            cx.weight_grad(bias, |total| kernels::add_assign(total, &db));
        }
        cx.pool.give(statistics);
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
