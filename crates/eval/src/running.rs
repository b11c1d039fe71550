//! An imported model, running: what is measured.

use crate::{EvalError, LanguageModel};
use exec::{Data, Executor, Options, Tensor, Values};
use graph::{Dim, Graph, WeightStore};
use std::ops::Range;
use std::sync::Arc;

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
    /// What goes into the head.
    type Hidden = Arc<Tensor>;

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn read(&mut self, windows: &[&[u32]]) -> Result<Vec<Arc<Tensor>>, EvalError> {
        let start = |ids: &&[u32]| self.executor.start(&Tensor::ids(1, ids.to_vec())?);
        let mut all = windows.iter().map(start).collect::<Result<Vec<_>, exec::Error>>()?;
        for segment in self.executor.segments().to_vec() {
            self.executor.run_range_many(segment, &mut all, None)?;
        }
        all.iter().map(|values| self.hidden(values)).collect()
    }

    fn logits(&mut self, hidden: &Arc<Tensor>, rows: Range<usize>) -> Result<Vec<f32>, EvalError> {
        Ok(self.executor.logits(hidden, rows)?.into_data())
    }
}

impl Running {
    /// The value that the head reads; the logits themselves where there is no head.
    fn hidden(&self, values: &Values) -> Result<Arc<Tensor>, EvalError> {
        let graph = self.executor.graph();
        let head = graph.nodes().get(self.executor.head().start).and_then(|node| node.inputs.first());
        let id = head.or(graph.outputs().first());
        let found = id.and_then(|id| values.get(id)).and_then(Data::float).cloned();
        Ok(found.ok_or_else(|| exec::Error::Missing { value: "logits".into() })?)
    }
}
