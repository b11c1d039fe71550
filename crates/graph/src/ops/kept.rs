//! What is left of a node's axes after indices were removed: from this an op says what it has become.

use crate::{End, Port};
use std::collections::HashMap;

/// The indices of an axis that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAxis {
    /// How many there were.
    pub of: usize,
    /// Those that stay, ascending.
    pub left: Vec<usize>,
}

/// The axes of one node that lost indices; every other axis is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    axes: HashMap<End, KeptAxis>,
}

impl Kept {
    /// Says what is left of an axis of `of` indices.
    pub fn set(&mut self, end: End, of: usize, left: Vec<usize>) {
        self.axes.insert(end, KeptAxis { of, left });
    }

    /// What is left of an axis, if it lost any.
    pub fn get(&self, port: Port, axis: usize) -> Option<&KeptAxis> {
        self.axes.get(&End { port, axis })
    }

    /// What is left of the innermost axis that lost any.
    pub fn last(&self, port: Port) -> Option<&KeptAxis> {
        let of_port = self.axes.iter().filter(|(end, _)| end.port == port);
        of_port.max_by_key(|(end, _)| end.axis).map(|(_, kept)| kept)
    }

    /// How many are left of an axis of `of` indices.
    pub fn count(&self, port: Port, axis: usize, of: usize) -> usize {
        self.get(port, axis).map_or(of, |kept| kept.left.len())
    }
}
