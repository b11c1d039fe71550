//! Max and average pooling of planes, with padding, and their gradients.
//!
//! The window of position `(r, c)` holds the elements at `(r·s + p·d − pad, c·s + q·d − pad)` that exist. The maximum is over those;
//! the mean divides by their number, or, where padding counts, by the number inside the padded plane. How many positions there
//! are (rounding down, up) is the caller's to say. The gradient of a maximum goes to the first element that attains it.

use std::ops::Range;

use crate::matmul::Write;
use crate::parallel::{Rows, map_blocks};
use crate::real::Real;
use crate::simd::vectorised;

/// The sizes of a pooling. Pairs are of height, then width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Planes: images times channels.
    pub planes: usize,
    /// Size of a plane of `x`.
    pub input: [usize; 2],
    /// Size of a plane of `y`.
    pub output: [usize; 2],
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Steps between elements of a window.
    pub dilation: [usize; 2],
    /// Padding before and after `x`, of each axis.
    pub pads: [[usize; 2]; 2],
}

/// What a mean divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// The elements of the window that exist.
    Present,
    /// The elements of the window inside the padded plane.
    Padded,
}

impl Pool {
    fn check(&self, x: usize, y: usize) {
        assert!(x == self.planes * self.area(self.input), "pooling of unlike lengths");
        assert!(y == self.planes * self.area(self.output), "pooling of unlike lengths");
    }

    fn area(&self, size: [usize; 2]) -> usize {
        size[0] * size[1]
    }

    fn block(&self) -> usize {
        (1usize << 14).div_ceil(self.area(self.input).max(1))
    }

    /// The positions along an axis whose element `tap` exists, and the source of the first of them.
    #[inline(always)]
    fn span(&self, axis: usize, tap: usize) -> (Range<usize>, usize) {
        let (stride, at, pad) = (self.stride[axis], tap * self.dilation[axis], self.pads[axis][0]);
        let end = (self.input[axis] + pad).saturating_sub(at).div_ceil(stride).min(self.output[axis]);
        let start = pad.saturating_sub(at).div_ceil(stride).min(end);
        (start..end, (start * stride + at).saturating_sub(pad))
    }

    /// The source of element `tap` of a position's window, if it exists.
    #[inline(always)]
    fn source(&self, axis: usize, position: usize, tap: usize) -> Option<usize> {
        let at = (position * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.pads[axis][0])?;
        (at < self.input[axis]).then_some(at)
    }

    /// How many elements of a position's window count along an axis.
    fn count(&self, axis: usize, position: usize, divisor: Divisor) -> usize {
        let padded = self.input[axis] + self.pads[axis][0] + self.pads[axis][1];
        let counts = |tap: &usize| match divisor {
            Divisor::Present => self.source(axis, position, *tap).is_some(),
            Divisor::Padded => position * self.stride[axis] + tap * self.dilation[axis] < padded,
        };
        (0..self.kernel[axis]).filter(counts).count()
    }

    /// One over the divisor of each position of a plane.
    fn inverses<R: Real>(&self, divisor: Divisor) -> Vec<R> {
        let [rows, cols] =
            [0, 1].map(|axis| (0..self.output[axis]).map(|at| self.count(axis, at, divisor)).collect::<Vec<_>>());
        let inverse = |rows: usize, cols: usize| R::from_f64(1.0 / (rows * cols).max(1) as f64);
        rows.iter().flat_map(|row| cols.iter().map(|col| inverse(*row, *col))).collect()
    }
}

vectorised! {
    /// Folds every element of every window of a plane into its position: the maximum, or the sum.
    fn fold_here<R: Real>(pool: &Pool, maximum: bool, x: &[R], y: &mut [R]) {
        y.fill(if maximum { R::NEG_INFINITY } else { R::ZERO });
        for (row, y) in y.chunks_exact_mut(pool.output[1]).enumerate() {
            for from in (0..pool.kernel[0]).filter_map(|tap| pool.source(0, row, tap)) {
                let x = &x[from * pool.input[1]..][..pool.input[1]];
                for tap in 0..pool.kernel[1] {
                    let (cols, first) = pool.span(1, tap);
                    if cols.is_empty() { continue }
                    let terms = y[cols].iter_mut().zip(x[first..].iter().step_by(pool.stride[1]));
                    match maximum {
                        true => terms.for_each(|(y, &x)| *y = if *y >= x { *y } else { x }),
                        false => terms.for_each(|(y, &x)| *y += x),
                    }
                }
            }
        }
    }
}

vectorised! {
    /// Adds each position's gradient to every element of its window.
    fn unfold_here<R: Real>(pool: &Pool, dy: &[R], inverses: &[R], dx: &mut [R]) {
        let width = pool.output[1];
        for (row, (dy, inverses)) in dy.chunks_exact(width).zip(inverses.chunks_exact(width)).enumerate() {
            for to in (0..pool.kernel[0]).filter_map(|tap| pool.source(0, row, tap)) {
                let dx = &mut dx[to * pool.input[1]..][..pool.input[1]];
                for tap in 0..pool.kernel[1] {
                    let (cols, first) = pool.span(1, tap);
                    if cols.is_empty() { continue }
                    let to = dx[first..].iter_mut().step_by(pool.stride[1]);
                    let from = dy[cols.clone()].iter().zip(&inverses[cols]);
                    to.zip(from).for_each(|(dx, (&dy, &inverse))| *dx = dy.mul_add(inverse, *dx));
                }
            }
        }
    }
}

/// The place in a plane of the first maximum of a position's window.
fn argmax<R: Real>(pool: &Pool, x: &[R], row: usize, col: usize) -> Option<usize> {
    let rows = (0..pool.kernel[0]).filter_map(|tap| pool.source(0, row, tap));
    let places = rows.flat_map(|row| {
        let cols = (0..pool.kernel[1]).filter_map(move |tap| pool.source(1, col, tap));
        cols.map(move |col| row * pool.input[1] + col)
    });
    places.reduce(|best, at| if x[best] >= x[at] { best } else { at })
}

/// `y` = the largest element of each window.
///
/// # Panics
/// When the lengths do not agree.
pub fn max_pool<R: Real>(pool: &Pool, x: &[R], y: &mut [R]) {
    fold(pool, true, x, y, |_| {});
}

/// The gradient of [`max_pool`]: `dx (+)= …`.
///
/// # Panics
/// When the lengths do not agree.
pub fn max_pool_grad<R: Real>(pool: &Pool, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
    assert_eq!(x.len(), dx.len(), "pooling of unlike lengths");
    unfold(pool, dy, dx, write, |plane, dy, dx| {
        let x = &x[plane * dx.len()..][..dx.len()];
        for (at, dy) in dy.iter().enumerate() {
            if let Some(best) = argmax(pool, x, at / pool.output[1], at % pool.output[1]) {
                dx[best] += *dy;
            }
        }
    });
}

/// `y` = the mean of each window.
///
/// # Panics
/// When the lengths do not agree.
pub fn average_pool<R: Real>(pool: &Pool, divisor: Divisor, x: &[R], y: &mut [R]) {
    let inverses = pool.inverses(divisor);
    fold(pool, false, x, y, |y| y.iter_mut().zip(&inverses).for_each(|(y, inverse)| *y *= *inverse));
}

/// The gradient of [`average_pool`]: `dx (+)= …`.
///
/// # Panics
/// When the lengths do not agree.
pub fn average_pool_grad<R: Real>(pool: &Pool, divisor: Divisor, dy: &[R], dx: &mut [R], write: Write) {
    let inverses = pool.inverses(divisor);
    unfold(pool, dy, dx, write, |_, dy, dx| unfold_here(pool, dy, &inverses, dx));
}

fn fold<R: Real>(pool: &Pool, maximum: bool, x: &[R], y: &mut [R], finish: impl Fn(&mut [R]) + Sync + Send) {
    pool.check(x.len(), y.len());
    let (input, output) = (pool.area(pool.input), pool.area(pool.output));
    map_blocks(pool.planes, pool.block(), Rows::new(y, output), Rows::<R>::none(), |planes, y, _| {
        for (x, y) in x[planes.start * input..].chunks(input.max(1)).zip(y.chunks_mut(output.max(1))) {
            fold_here(pool, maximum, x, y);
            finish(y);
        }
    });
}

fn unfold<R: Real>(
    pool: &Pool,
    dy: &[R],
    dx: &mut [R],
    write: Write,
    add: impl Fn(usize, &[R], &mut [R]) + Sync + Send,
) {
    pool.check(dx.len(), dy.len());
    let (input, output) = (pool.area(pool.input), pool.area(pool.output));
    map_blocks(pool.planes, pool.block(), Rows::new(dx, input), Rows::<R>::none(), |planes, dx, _| {
        if write == Write::Set {
            dx.fill(R::ZERO);
        }
        for (plane, dx) in planes.zip(dx.chunks_mut(input.max(1))) {
            add(plane, &dy[plane * output..][..output], dx);
        }
    });
}
