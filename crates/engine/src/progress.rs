//! How a run tells of its progress: the engine prints nothing.

/// What the amounts of a stage count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of files.
    Bytes,
    /// Weights (tensors).
    Weights,
    /// Runs of nodes of a graph.
    Blocks,
    /// Tokens of text.
    Tokens,
    /// Inputs of a network.
    Samples,
    /// Prune groups.
    Groups,
    /// Steps of training.
    Steps,
}

/// Hears of a run's progress, from any thread.
pub trait Progress: Sync {
    /// A stage begins; `total` is how much there is to do, 0 where that is unknown.
    fn begin(&self, stage: &str, total: u64, unit: Unit);
    /// So much more is done.
    fn advance(&self, amount: u64);
    /// The stage is over.
    fn end(&self);
    /// How it goes, in words that the next ones replace.
    fn say(&self, _words: &str) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _stage: &str, _total: u64, _unit: Unit) {}
    fn advance(&self, _amount: u64) {}
    fn end(&self) {}
}
