//! Running nodes forward: what a rule sees of its node, and the loop over a run of nodes.

use crate::backward::Tape;
use crate::ops::{self, RopeTables};
use crate::pool::Pool;
use crate::schedule::{Schedule, Step};
use crate::{Data, Error, KvCache, Scalar, Tensor, Values, Weights};
use graph::{Dim, Graph, Node, NodeId, Size, ValueId, WeightId};
use std::ops::Range;
use std::sync::Arc;

/// What is seen while a graph runs with taps.
pub enum Tap<'a, R = f32> {
    /// A node is about to run on these inputs.
    Inputs {
        /// The node.
        node: NodeId,
        /// Its inputs, in order.
        inputs: &'a [Data<R>],
    },
    /// Rows are about to be multiplied by an expert's matrix: those of the tokens that chose it.
    Expert {
        /// The node.
        node: NodeId,
        /// The matrix.
        weight: WeightId,
        /// Length of a row.
        width: usize,
        /// Row-major.
        rows: &'a [R],
    },
}

/// Where batch norms take mean and variance from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum BatchStatistics {
    /// The running ones, which the model holds.
    #[default]
    Kept,
    /// Those of the batch at hand; the running ones follow, each keeping so much of its old value.
    Live {
        /// The weight of the old value; the op's own where there is none (ONNX's `momentum`).
        momentum: Option<f64>,
    },
}

/// A weight moves: `w ← keep·w + (1 − keep)·toward`.
pub(crate) struct Update<R> {
    pub weight: WeightId,
    pub keep: f64,
    pub toward: Vec<R>,
}

/// A callback that sees values as the graph runs.
pub type Tapper<'a, R> = &'a mut dyn FnMut(Tap<'_, R>);

/// What a rule's forward sees of its node.
pub(crate) struct Forward<'a, R> {
    pub id: NodeId,
    pub node: &'a Node,
    graph: &'a Graph,
    pub weights: &'a Weights<R>,
    pub pool: &'a mut Pool<R>,
    pub rope: &'a mut RopeTables<R>,
    pub cache: Option<&'a mut KvCache<R>>,
    /// Where a rule puts what its backward needs beside inputs and outputs, when there will be one.
    pub saved: Option<Vec<Vec<R>>>,
    pub tap: Option<Tapper<'a, R>>,
    /// Where batch norms take their statistics from.
    pub statistics: BatchStatistics,
    /// New values of running statistics.
    pub updates: Vec<Update<R>>,
    inputs: Vec<Option<Data<R>>>,
}

impl<R: Scalar> Forward<'_, R> {
    /// An input of numbers.
    pub fn float(&self, input: usize) -> Result<Arc<Tensor<R>>, Error> {
        let data = self.inputs.get(input).and_then(Option::as_ref);
        data.and_then(Data::float).cloned().ok_or_else(|| self.wrong(input, "numbers"))
    }

    /// An input of indices.
    pub fn index(&self, input: usize) -> Result<Arc<Tensor<u32>>, Error> {
        let data = self.inputs.get(input).and_then(Option::as_ref);
        data.and_then(Data::index).cloned().ok_or_else(|| self.wrong(input, "indices"))
    }

    /// An input to write over: itself where nothing else reads it any more, else a copy.
    pub fn owned(&mut self, input: usize) -> Result<Tensor<R>, Error> {
        match self.inputs.get_mut(input).and_then(Option::take) {
            Some(Data::Float(tensor)) => Ok(Arc::try_unwrap(tensor).unwrap_or_else(|shared| self.pool.copy(&shared))),
            _ => Err(self.wrong(input, "numbers")),
        }
    }

    /// Whether nothing else reads the input any more.
    pub fn dying(&self, input: usize) -> bool {
        matches!(self.inputs.get(input), Some(Some(Data::Float(tensor))) if Arc::strong_count(tensor) == 1)
    }

    /// What the open dimensions of the inputs are.
    pub fn size(&self) -> Size {
        let mut size = Size { batch: 1, tokens: 1 };
        for (id, data) in self.node.inputs.iter().zip(&self.inputs) {
            let lengths = data.as_ref().map(Data::shape).unwrap_or_default();
            for (dim, length) in self.graph.values()[id.0].shape.iter().zip(lengths) {
                match dim {
                    Dim::Batch => size.batch = *length,
                    Dim::Tokens => size.tokens = *length,
                    Dim::Fixed(_) => {}
                }
            }
        }
        size
    }

    /// Position of the first token.
    pub fn past(&self) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.len())
    }

    /// Keeps something for the backward, if there will be one.
    pub fn save(&mut self, statistic: Vec<R>) {
        match &mut self.saved {
            Some(saved) => saved.push(statistic),
            None => self.pool.give(statistic),
        }
    }

    fn wrong(&self, input: usize, expected: &'static str) -> Error {
        let got = if expected == "numbers" { "indices" } else { "numbers" };
        Error::Kind { node: self.node.name.clone(), input, got, expected }
    }
}

/// The parts of an executor that a run works on.
pub(crate) struct Machine<'a, R> {
    pub graph: &'a Graph,
    pub schedule: &'a Schedule,
    pub weights: &'a mut Weights<R>,
    pub pool: &'a mut Pool<R>,
    pub rope: &'a mut RopeTables<R>,
    pub statistics: BatchStatistics,
    /// Whether weights stay until the caller ends the block: it runs the same nodes again.
    pub hold: bool,
}

/// What a run does beside computing values.
pub(crate) struct Along<'a, R> {
    pub cache: Option<&'a mut KvCache<R>>,
    pub tape: Option<&'a mut Tape<R>>,
    pub tap: Option<Tapper<'a, R>>,
}

impl<R> Along<'_, R> {
    /// Nothing.
    pub fn nothing() -> Self {
        Along { cache: None, tape: None, tap: None }
    }
}

impl<R: Scalar> Machine<'_, R> {
    /// Runs nodes; values that nothing later reads are freed as early as that is known.
    pub fn run(&mut self, range: Range<usize>, values: &mut Values<R>, along: &mut Along<'_, R>) -> Result<(), Error> {
        let fuse = along.tap.is_none();
        for at in range.clone() {
            match self.schedule.step(at, &range, fuse) {
                Step::Deferred { .. } => self.defer(at, values)?,
                step => self.run_node(at, step, values, along)?,
            }
        }
        if !self.hold {
            self.weights.end_block();
        }
        Ok(())
    }

    /// Hands the input of an activation on to the product that will apply it.
    fn defer(&mut self, at: usize, values: &mut Values<R>) -> Result<(), Error> {
        let node = &self.graph.nodes()[at];
        let inputs = self.inputs(node, at, values)?;
        values.extend(node.outputs.iter().copied().zip(inputs));
        Ok(())
    }

    fn run_node(
        &mut self,
        at: usize,
        step: Step,
        values: &mut Values<R>,
        along: &mut Along<'_, R>,
    ) -> Result<(), Error> {
        let node = &self.graph.nodes()[at];
        self.weights.load(&node.name, &node.op)?;
        let inputs = self.inputs(node, at, values)?;
        let rule = ops::rule::<R>(&node.op, &step);
        if let Some(tap) = &mut along.tap {
            tap(Tap::Inputs { node: NodeId(at), inputs: &inputs });
        }
        if let Some(tape) = &mut along.tape {
            let kept = node.inputs.iter().zip(&inputs).enumerate().filter(|(i, _)| rule.keeps_input(*i));
            kept.for_each(|(_, (id, data))| tape.keep(*id, data));
            node.inputs.iter().zip(&inputs).for_each(|(id, data)| tape.note(*id, data.shape()));
        }
        let mut cx = Forward {
            id: NodeId(at),
            node,
            graph: self.graph,
            weights: self.weights,
            pool: self.pool,
            rope: self.rope,
            cache: along.cache.as_deref_mut(),
            saved: along.tape.is_some().then(Vec::new),
            tap: along.tap.as_deref_mut().map(|tap| tap as Tapper<'_, R>),
            statistics: self.statistics,
            updates: Vec::new(),
            inputs: inputs.into_iter().map(Some).collect(),
        };
        let outputs = rule.forward(&mut cx)?;
        let (saved, inputs, updates) =
            (cx.saved.take(), std::mem::take(&mut cx.inputs), std::mem::take(&mut cx.updates));
        updates.into_iter().try_for_each(|update| self.weights.update(update))?;
        inputs.into_iter().flatten().for_each(|data| self.pool.recycle(data));
        if let (Some(tape), Some(saved)) = (&mut along.tape, saved) {
            tape.save(at, saved);
            let kept = node.outputs.iter().zip(&outputs).filter(|_| rule.keeps_outputs());
            kept.for_each(|(id, data)| tape.keep(*id, data));
        }
        values.extend(node.outputs.iter().copied().zip(outputs));
        let unread = node.outputs.iter().filter(|v| self.schedule.dies_at(**v, at));
        unread.for_each(|v| drop(values.remove(v)));
        Ok(())
    }

    /// The inputs of a node; those that nothing later reads leave `values`.
    fn inputs(&self, node: &Node, at: usize, values: &mut Values<R>) -> Result<Vec<Data<R>>, Error> {
        let missing = |v: &ValueId| Error::Missing { value: self.graph.values()[v.0].name.clone() };
        let found = node.inputs.iter().map(|v| values.get(v).cloned().ok_or_else(|| missing(v))).collect();
        let dying = node.inputs.iter().filter(|v| self.schedule.dies_at(**v, at));
        dying.for_each(|v| drop(values.remove(v)));
        found
    }
}
