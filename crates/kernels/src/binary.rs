//! Functions of two values, element by element, with NumPy's broadcasting, and their derivatives.
//!
//! A gradient comes out at the size of the result; where an operand was broadcast, the caller sums it back along the reversed
//! [`Walk::broadcast`].

use crate::layout::{Walk, strides};
use crate::parallel::for_each_chunk;
use crate::real::Real;
use crate::simd::vectorised;

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a·b`.
    Mul,
    /// `a/b`.
    Div,
    /// `a` to the power of `b`.
    Pow,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// `a` where it is above zero, else `b·a`.
    PRelu,
}

/// Which operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// Two shapes broadcast together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    shape: Vec<usize>,
    /// Over the result: steps in `a` and in `b`.
    steps: Walk,
    /// Whether nothing is broadcast.
    alike: bool,
}

impl Pair {
    /// The shape that two shapes broadcast to; none where they do not fit.
    pub fn new(a: &[usize], b: &[usize]) -> Option<Pair> {
        let rank = a.len().max(b.len());
        let at = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
        let join = |axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, x) | (x, 1) => Some(x),
            _ => None,
        };
        let shape = (0..rank).map(join).collect::<Option<Vec<usize>>>()?;
        let steps = Walk { to: Walk::broadcast(b, &shape).from, ..Walk::broadcast(a, &shape) };
        let alike = steps.from == steps.to && steps.from == strides(&shape);
        Some(Pair { shape, steps, alike })
    }

    /// The shape of the result.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Runs `f` over two operands, each either a run or one number.
#[inline(always)]
fn zip<R: Real>(steps: [isize; 2], a: &[R], b: &[R], y: &mut [R], f: impl Fn(R, R) -> R) {
    match steps {
        [1, 1] => y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = f(a, b)),
        [1, _] => {
            let b = b[0];
            y.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a, b));
        }
        [_, 1] => {
            let a = a[0];
            y.iter_mut().zip(b).for_each(|(y, &b)| *y = f(a, b));
        }
        _ => y.fill(f(a[0], b[0])),
    }
}

vectorised! {
    fn run_here<R: Real>(op: Binary, steps: [isize; 2], a: &[R], b: &[R], y: &mut [R]) {
        match op {
            Binary::Add => zip(steps, a, b, y, |a, b| a + b),
            Binary::Sub => zip(steps, a, b, y, |a, b| a - b),
            Binary::Mul => zip(steps, a, b, y, |a, b| a * b),
            Binary::Div => zip(steps, a, b, y, |a, b| a / b),
            Binary::Pow => zip(steps, a, b, y, |a, b| a.powf(b)),
            Binary::Min => zip(steps, a, b, y, |a, b| if b < a { b } else { a }),
            Binary::Max => zip(steps, a, b, y, |a, b| if b > a { b } else { a }),
            Binary::PRelu => zip(steps, a, b, y, |a, b| if a > R::ZERO { a } else { a * b }),
        }
    }
}

vectorised! {
    /// `d·∂f/∂side`, in place.
    fn slope_here<R: Real>(op: Binary, side: Side, steps: [isize; 2], a: &[R], b: &[R], d: &mut [R]) {
        use Side::{A, B};
        let pick = |yes: bool| if yes { R::ONE } else { R::ZERO };
        match (op, side) {
            (Binary::Add, _) | (Binary::Sub, A) => {}
            (Binary::Sub, B) => slopes(steps, a, b, d, |_, _| -R::ONE),
            (Binary::Mul, A) => slopes(steps, a, b, d, |_, b| b),
            (Binary::Mul, B) => slopes(steps, a, b, d, |a, _| a),
            (Binary::Div, A) => slopes(steps, a, b, d, |_, b| R::ONE / b),
            (Binary::Div, B) => slopes(steps, a, b, d, |a, b| -a / (b * b)),
            (Binary::Pow, A) => slopes(steps, a, b, d, |a, b| b * a.powf(b - R::ONE)),
            (Binary::Pow, B) => slopes(steps, a, b, d, |a, b| a.powf(b) * a.ln()),
            (Binary::Min, A) => slopes(steps, a, b, d, |a, b| pick(b >= a)),
            (Binary::Min, B) => slopes(steps, a, b, d, |a, b| pick(b < a)),
            (Binary::Max, A) => slopes(steps, a, b, d, |a, b| pick(b <= a)),
            (Binary::Max, B) => slopes(steps, a, b, d, |a, b| pick(b > a)),
            (Binary::PRelu, A) => slopes(steps, a, b, d, |a, b| if a > R::ZERO { R::ONE } else { b }),
            (Binary::PRelu, B) => slopes(steps, a, b, d, |a, _| if a > R::ZERO { R::ZERO } else { a }),
        }
    }
}

#[inline(always)]
fn slopes<R: Real>(steps: [isize; 2], a: &[R], b: &[R], d: &mut [R], f: impl Fn(R, R) -> R) {
    let at = |steps: isize, from: &[R], n: usize| if steps == 0 { from[0] } else { from[n] };
    match steps {
        [1, 1] => d.iter_mut().zip(a.iter().zip(b)).for_each(|(d, (&a, &b))| *d *= f(a, b)),
        [x, y] => d.iter_mut().enumerate().for_each(|(n, d)| *d *= f(at(x, a, n), at(y, b, n))),
    }
}

/// `y = f(a, b)`, broadcast.
///
/// # Panics
/// When the lengths do not agree.
pub fn binary<R: Real>(op: Binary, pair: &Pair, a: &[R], b: &[R], y: &mut [R]) {
    each_run(pair, a, b, y, |steps, a, b, y| run_here(op, steps, a, b, y));
}

/// Multiplies `d`, a gradient of the result, by `∂f/∂a` or `∂f/∂b`: the gradient of that operand before it is summed back.
///
/// # Panics
/// When the lengths do not agree.
pub fn binary_grad<R: Real>(op: Binary, pair: &Pair, side: Side, a: &[R], b: &[R], d: &mut [R]) {
    each_run(pair, a, b, d, |steps, a, b, d| slope_here(op, side, steps, a, b, d));
}

fn each_run<R: Real>(
    pair: &Pair,
    a: &[R],
    b: &[R],
    y: &mut [R],
    work: impl Fn([isize; 2], &[R], &[R], &mut [R]) + Sync + Send,
) {
    assert_eq!(y.len(), pair.shape.iter().product(), "result length");
    if pair.alike {
        assert!(a.len() == y.len() && b.len() == y.len(), "operands of unlike lengths");
        return for_each_chunk(y, |range, y| work([1, 1], &a[range.clone()], &b[range], y));
    }
    let walk = pair.steps.merged();
    let count = walk.shape.last().copied().unwrap_or(1);
    let steps = [&walk.from, &walk.to].map(|steps| steps.last().copied().unwrap_or(1));
    let part = |at: usize, step: isize| at..at + if step == 0 { 1 } else { count };
    let mut rest = y.chunks_exact_mut(count.max(1));
    walk.runs(|at_a, at_b| {
        if let Some(y) = rest.next() {
            work(steps, &a[part(at_a, steps[0])], &b[part(at_b, steps[1])], y);
        }
    });
}
