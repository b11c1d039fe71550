//! Reductions along an axis, and softmax along any axis.
//!
//! An axis in the middle is folded row by row of what lies behind it, so that vector registers run along memory.

use crate::layout::Along;
use crate::matmul::Write;
use crate::parallel::{Rows, map_blocks};
use crate::real::Real;
use crate::simd::{lane_sum, maximum, vectorised};
use crate::softmax::{log_softmax_rows, softmax_rows};

/// How many numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// `Σ x`.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// `Π x`.
    Product,
}

vectorised! {
    fn fold_here<R: Real>(fold: Fold, inner: usize, x: &[R], y: &mut [R]) {
        if inner == 1 {
            y[0] = match fold {
                Fold::Sum => {
                    let mut total = 0.0;
                    for x in x.chunks(4096) {
                        total += lane_sum([x], |[x], sum| sum + x).to_f64();
                    }
                    R::from_f64(total)
                }
                Fold::Max => maximum(x),
                Fold::Min => x.iter().copied().fold(-R::NEG_INFINITY, |best, x| if x < best { x } else { best }),
                Fold::Product => x.iter().copied().fold(R::ONE, |product, x| product * x),
            };
            return;
        }
        y.fill(match fold {
            Fold::Sum => R::ZERO,
            Fold::Max => R::NEG_INFINITY,
            Fold::Min => -R::NEG_INFINITY,
            Fold::Product => R::ONE,
        });
        for x in x.chunks_exact(inner) {
            let terms = y.iter_mut().zip(x);
            match fold {
                Fold::Sum => terms.for_each(|(y, &x)| *y += x),
                Fold::Max => terms.for_each(|(y, &x)| *y = if x > *y { x } else { *y }),
                Fold::Min => terms.for_each(|(y, &x)| *y = if x < *y { x } else { *y }),
                Fold::Product => terms.for_each(|(y, &x)| *y *= x),
            }
        }
    }
}

/// `y[o, i]` = all of `x[o, .., i]` folded.
///
/// # Panics
/// When the lengths do not agree.
pub fn fold<R: Real>(fold: Fold, along: Along, x: &[R], y: &mut [R]) {
    assert!(x.len() == along.elements() && y.len() == along.outer * along.inner, "fold of unlike lengths");
    let size = (along.length * along.inner).max(1);
    let block = (1usize << 14).div_ceil(size);
    map_blocks(along.outer, block, Rows::new(y, along.inner), Rows::<R>::none(), |outer, y, _| {
        let x = &x[outer.start * size..];
        x.chunks(size).zip(y.chunks_mut(along.inner.max(1))).for_each(|(x, y)| fold_here(fold, along.inner, x, y));
    });
}

/// The gradient of a fold by [`Fold::Max`] or [`Fold::Min`], from its result `y`: `dx[o, n, i] (+)= dy[o, i]` at the first `n` that
/// attains it, else 0.
///
/// # Panics
/// When the lengths do not agree.
pub fn extreme_grad<R: Real>(along: Along, x: &[R], y: &[R], dy: &[R], dx: &mut [R], write: Write) {
    assert!(x.len() == along.elements() && dx.len() == x.len(), "fold gradient of unlike lengths");
    assert!(y.len() == along.outer * along.inner && dy.len() == y.len(), "fold gradient of unlike lengths");
    if write == Write::Set {
        dx.fill(R::ZERO);
    }
    for at in 0..y.len() {
        let (outer, inner) = (at / along.inner, at % along.inner);
        let place = |n: usize| (outer * along.length + n) * along.inner + inner;
        if let Some(n) = (0..along.length).find(|n| x[place(*n)] == y[at]) {
            dx[place(n)] += dy[at];
        }
    }
}

vectorised! {
    /// Softmax, or its logarithm, down the columns of `[length, inner]`.
    fn columns_here<R: Real>(log: bool, inner: usize, x: &mut [R], top: &mut [R], sum: &mut [R]) {
        top.fill(R::NEG_INFINITY);
        sum.fill(R::ZERO);
        for x in x.chunks_exact(inner) {
            top.iter_mut().zip(x).for_each(|(top, &x)| *top = if x > *top { x } else { *top });
        }
        for x in x.chunks_exact_mut(inner) {
            for ((x, top), sum) in x.iter_mut().zip(&*top).zip(&mut *sum) {
                let shifted = *x - *top;
                let e = shifted.exp();
                *sum += e;
                *x = if log { shifted } else { e };
            }
        }
        sum.iter_mut().for_each(|sum| *sum = if log { sum.ln() } else { R::ONE / *sum });
        for x in x.chunks_exact_mut(inner) {
            x.iter_mut().zip(&*sum).for_each(|(x, &sum)| *x = if log { *x - sum } else { *x * sum });
        }
    }
}

/// Replaces `x` by its softmax along an axis, or by the logarithm of it.
///
/// # Panics
/// When the lengths do not agree.
pub fn softmax_along<R: Real>(along: Along, log: bool, x: &mut [R]) {
    assert_eq!(x.len(), along.elements(), "softmax of unlike lengths");
    if x.is_empty() {
        return;
    }
    match (along.inner, log) {
        (1, false) => softmax_rows(x, along.length),
        (1, true) => log_softmax_rows(x, along.length),
        (inner, _) => map_blocks(along.outer, 1, Rows::new(x, along.length * inner), Rows::<R>::none(), |_, x, _| {
            columns_here(log, inner, x, &mut vec![R::ZERO; inner], &mut vec![R::ZERO; inner]);
        })
        .clear(),
    }
}

/// The gradient of [`softmax_along`] from its result `y`: `dx (+)= y·(dy − Σ y·dy)`, of the logarithm `dx (+)= dy − eʸ·Σ dy`.
///
/// # Panics
/// When the lengths do not agree.
pub fn softmax_along_grad<R: Real>(along: Along, log: bool, y: &[R], dy: &[R], dx: &mut [R], write: Write) {
    assert!([y.len(), dy.len(), dx.len()] == [along.elements(); 3], "softmax gradient of unlike lengths");
    if write == Write::Set {
        dx.fill(R::ZERO);
    }
    for at in 0..along.outer * along.inner {
        let (outer, inner) = (at / along.inner, at % along.inner);
        let places = || (0..along.length).map(|n| (outer * along.length + n) * along.inner + inner);
        let sum: R = places().map(|at| if log { dy[at] } else { y[at] * dy[at] }).sum();
        places().for_each(|at| dx[at] += if log { dy[at] - y[at].exp() * sum } else { y[at] * (dy[at] - sum) });
    }
}
