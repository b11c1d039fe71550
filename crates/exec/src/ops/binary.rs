//! Functions of two numbers, stretched to a common shape. Backward: `dy` times the slope, summed over the axes along which an
//! operand repeated. [`graph::ops::Add`] and [`graph::ops::Mul`] come here where their shapes differ.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar, Tensor};
use graph::ops::Binary;
use kernels::{Pair, Side, Walk, Write};

fn function(op: Binary) -> kernels::Binary {
    match op {
        Binary::Sub => kernels::Binary::Sub,
        Binary::Div => kernels::Binary::Div,
        Binary::Pow => kernels::Binary::Pow,
        Binary::Max => kernels::Binary::Max,
        Binary::Min => kernels::Binary::Min,
        Binary::Slope => kernels::Binary::PRelu,
    }
}

/// How two shapes stretch.
fn pair(node: &str, a: &[usize], b: &[usize]) -> Result<Pair, Error> {
    let wrong = || Error::Unrunnable { node: node.into(), reason: format!("shapes {a:?} and {b:?} do not stretch") };
    Pair::new(a, b).ok_or_else(wrong)
}

/// `y = f(a, b)`.
pub(super) fn forward<R: Scalar>(op: kernels::Binary, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
    let (a, b) = (cx.float(0)?, cx.float(1)?);
    let pair = pair(&cx.node.name, a.shape(), b.shape())?;
    let mut y = cx.pool.tensor(pair.shape().to_vec());
    kernels::binary(op, &pair, a.data(), b.data(), y.data_mut());
    Ok(vec![y.into()])
}

/// The gradients of both operands.
pub(super) fn backward<R: Scalar>(op: kernels::Binary, cx: &mut Backward<'_, R>) -> Result<(), Error> {
    let dy = cx.grad(0)?;
    for (input, side) in [Side::A, Side::B].into_iter().enumerate() {
        if !cx.wants(input) {
            continue;
        }
        let mut d = cx.pool.copy(&dy);
        match (op, side) {
            (kernels::Binary::Add, _) | (kernels::Binary::Sub, Side::A) => {}
            (kernels::Binary::Sub, Side::B) => d.data_mut().iter_mut().for_each(|d| *d = -*d),
            _ => {
                let (a, b) = (cx.input(0)?, cx.input(1)?);
                let pair = pair(&cx.node.name, a.shape(), b.shape())?;
                kernels::binary_grad(op, &pair, side, a.data(), b.data(), d.data_mut());
            }
        }
        add_stretched(cx, input, d)?;
    }
    cx.recycle(dy);
    Ok(())
}

/// Adds to an input's gradient that of the input after it stretched to the shape of `d`.
pub(super) fn add_stretched<R: Scalar>(cx: &mut Backward<'_, R>, input: usize, d: Tensor<R>) -> Result<(), Error> {
    let shape = cx.shape(input)?.to_vec();
    if shape == d.shape() {
        cx.add_grad(input, d);
        return Ok(());
    }
    let walk = Walk::broadcast(&shape, d.shape()).reversed();
    cx.input_grad(input, &shape, |to, write| {
        if write == Write::Set {
            to.fill(R::ZERO);
        }
        kernels::walk(&walk, d.data(), to, Write::Add);
    });
    cx.recycle(d);
    Ok(())
}

impl<R: Scalar> Rule<R> for Binary {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        forward(function(*self), cx)
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        backward(function(*self), cx)
    }

    fn keeps_input(&self, _input: usize) -> bool {
        *self != Binary::Sub
    }
}
