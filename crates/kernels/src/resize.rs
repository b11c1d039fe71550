//! Resampling along axes: every output is a weighted sum of a few inputs ([`Resample`]), one axis after the other.
//!
//! Nearest has one term, linear two, cubic four, so one pair of loops serves all modes and all coordinate conventions of ONNX
//! `Resize`; whoever knows the convention makes the table. The gradient is the same table read the other way.

use crate::layout::Along;
use crate::matmul::Write;
use crate::parallel::{Rows, map_blocks};
use crate::real::Real;
use crate::simd::vectorised;

/// For each position of an axis of the result, which source positions it sums, and with which weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Resample {
    /// Length of the axis of the source.
    pub source: usize,
    /// The terms of each position.
    pub terms: Vec<Vec<(usize, f64)>>,
}

impl Resample {
    fn check(&self, along: Along, x: usize, y: usize) {
        assert!(self.source == along.length && x == along.elements(), "resampling of unlike lengths");
        assert!(y == along.outer * self.terms.len() * along.inner, "resampling of unlike lengths");
        assert!(self.terms.iter().flatten().all(|(at, _)| *at < self.source), "resampling outside its source");
    }
}

vectorised! {
    fn add_here<R: Real>(factor: R, from: &[R], to: &mut [R]) {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = factor.mul_add(from, *to));
    }
}

/// `y[o, r, i] = Σ weight·x[o, source, i]` over the terms of `r`.
///
/// # Panics
/// When the lengths do not agree.
pub fn resample<R: Real>(table: &Resample, along: Along, x: &[R], y: &mut [R]) {
    table.check(along, x.len(), y.len());
    let (from, to) = (along.length * along.inner, table.terms.len() * along.inner);
    map_blocks(along.outer, 1, Rows::new(y, to), Rows::<R>::none(), |outer, y, _| {
        let x = &x[outer.start * from..][..from];
        y.fill(R::ZERO);
        for (terms, y) in table.terms.iter().zip(y.chunks_exact_mut(along.inner.max(1))) {
            for (at, weight) in terms {
                add_here(R::from_f64(*weight), &x[at * along.inner..][..along.inner], y);
            }
        }
    });
}

/// The gradient of [`resample`]: `dx (+)= …`.
///
/// # Panics
/// When the lengths do not agree.
pub fn resample_grad<R: Real>(table: &Resample, along: Along, dy: &[R], dx: &mut [R], write: Write) {
    table.check(along, dx.len(), dy.len());
    let (from, to) = (table.terms.len() * along.inner, along.length * along.inner);
    map_blocks(along.outer, 1, Rows::new(dx, to), Rows::<R>::none(), |outer, dx, _| {
        let dy = &dy[outer.start * from..][..from];
        if write == Write::Set {
            dx.fill(R::ZERO);
        }
        for (terms, dy) in table.terms.iter().zip(dy.chunks_exact(along.inner.max(1))) {
            for (at, weight) in terms {
                add_here(R::from_f64(*weight), dy, &mut dx[at * along.inner..][..along.inner]);
            }
        }
    });
}
