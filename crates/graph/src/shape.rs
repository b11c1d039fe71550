//! Shapes whose batch and token counts are known only when the graph runs.

use std::fmt;

/// One dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known when the graph is built.
    Fixed(usize),
    /// Samples in a batch.
    Batch,
    /// Tokens of each sample.
    Tokens,
}

/// Outermost dimension first.
pub type Shape = Vec<Dim>;

/// What a value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Real numbers.
    Float,
    /// Indices: token ids, expert numbers.
    Index,
    /// Something that the graph carries and cannot look into; its shape says nothing. Only [`crate::ops::Opaque`] reads it.
    Unknown,
}

/// The sizes that a run gives to the open dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Samples.
    pub batch: usize,
    /// Tokens of each sample.
    pub tokens: usize,
}

impl Size {
    /// The dimension as a number.
    pub fn of(self, dim: Dim) -> usize {
        match dim {
            Dim::Fixed(n) => n,
            Dim::Batch => self.batch,
            Dim::Tokens => self.tokens,
        }
    }

    /// Elements of a value of this shape.
    pub fn elements(self, shape: &[Dim]) -> usize {
        shape.iter().map(|d| self.of(*d)).product()
    }
}

impl Dim {
    /// The number, where it is known.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Batch | Dim::Tokens => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Batch => f.write_str("B"),
            Dim::Tokens => f.write_str("T"),
        }
    }
}
