//! Sums, products and scalings of whole buffers.

use crate::matmul::Write;
use crate::parallel::for_each_chunk;
use crate::real::Real;
use crate::simd::{lane_sum, vectorised};

vectorised! {
    fn add_here<R: Real>(a: &[R], b: &[R], y: &mut [R]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

vectorised! {
    fn mul_here<R: Real>(a: &[R], b: &[R], y: &mut [R], write: Write) {
        match write {
            Write::Set => y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = a * b),
            Write::Add => y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = a.mul_add(b, *y)),
        }
    }
}

vectorised! {
    fn scale_here<R: Real>(factor: R, x: &[R], y: &mut [R], write: Write) {
        match write {
            Write::Set => y.iter_mut().zip(x).for_each(|(y, &x)| *y = factor * x),
            Write::Add => y.iter_mut().zip(x).for_each(|(y, &x)| *y = factor.mul_add(x, *y)),
        }
    }
}

vectorised! {
    fn sum_squares_here<R: Real>(x: &[R]) -> R {
        lane_sum([x], |[x], sum| x.mul_add(x, sum))
    }
}

vectorised! {
    fn rectify_here<R: Real>(y: &mut [R]) {
        y.iter_mut().for_each(|y| *y = y.max(R::ZERO));
    }
}

vectorised! {
    fn rectify_grad_here<R: Real>(y: &[R], d: &mut [R]) {
        d.iter_mut().zip(y).for_each(|(d, &y)| *d = if y > R::ZERO { *d } else { R::ZERO });
    }
}

/// ReLU in place.
pub fn rectify<R: Real>(y: &mut [R]) {
    for_each_chunk(y, |_, y| rectify_here(y));
}

/// The gradient of [`rectify`] in place, from its result `y`: `d` stays where `y` is above zero.
///
/// # Panics
/// When the lengths differ.
pub fn rectify_grad<R: Real>(y: &[R], d: &mut [R]) {
    assert_eq!(y.len(), d.len(), "ReLU gradient of unlike lengths");
    for_each_chunk(d, |range, d| rectify_grad_here(&y[range], d));
}

/// `y = a + b`.
///
/// # Panics
/// When the lengths differ.
pub fn add<R: Real>(a: &[R], b: &[R], y: &mut [R]) {
    assert!(a.len() == y.len() && b.len() == y.len(), "sum of unlike lengths");
    for_each_chunk(y, |range, y| add_here(&a[range.clone()], &b[range], y));
}

/// `y += x`.
///
/// # Panics
/// When the lengths differ.
pub fn add_assign<R: Real>(y: &mut [R], x: &[R]) {
    scale(R::ONE, x, y, Write::Add);
}

/// `y = a·b` or `y += a·b`, element by element.
///
/// # Panics
/// When the lengths differ.
pub fn mul<R: Real>(a: &[R], b: &[R], y: &mut [R], write: Write) {
    assert!(a.len() == y.len() && b.len() == y.len(), "product of unlike lengths");
    for_each_chunk(y, |range, y| mul_here(&a[range.clone()], &b[range], y, write));
}

/// `y = factor·x` or `y += factor·x`.
///
/// # Panics
/// When the lengths differ.
pub fn scale<R: Real>(factor: R, x: &[R], y: &mut [R], write: Write) {
    assert_eq!(x.len(), y.len(), "scaling of unlike lengths");
    for_each_chunk(y, |range, y| scale_here(factor, &x[range], y, write));
}

/// `Σ xᵢ²`, summed by blocks of 4096 and then in `f64`: for gradient clipping.
pub fn sum_squares<R: Real>(x: &[R]) -> f64 {
    x.chunks(4096).map(|block| sum_squares_here(block).to_f64()).sum()
}
