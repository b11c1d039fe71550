//! Values side by side along an axis. Backward: each its part of `dy`.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar, Tensor};
use graph::ops::Concat;
use kernels::{Along, Write};

/// Copies or adds the part `offset..` of `along` in the whole to or from a contiguous part.
pub(super) fn part(
    whole: Along,
    offset: usize,
    length: usize,
) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let run = length * whole.inner;
    (0..whole.outer).map(move |outer| {
        let start = (outer * whole.length + offset) * whole.inner;
        (outer * run, start..start + run)
    })
}

/// The part of `x` from `offset` on along an axis, as long as `to`.
pub(super) fn cut<R: Scalar>(x: &Tensor<R>, axis: usize, offset: usize, length: usize, to: &mut [R], write: Write) {
    for (start, from) in part(Along::axis(x.shape(), axis), offset, length) {
        let to = &mut to[start..start + from.len()];
        match write {
            Write::Set => to.copy_from_slice(&x.data()[from]),
            Write::Add => to.iter_mut().zip(&x.data()[from]).for_each(|(to, x)| *to += *x),
        }
    }
}

/// Puts a part into its place.
pub(super) fn paste<R: Scalar>(y: &mut Tensor<R>, axis: usize, offset: usize, part_shape: &[usize], from: &[R]) {
    for (start, to) in part(Along::axis(y.shape(), axis), offset, part_shape[axis]) {
        let count = to.len();
        y.data_mut()[to].copy_from_slice(&from[start..start + count]);
    }
}

impl<R: Scalar> Rule<R> for Concat {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let parts = (0..cx.node.inputs.len()).map(|n| cx.float(n)).collect::<Result<Vec<_>, _>>()?;
        let mut shape = parts[0].shape().to_vec();
        shape[self.axis] = parts.iter().map(|part| part.shape()[self.axis]).sum();
        let (mut y, mut offset) = (cx.pool.tensor(shape), 0);
        for part in parts {
            paste(&mut y, self.axis, offset, part.shape(), part.data());
            offset += part.shape()[self.axis];
        }
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (dy, mut offset) = (cx.grad(0)?, 0);
        for input in 0..cx.node.inputs.len() {
            let shape = cx.shape(input)?.to_vec();
            let length = shape[self.axis];
            cx.input_grad(input, &shape, |dx, write| cut(&dy, self.axis, offset, length, dx, write));
            offset += length;
        }
        cx.recycle(dy);
        Ok(())
    }
}
