//! One number for all along some axes, one run of neighbouring axes after the other. Backward: sums and means spread their
//! gradient; the greatest and the least give it to the first element that attains them.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar, Tensor};
use graph::ops::{Reduce, ReduceKind};
use kernels::{Along, Fold, Walk};

/// Runs of neighbouring axes, last first, and the shape with those axes of length 1.
fn runs(op: &Reduce, shape: &[usize]) -> (Vec<Along>, Vec<usize>) {
    let (mut kept, mut runs) = (shape.to_vec(), Vec::new());
    let mut end = op.axes.len();
    while let Some(last) = end.checked_sub(1).map(|n| op.axes[n]) {
        let mut first = last;
        end -= 1;
        while end > 0 && op.axes[end - 1] + 1 == first {
            first -= 1;
            end -= 1;
        }
        let length = kept[first..=last].iter().product();
        runs.push(Along { outer: kept[..first].iter().product(), length, inner: kept[last + 1..].iter().product() });
        kept[first..=last].fill(1);
    }
    (runs, kept)
}

fn fold(kind: ReduceKind) -> Fold {
    match kind {
        ReduceKind::Mean | ReduceKind::Sum => Fold::Sum,
        ReduceKind::Max => Fold::Max,
        ReduceKind::Min => Fold::Min,
    }
}

/// What the sum of all that become one number is multiplied by.
fn factor<R: Scalar>(op: &Reduce, shape: &[usize]) -> R {
    match op.kind {
        ReduceKind::Mean => R::from_f64(1.0 / op.axes.iter().map(|axis| shape[*axis]).product::<usize>().max(1) as f64),
        _ => R::ONE,
    }
}

impl<R: Scalar> Rule<R> for Reduce {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.owned(0)?;
        let (runs, kept) = runs(self, x.shape());
        let factor = factor::<R>(self, x.shape());
        let shape = match self.keep {
            true => kept,
            false => (0..kept.len()).filter(|axis| !self.axes.contains(axis)).map(|axis| kept[axis]).collect(),
        };
        let mut data = x.into_data();
        for run in runs {
            let mut folded = cx.pool.take(run.outer * run.inner);
            kernels::fold(fold(self.kind), run, &data, &mut folded);
            cx.pool.give(std::mem::replace(&mut data, folded));
        }
        if self.kind == ReduceKind::Mean {
            data.iter_mut().for_each(|x| *x *= factor);
        }
        Ok(vec![Tensor::new(shape, data)?.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (mut dy, shape) = (cx.grad(0)?, cx.shape(0)?.to_vec());
        let (runs, kept) = runs(self, &shape);
        if let ReduceKind::Mean | ReduceKind::Sum = self.kind {
            let factor = factor::<R>(self, &shape);
            dy.data_mut().iter_mut().for_each(|dy| *dy *= factor);
            let walk = Walk::broadcast(&kept, &shape);
            cx.input_grad(0, &shape, |dx, write| kernels::walk(&walk, dy.data(), dx, write));
        } else {
            let [along] = runs[..] else {
                let reason = format!("no gradient of {:?} over axes {:?}, which lie apart", self.kind, self.axes);
                return Err(Error::Unrunnable { node: cx.node.name.clone(), reason });
            };
            let (x, y) = (cx.input(0)?, cx.output(0)?);
            cx.input_grad(0, &shape, |dx, write| {
                kernels::extreme_grad(along, x.data(), y.data(), dy.data(), dx, write);
            });
        }
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        matches!(self.kind, ReduceKind::Max | ReduceKind::Min)
    }

    fn keeps_outputs(&self) -> bool {
        matches!(self.kind, ReduceKind::Max | ReduceKind::Min)
    }
}
