//! Data that a network is run on: images, sounds, tensors, a few at a time.

use exec::Data;
use std::error::Error;
use std::fmt::Debug;
use std::ops::Range;

/// A few samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The network's inputs, in order; samples are the first axis.
    pub inputs: Vec<Data>,
    /// The class of each sample; empty where nobody knows it.
    pub labels: Vec<u32>,
}

/// Samples that can be asked for again and again.
pub trait Samples: Debug + Sync {
    /// What reports call it.
    fn name(&self) -> &str;

    /// How many there are.
    fn len(&self) -> usize;

    /// Some of them, as the network wants them. Always the same for the same range.
    fn batch(&self, range: Range<usize>) -> Result<Batch, Box<dyn Error + Send + Sync>>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first of other samples, at most so many.
#[derive(Debug)]
pub struct First<'a> {
    /// All of them.
    pub of: &'a dyn Samples,
    /// How many to take.
    pub count: usize,
}

impl Samples for First<'_> {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn len(&self) -> usize {
        self.of.len().min(self.count)
    }

    fn batch(&self, range: Range<usize>) -> Result<Batch, Box<dyn Error + Send + Sync>> {
        self.of.batch(range)
    }
}
