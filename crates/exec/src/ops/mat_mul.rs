//! Products of matrices, outer axes stretched to a common shape. Backward: `dA += dY · Bᵀ`, `dB += Aᵀ · dY`, over all that share a matrix.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::MatMul;
use kernels::{MatMut, MatRef, Pair, Write};

/// Which matrices are multiplied for each matrix of the result, and their sizes.
struct Products {
    shape: Vec<usize>,
    /// Matrix of `a`, matrix of `b`, for each of the result.
    pairs: Vec<(usize, usize)>,
    rows: usize,
    depth: usize,
    cols: usize,
}

impl Products {
    fn new(node: &str, a: &[usize], b: &[usize]) -> Result<Products, Error> {
        let wrong = || Error::Unrunnable { node: node.into(), reason: format!("{a:?} times {b:?}") };
        let ([outer_a @ .., rows, depth], [outer_b @ .., _, cols]) = (a, b) else { return Err(wrong()) };
        let outer = Pair::new(outer_a, outer_b).ok_or_else(wrong)?;
        let outer = outer.shape();
        let count: usize = outer.iter().product();
        let pairs = (0..count).map(|at| (stretched(outer, outer_a, at), stretched(outer, outer_b, at))).collect();
        Ok(Products { shape: [outer, &[*rows, *cols]].concat(), pairs, rows: *rows, depth: *depth, cols: *cols })
    }

    /// `see(part of a, part of b, part of y)`, as ranges of elements.
    fn each(&self, mut see: impl FnMut(usize, usize, usize)) {
        let (a, b, y) = (self.rows * self.depth, self.depth * self.cols, self.rows * self.cols);
        self.pairs.iter().enumerate().for_each(|(n, pair)| see(pair.0 * a, pair.1 * b, n * y));
    }
}

/// The place in `own` of place `at` in the shape that it stretches to.
fn stretched(outer: &[usize], own: &[usize], mut at: usize) -> usize {
    let (mut place, mut stride) = (0, 1);
    for (axis, length) in outer.iter().enumerate().rev() {
        let index = at % length;
        at /= length;
        if let Some(mine) = (axis + own.len()).checked_sub(outer.len()).map(|axis| own[axis]) {
            place += if mine == 1 { 0 } else { index * stride };
            stride *= mine;
        }
    }
    place
}

impl<R: Scalar> Rule<R> for MatMul {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let (a, b) = (cx.float(0)?, cx.float(1)?);
        let products = Products::new(&cx.node.name, a.shape(), b.shape())?;
        let (rows, depth, cols) = (products.rows, products.depth, products.cols);
        let mut y = cx.pool.tensor(products.shape.clone());
        products.each(|at_a, at_b, at| {
            let a = MatRef::new(&a.data()[at_a..], rows, depth);
            let b = MatRef::new(&b.data()[at_b..], depth, cols);
            kernels::matmul(R::ONE, a, b, MatMut::new(&mut y.data_mut()[at..], rows, cols), Write::Set);
        });
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (a, b, dy) = (cx.input(0)?, cx.input(1)?, cx.grad(0)?);
        let products = Products::new(&cx.node.name, a.shape(), b.shape())?;
        let (rows, depth, cols) = (products.rows, products.depth, products.cols);
        for (input, of) in [&a, &b].into_iter().enumerate() {
            cx.input_grad(input, of.shape(), |d, write| {
                if write == Write::Set {
                    d.fill(R::ZERO);
                }
                products.each(|at_a, at_b, at| {
                    let dy = MatRef::new(&dy.data()[at..], rows, cols);
                    if input == 0 {
                        let b = MatRef::new(&b.data()[at_b..], depth, cols);
                        kernels::matmul(R::ONE, dy, b.t(), MatMut::new(&mut d[at_a..], rows, depth), Write::Add);
                    } else {
                        let a = MatRef::new(&a.data()[at_a..], rows, depth);
                        kernels::matmul(R::ONE, a.t(), dy, MatMut::new(&mut d[at_b..], depth, cols), Write::Add);
                    }
                });
            });
        }
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
