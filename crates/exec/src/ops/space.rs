//! What convolutions and pools share: one or two spatial axes seen as height and width (one axis is a width under a height of 1).

use crate::Error;
use graph::ops::Span;

/// `[height, width]` of something given for each spatial axis.
pub(super) fn plane<T: Copy>(node: &str, of: &[T], absent: T) -> Result<[T; 2], Error> {
    match of {
        [width] => Ok([absent, *width]),
        [height, width] => Ok([*height, *width]),
        _ => Err(Error::Unrunnable { node: node.into(), reason: format!("{} spatial axes; 1 or 2 can run", of.len()) }),
    }
}

/// Windows over height and width.
pub(super) fn spans(node: &str, window: &[Span]) -> Result<[Span; 2], Error> {
    plane(node, window, Span::of(1))
}
