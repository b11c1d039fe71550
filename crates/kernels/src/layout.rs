//! Moving elements about: every transpose, slice, concatenation, padding by zeros, broadcast and shuffle is one strided copy.
//!
//! A [`Walk`] goes through an index space, outermost axis first, with one stride per axis into the source and one into the
//! target; strides may be zero (broadcast) or negative (flip). Its gradient is the same walk with the ends exchanged, adding.
//! [`take`] picks slices by a list of indices (ONNX `Gather`).

use crate::matmul::Write;
use crate::real::Real;
use crate::simd::vectorised;

/// An index space, and where its points lie on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Steps in the source.
    pub from: Vec<isize>,
    /// Steps in the target.
    pub to: Vec<isize>,
    /// The source element of the first point.
    pub from_start: usize,
    /// The target element of the first point.
    pub to_start: usize,
}

/// The strides of a contiguous row-major array.
pub fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    strides
}

impl Walk {
    /// From a contiguous source of this shape to a target whose axes are the source's in the order of `axes`.
    pub fn transpose(shape: &[usize], axes: &[usize]) -> Walk {
        let from = strides(shape);
        let shape: Vec<usize> = axes.iter().map(|axis| shape[*axis]).collect();
        let from = axes.iter().map(|axis| from[*axis]).collect();
        Walk { to: strides(&shape), shape, from, from_start: 0, to_start: 0 }
    }

    /// From a source to a target of more or longer axes, repeating what it has one of (NumPy's broadcasting).
    pub fn broadcast(shape: &[usize], target: &[usize]) -> Walk {
        let missing = target.len() - shape.len();
        let own = strides(shape);
        let step = |axis: usize| match axis.checked_sub(missing) {
            Some(at) if shape[at] == target[axis] => own[at],
            _ => 0,
        };
        let from = (0..target.len()).map(step).collect();
        Walk { shape: target.to_vec(), from, to: strides(target), from_start: 0, to_start: 0 }
    }

    /// The part of a contiguous array of `shape` that begins at `starts` and goes in `steps`, as a contiguous target of `part`.
    pub fn slice(shape: &[usize], starts: &[usize], steps: &[isize], part: &[usize]) -> Walk {
        let own = strides(shape);
        let from_start = own.iter().zip(starts).map(|(stride, start)| stride.unsigned_abs() * start).sum();
        let from = own.iter().zip(steps).map(|(stride, step)| stride * step).collect();
        Walk { shape: part.to_vec(), from, to: strides(part), from_start, to_start: 0 }
    }

    /// The same walk the other way.
    pub fn reversed(&self) -> Walk {
        Walk {
            shape: self.shape.clone(),
            from: self.to.clone(),
            to: self.from.clone(),
            from_start: self.to_start,
            to_start: self.from_start,
        }
    }

    /// Joins axes that are contiguous on both sides, and drops those of length one.
    pub(crate) fn merged(&self) -> Walk {
        let mut walk = Walk { shape: vec![], from: vec![], to: vec![], ..*self };
        for axis in (0..self.shape.len()).filter(|axis| self.shape[*axis] != 1) {
            let (length, from, to) = (self.shape[axis], self.from[axis], self.to[axis]);
            let whole = |stride: isize| stride * length as isize;
            match walk.shape.len().checked_sub(1) {
                Some(last) if walk.from[last] == whole(from) && walk.to[last] == whole(to) => {
                    walk.shape[last] *= length;
                    (walk.from[last], walk.to[last]) = (from, to);
                }
                _ => {
                    walk.shape.push(length);
                    walk.from.push(from);
                    walk.to.push(to);
                }
            }
        }
        walk
    }

    /// Checks that no point lies outside.
    fn check(&self, from: usize, to: usize) {
        assert!(self.shape.len() == self.from.len() && self.shape.len() == self.to.len(), "one stride per axis");
        if self.shape.contains(&0) {
            return;
        }
        for (start, strides, len) in [(self.from_start, &self.from, from), (self.to_start, &self.to, to)] {
            let (mut low, mut high) = (start as isize, start as isize);
            for (length, stride) in self.shape.iter().zip(strides) {
                let reach = (*length as isize - 1) * stride;
                low += reach.min(0);
                high += reach.max(0);
            }
            assert!(low >= 0 && (high as usize) < len, "walk outside its array");
        }
    }

    /// Calls `each(from, to)` for the first point of every run along the innermost axis.
    pub(crate) fn runs(&self, mut each: impl FnMut(usize, usize)) {
        let outer = self.shape.len().saturating_sub(1);
        let mut index = vec![0usize; outer];
        let (mut from, mut to) = (self.from_start as isize, self.to_start as isize);
        if self.shape.contains(&0) {
            return;
        }
        loop {
            each(from as usize, to as usize);
            let mut axis = outer;
            loop {
                let Some(next) = axis.checked_sub(1) else { return };
                axis = next;
                index[axis] += 1;
                from += self.from[axis];
                to += self.to[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                from -= self.from[axis] * self.shape[axis] as isize;
                to -= self.to[axis] * self.shape[axis] as isize;
                index[axis] = 0;
            }
        }
    }
}

vectorised! {
    fn run_here<R: Real>(count: usize, steps: [isize; 2], from: &[R], at: [usize; 2], to: &mut [R], write: Write) {
        let [source, target] = at;
        match (steps, write) {
            ([1, 1], Write::Set) => to[target..target + count].copy_from_slice(&from[source..source + count]),
            ([1, 1], Write::Add) => {
                let pairs = to[target..target + count].iter_mut().zip(&from[source..source + count]);
                pairs.for_each(|(to, &from)| *to += from);
            }
            ([0, 1], Write::Set) => to[target..target + count].fill(from[source]),
            ([1, 0], Write::Add) => to[target] += crate::simd::lane_sum([&from[source..source + count]], |[x], sum| sum + x),
            _ => for n in 0..count as isize {
                let to = &mut to[(target as isize + n * steps[1]) as usize];
                let from = from[(source as isize + n * steps[0]) as usize];
                *to = if write == Write::Add { *to + from } else { from };
            },
        }
    }
}

/// Copies, or adds, along a walk.
///
/// # Panics
/// When a point lies outside an array.
pub fn walk<R: Real>(walk: &Walk, from: &[R], to: &mut [R], write: Write) {
    walk.check(from.len(), to.len());
    let walk = walk.merged();
    let count = walk.shape.last().copied().unwrap_or(1);
    let steps = [walk.from.last().copied().unwrap_or(1), walk.to.last().copied().unwrap_or(1)];
    walk.runs(|source, target| run_here(count, steps, from, [source, target], to, write));
}

/// Lengths around an axis that something happens along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Along {
    /// Product of the axes before.
    pub outer: usize,
    /// The axis itself.
    pub length: usize,
    /// Product of the axes after.
    pub inner: usize,
}

impl Along {
    /// Of a shape.
    ///
    /// # Panics
    /// When there is no such axis.
    pub fn axis(shape: &[usize], axis: usize) -> Along {
        let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        Along { outer, length: shape[axis], inner }
    }

    /// Elements of the whole.
    pub fn elements(&self) -> usize {
        self.outer * self.length * self.inner
    }
}

/// `y[o, n, i] = x[o, indices[n], i]`.
///
/// # Panics
/// When the lengths do not agree or an index is not below `along.length`.
pub fn take<T: Copy>(along: Along, x: &[T], indices: &[usize], y: &mut [T]) {
    let row = along.inner;
    assert!(x.len() == along.elements() && y.len() == along.outer * indices.len() * row, "take of unlike lengths");
    let slots =
        (0..along.outer).flat_map(|outer| indices.iter().map(move |index| (outer * along.length + index) * row));
    y.chunks_exact_mut(row.max(1)).zip(slots).for_each(|(y, from)| y.copy_from_slice(&x[from..from + row]));
}

/// The gradient of [`take`]: `dx[o, indices[n], i] += dy[o, n, i]`.
///
/// # Panics
/// As [`take`].
pub fn take_grad<R: Real>(along: Along, dy: &[R], indices: &[usize], dx: &mut [R]) {
    let row = along.inner;
    assert!(dx.len() == along.elements() && dy.len() == along.outer * indices.len() * row, "take of unlike lengths");
    let slots =
        (0..along.outer).flat_map(|outer| indices.iter().map(move |index| (outer * along.length + index) * row));
    for (dy, to) in dy.chunks_exact(row.max(1)).zip(slots) {
        dx[to..to + row].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += *dy);
    }
}
