//! Data that a network is run on: images, sounds, tensors, a few at a time.

use exec::{Data, Examples, Intake, Tensor};
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

/// Windows of text for a decoder: every token but the last, to be followed by every token but the first.
#[derive(Debug)]
pub struct NextTokens<'a>(
    /// Ids, all windows of one length.
    pub &'a [Vec<u32>],
);

impl Samples for NextTokens<'_> {
    fn name(&self) -> &str {
        "calibration text"
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn batch(&self, range: Range<usize>) -> Result<Batch, Box<dyn Error + Send + Sync>> {
        let windows = self.0.get(range).unwrap_or_default();
        let but =
            |cut: fn(&[u32]) -> Option<&[u32]>| windows.iter().filter_map(|w| cut(w)).flatten().copied().collect();
        let ids = Tensor::ids(windows.len(), but(|w| w.split_last().map(|(_, ids)| ids)))?;
        Ok(Batch { inputs: vec![Data::Index(ids.into())], labels: but(|w| w.split_first().map(|(_, ids)| ids)) })
    }
}

/// Examples, a few at a time, for a network of this intake.
#[derive(Debug)]
pub struct InBatches<'a> {
    /// One by one.
    pub examples: &'a dyn Examples,
    /// What the network takes.
    pub intake: Intake,
    /// What reports call them.
    pub name: String,
}

impl<'a> InBatches<'a> {
    /// For a graph with one input of numbers.
    ///
    /// # Errors
    /// Where the graph has another kind of input.
    pub fn new(examples: &'a dyn Examples, graph: &graph::Graph) -> Result<InBatches<'a>, exec::Error> {
        Ok(InBatches { examples, intake: Intake::of(graph)?, name: examples.name() })
    }
}

impl Samples for InBatches<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.examples.len()
    }

    fn batch(&self, range: Range<usize>) -> Result<Batch, Box<dyn Error + Send + Sync>> {
        let indices: Vec<usize> = range.clone().collect();
        let labels = self.examples.labels().and_then(|l| l.get(range)).unwrap_or_default().to_vec();
        Ok(Batch { inputs: vec![self.intake.batch(self.examples, &indices)?], labels })
    }
}
