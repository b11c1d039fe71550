//! An imported model, running: what is measured.

use crate::{EvalError, LanguageModel};
use exec::{Executor, Options, Tensor, Values};
use graph::{Dim, Graph, WeightStore};
use std::ops::Range;

/// A model on the interpreter.
pub struct Running {
    executor: Executor,
    vocab: usize,
}

impl Running {
    /// A graph that turns ids into logits, and its weights.
    pub fn new(graph: &Graph, weights: &WeightStore, options: Options) -> Result<Running, EvalError> {
        let executor = Executor::new(graph, weights, options)?;
        let last = graph.outputs().first().and_then(|v| graph.values()[v.0].shape.last());
        let vocab = if let Some(Dim::Fixed(vocab)) = last { *vocab } else { 0 };
        Ok(Running { executor, vocab })
    }

    /// The interpreter.
    pub fn executor(&mut self) -> &mut Executor {
        &mut self.executor
    }
}

impl LanguageModel for Running {
    type Hidden = Values;

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn read(&mut self, windows: &[&[u32]]) -> Result<Vec<Values>, EvalError> {
        let batches = windows.iter().map(|ids| Tensor::ids(1, ids.to_vec())).collect::<Result<Vec<_>, _>>()?;
        Ok(self.executor.run_blocks(&batches, &mut |_, _| {})?)
    }

    fn logits(&mut self, hidden: &Values, rows: Range<usize>) -> Result<Vec<f32>, EvalError> {
        Ok(self.executor.logits_of(hidden, rows)?.into_data())
    }
}
