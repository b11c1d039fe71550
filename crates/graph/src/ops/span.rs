//! A window that slides along one spatial axis: what convolutions and pools share.

use super::{ShapeError, show, wrong};
use crate::{Dim, Shape};

/// A window along one axis. Position `k` of window `n` reads index `n · stride + k · dilation − pad[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Positions in the window.
    pub size: usize,
    /// From window to window.
    pub stride: usize,
    /// From position to position.
    pub dilation: usize,
    /// Before the first and after the last index.
    pub pad: [usize; 2],
}

impl Span {
    /// The plain window: stride and dilation 1, no padding.
    pub const fn of(size: usize) -> Span {
        Span { size, stride: 1, dilation: 1, pad: [0, 0] }
    }

    /// Indices from the window's first position to its last, both counted.
    pub const fn reach(&self) -> usize {
        self.size.saturating_sub(1).saturating_mul(self.dilation).saturating_add(1)
    }

    /// How many windows an axis of `length` gives. With `ceil` the last one may hang over the end, but must begin inside.
    pub fn count(&self, length: usize, ceil: bool) -> Option<usize> {
        let padded = length.checked_add(self.pad[0])?.checked_add(self.pad[1])?;
        let room = padded.checked_sub(self.reach())?;
        if self.stride == 0 || self.size == 0 {
            return None;
        }
        let count = room / self.stride + 1;
        let hangs = ceil && !room.is_multiple_of(self.stride) && count * self.stride < length + self.pad[0];
        Some(count + usize::from(hangs))
    }
}

/// Applies one window to each axis of `space`.
pub(super) fn windows(space: &[Dim], spans: &[Span], ceil: bool) -> Result<Shape, ShapeError> {
    if space.len() != spans.len() {
        return wrong(format!("{} windows over the spatial axes {}", spans.len(), show(space)));
    }
    let one = |(dim, span): (&Dim, &Span)| dim.fixed().and_then(|n| span.count(n, ceil)).map(Dim::Fixed);
    match space.iter().zip(spans).map(one).collect() {
        Some(shape) => Ok(shape),
        None => wrong(format!("windows {spans:?} do not fit the spatial axes {}", show(space))),
    }
}
