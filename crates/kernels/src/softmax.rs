//! Softmax and log-softmax of rows, with the largest element subtracted first.

use crate::parallel::{Rows, map_rows};
use crate::real::Real;
use crate::simd::{LANES, dot, lane_sum, maximum, vectorised};

/// `Σ e^{x − shift}`: lanes within blocks of 256, blocks in `f64`, so that a vocabulary of any size loses nothing.
#[inline(always)]
pub(crate) fn sum_exp<R: Real>(x: &[R], shift: R) -> f64 {
    let mut total = 0.0;
    for block in x.chunks(16 * LANES) {
        total += lane_sum([block], |[x], sum| sum + (x - shift).exp()).to_f64();
    }
    total
}

/// `ln Σ e^x`; minus infinity for a row of minus infinities.
#[inline(always)]
pub(crate) fn log_sum_exp<R: Real>(x: &[R]) -> f64 {
    let top = maximum(x);
    if top == R::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    top.to_f64() + sum_exp(x, top).ln()
}

vectorised! {
    fn softmax_here<R: Real>(x: &mut [R], cols: usize) {
        for row in x.chunks_exact_mut(cols) {
            let top = maximum(row);
            row.iter_mut().for_each(|x| *x = (*x - top).exp());
            let sum: f64 = row.chunks(256).map(|block| lane_sum([block], |[x], sum| sum + x).to_f64()).sum();
            let inverse = R::from_f64(1.0 / sum);
            row.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}

vectorised! {
    fn log_softmax_here<R: Real>(x: &mut [R], cols: usize) {
        for row in x.chunks_exact_mut(cols) {
            let norm = R::from_f64(log_sum_exp(row));
            row.iter_mut().for_each(|x| *x -= norm);
        }
    }
}

vectorised! {
    fn softmax_grad_here<R: Real>(y: &[R], dy: &[R], dx: &mut [R], cols: usize) {
        for ((y, dy), dx) in y.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols)) {
            let mean = dot(y, dy);
            dx.iter_mut().zip(y).zip(dy).for_each(|((dx, &y), &dy)| *dx = y * (dy - mean));
        }
    }
}

/// Replaces each row of `cols` elements by its softmax.
///
/// # Panics
/// When `x` is not whole rows.
pub fn softmax_rows<R: Real>(x: &mut [R], cols: usize) {
    each_row_block(x, cols, |x| softmax_here(x, cols));
}

/// Replaces each row of `cols` elements by the logarithm of its softmax.
///
/// # Panics
/// When `x` is not whole rows.
pub fn log_softmax_rows<R: Real>(x: &mut [R], cols: usize) {
    each_row_block(x, cols, |x| log_softmax_here(x, cols));
}

/// The gradient of [`softmax_rows`] from its result `y`: `dx = y·(dy − Σ y·dy)`.
///
/// # Panics
/// When the lengths do not agree.
pub fn softmax_rows_grad<R: Real>(y: &[R], dy: &[R], dx: &mut [R], cols: usize) {
    assert!(y.len() == dx.len() && dy.len() == dx.len(), "softmax gradient of unlike lengths");
    let rows = rows(dx.len(), cols);
    map_rows(rows, Rows::new(dx, cols), Rows::<R>::none(), |rows, dx, _| {
        let span = rows.start * cols..rows.end * cols;
        softmax_grad_here(&y[span.clone()], &dy[span], dx, cols);
    });
}

fn each_row_block<R: Real>(x: &mut [R], cols: usize, work: impl Fn(&mut [R]) + Sync + Send) {
    let rows = rows(x.len(), cols);
    map_rows(rows, Rows::new(x, cols), Rows::<R>::none(), |_, x, _| work(x));
}

/// How many rows of `cols` elements there are.
pub(crate) fn rows(len: usize, cols: usize) -> usize {
    let rows = len.checked_div(cols).unwrap_or(0);
    assert_eq!(rows * cols, len, "not whole rows");
    rows
}
