//! The executor: a graph, its weights, and the ways to run it forward.

use crate::backward::{self, Grads, Sink, Tape};
use crate::forward::{Along, Machine, Tap, Tapper};
use crate::ops::RopeTables;
use crate::pool::Pool;
use crate::schedule::Schedule;
use crate::{BatchStatistics, Compute, Data, Error, KvCache, Residency, Scalar, Tensor, Values, Weights};
use graph::{Dim, Graph, Kind, ValueId, WeightId, WeightStore};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// How an executor computes, and what it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Operands of products.
    pub compute: Compute,
    /// Which decoded weights stay.
    pub residency: Residency,
}

/// Runs a graph. It holds its own references to graph and weights, so that both may change meanwhile.
pub struct Executor<R = f32> {
    pub(crate) graph: Graph,
    pub(crate) schedule: Schedule,
    weights: Weights<R>,
    pub(crate) pool: Pool<R>,
    rope: RopeTables<R>,
    pub(crate) trains: Vec<bool>,
    pub(crate) input: ValueId,
    pub(crate) output: ValueId,
    statistics: BatchStatistics,
    /// The sizes of the last batch: buffers of another are of no use.
    shape: Vec<usize>,
}

/// A callback that sees rows of logits of several batches: `see(batch, rows, logits)`.
pub type ManyLogits<'a, R> = &'a mut dyn FnMut(usize, Range<usize>, &[R]);

/// A callback that sees the values of several batches.
pub type ManyTapper<'a, R> = &'a mut dyn FnMut(usize, Tap<'_, R>);

/// Elements of a chunk of logits, if rows are not very long.
const LOGITS: usize = 1 << 21;

impl<R: Scalar> Executor<R> {
    /// An executor of a graph. No weight is read yet.
    pub fn new(graph: &Graph, weights: &WeightStore, options: Options) -> Result<Executor<R>, Error> {
        let ([input, ..], [output, ..]) = (graph.inputs(), graph.outputs()) else {
            let (inputs, outputs) = (graph.inputs().len(), graph.outputs().len());
            return Err(Error::NoEnds { inputs, outputs });
        };
        refuse_empty(graph, weights)?;
        Ok(Executor {
            schedule: Schedule::new(graph),
            weights: Weights::new(graph, weights, options.compute, options.residency),
            pool: Pool::default(),
            rope: RopeTables::default(),
            trains: vec![true; weights.len()],
            input: *input,
            output: *output,
            statistics: BatchStatistics::default(),
            graph: graph.clone(),
            shape: Vec::new(),
        })
    }

    /// The graph it runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Its weights.
    pub fn weights(&self) -> &Weights<R> {
        &self.weights
    }

    /// Its weights, for an optimizer.
    pub fn weights_mut(&mut self) -> &mut Weights<R> {
        &mut self.weights
    }

    /// Takes other contents for the same weights (a pass changed some); those are read again when next needed.
    pub fn set_weights(&mut self, weights: &WeightStore) -> Result<(), Error> {
        self.weights.replace(weights)?;
        self.trains.resize(weights.len(), true);
        Ok(())
    }

    /// Says which weights get gradients; all do until this is called.
    pub fn train_only(&mut self, trains: impl Fn(WeightId) -> bool) {
        (0..self.trains.len()).for_each(|id| self.trains[id] = trains(WeightId(id)));
    }

    /// Runs of nodes that cover the graph up to [`Executor::head`]: its blocks and what lies between them.
    pub fn segments(&self) -> &[Range<usize>] {
        &self.schedule.segments
    }

    /// The nodes after the last block that turn rows into rows of logits: final norm, output matrix, soft cap.
    pub fn head(&self) -> Range<usize> {
        self.schedule.head.clone()
    }

    /// Says where batch norms take their statistics from; the running ones, until this is called.
    pub fn set_batch_statistics(&mut self, statistics: BatchStatistics) {
        self.statistics = statistics;
    }

    /// All nodes.
    pub fn whole(&self) -> Range<usize> {
        0..self.graph.nodes().len()
    }

    /// The outputs of the graph, in order, for its inputs, in order.
    pub fn run(&mut self, inputs: Vec<Data<R>>) -> Result<Vec<Data<R>>, Error> {
        let values = self.inputs(inputs)?;
        let values = self.run_range(self.whole(), values)?;
        self.outputs(&values)
    }

    /// The inputs of the graph, in order, as values to run from.
    pub fn inputs(&mut self, inputs: Vec<Data<R>>) -> Result<Values<R>, Error> {
        let expected = self.graph.inputs().len();
        if inputs.len() != expected {
            return Err(Error::Inputs { got: inputs.len(), expected });
        }
        let empty = |(_, data): &(&ValueId, &Data<R>)| data.shape().contains(&0);
        if let Some((id, _)) = self.graph.inputs().iter().zip(&inputs).find(empty) {
            return Err(Error::Empty { what: self.graph.values()[id.0].name.clone() });
        }
        if let Some(first) = inputs.first() {
            self.size_pool(first.shape());
        }
        Ok(self.graph.inputs().iter().copied().zip(inputs).collect())
    }

    /// The outputs of the graph, in order, out of what a run of all nodes left.
    pub fn outputs(&self, values: &Values<R>) -> Result<Vec<Data<R>>, Error> {
        let missing = |id: &ValueId| Error::Missing { value: self.graph.values()[id.0].name.clone() };
        self.graph.outputs().iter().map(|id| values.get(id).cloned().ok_or_else(|| missing(id))).collect()
    }

    /// Drops buffers that a batch of another size left.
    fn size_pool(&mut self, shape: &[usize]) {
        if self.shape != shape {
            self.pool.clear();
            self.shape = shape.to_vec();
        }
    }

    /// Logits `[batch, tokens, vocabulary]` of ids `[batch, tokens]`.
    pub fn forward(&mut self, ids: &Tensor<u32>) -> Result<Tensor<R>, Error> {
        self.forward_along(ids, Along::nothing())
    }

    /// [`Executor::forward`], showing the inputs of every node to `tap` before it runs.
    pub fn forward_with_taps(
        &mut self,
        ids: &Tensor<u32>,
        tap: &mut dyn FnMut(Tap<'_, R>),
    ) -> Result<Tensor<R>, Error> {
        self.forward_along(ids, Along { tap: Some(tap), ..Along::nothing() })
    }

    /// Logits of ids that follow those of the cache, which takes their keys and values in.
    pub fn forward_cached(&mut self, ids: &Tensor<u32>, cache: &mut KvCache<R>) -> Result<Tensor<R>, Error> {
        self.start(ids)?;
        cache.check(ids.rows(), ids.width())?;
        let logits = self.forward_along(ids, Along { cache: Some(cache), ..Along::nothing() })?;
        cache.advance(ids.width());
        Ok(logits)
    }

    /// Logits `[batch, vocabulary]` of the last of these ids alone; the cache takes all in.
    pub fn prefill(&mut self, ids: &Tensor<u32>, cache: &mut KvCache<R>) -> Result<Tensor<R>, Error> {
        let mut values = self.start(ids)?;
        cache.check(ids.rows(), ids.width())?;
        let head = self.head();
        self.run_segments(&mut values, &mut Along { cache: Some(cache), ..Along::nothing() })?;
        cache.advance(ids.width());
        let hidden = self.hidden(&values)?;
        let tokens = ids.width();
        let last = (0..ids.rows()).map(|sample| (sample + 1) * tokens - 1);
        let rows = last.flat_map(|row| &hidden.data()[row * hidden.width()..][..hidden.width()]).copied().collect();
        let rows = Tensor::new(vec![ids.rows(), hidden.width()], rows)?;
        if head.is_empty() {
            return Ok(rows);
        }
        let mut values = Values::from([(self.graph.nodes()[head.start].inputs[0], rows.into())]);
        self.machine().run(head, &mut values, &mut Along::nothing())?;
        self.take(&mut values, self.output)
    }

    /// What goes into the head, `[batch, tokens, width]`, for [`Executor::logits`] to finish rows of it when they are
    /// wanted: two models compared side by side need never hold all logits of either.
    pub fn forward_hidden(&mut self, ids: &Tensor<u32>) -> Result<Arc<Tensor<R>>, Error> {
        let mut values = self.start(ids)?;
        self.run_segments(&mut values, &mut Along::nothing())?;
        if !self.weights.all_fit() {
            self.pool.clear();
        }
        self.hidden(&values)
    }

    /// Logits `[1, rows, vocabulary]` of some rows of [`Executor::forward_hidden`], counted over `[batch · tokens]`.
    pub fn logits(&mut self, hidden: &Tensor<R>, rows: Range<usize>) -> Result<Tensor<R>, Error> {
        if rows.start > rows.end || rows.end > hidden.rows() {
            return Err(Error::Rows { start: rows.start, end: rows.end, rows: hidden.rows() });
        }
        self.head_of(hidden, rows, None)
    }

    /// Hands logits to `see` in chunks of rows, first to last: `see(rows, logits)`, rows counted over `[batch · tokens]`.
    pub fn forward_logits(&mut self, ids: &Tensor<u32>, see: &mut dyn FnMut(Range<usize>, &[R])) -> Result<(), Error> {
        let hidden = self.forward_hidden(ids)?;
        self.see_logits(hidden, see)
    }

    /// [`Executor::forward_logits`] of many batches: `see(batch, rows, logits)`. Where weights do not all stay resident,
    /// all batches go through one block before the next is read, and only their values between blocks are kept.
    pub fn forward_many(&mut self, batches: &[Tensor<u32>], see: ManyLogits<'_, R>) -> Result<(), Error> {
        if self.weights.all_fit() {
            let mut each = batches.iter().enumerate();
            return each.try_for_each(|(i, ids)| self.forward_logits(ids, &mut |rows, logits| see(i, rows, logits)));
        }
        let mut all = batches.iter().map(|ids| self.start(ids)).collect::<Result<Vec<_>, _>>()?;
        for range in self.schedule.segments.clone() {
            self.run_range_many(range, &mut all, None)?;
        }
        for (i, values) in all.into_iter().enumerate() {
            let hidden = self.hidden(&values)?;
            drop(values);
            self.see_logits(hidden, &mut |rows, logits| see(i, rows, logits))?;
        }
        Ok(())
    }

    /// Runs nodes on the values of several batches with one reading of their weights; each holds what later nodes read
    /// afterwards. `tap(batch, …)` sees the inputs of every node.
    pub fn run_range_many(
        &mut self,
        range: Range<usize>,
        all: &mut [Values<R>],
        mut tap: Option<ManyTapper<'_, R>>,
    ) -> Result<(), Error> {
        self.check_range(&range)?;
        for (batch, values) in all.iter_mut().enumerate() {
            self.check_values(&range, values)?;
            let mut machine = self.machine();
            machine.hold = true;
            match &mut tap {
                Some(tap) => {
                    let tap = &mut |seen: Tap<'_, R>| tap(batch, seen);
                    machine.run(range.clone(), values, &mut Along { tap: Some(tap), ..Along::nothing() })?;
                }
                None => machine.run(range.clone(), values, &mut Along::nothing())?,
            }
        }
        self.end_block();
        Ok(())
    }

    /// [`Executor::run_range`] whose weights stay until [`Executor::end_block`]: the same nodes will run again.
    pub fn run_range_holding(
        &mut self,
        range: Range<usize>,
        mut values: Values<R>,
        tap: Option<Tapper<'_, R>>,
    ) -> Result<Values<R>, Error> {
        self.check_range(&range)?;
        self.check_values(&range, &values)?;
        let mut machine = self.machine();
        machine.hold = true;
        match tap {
            Some(tap) => machine.run(range, &mut values, &mut Along { tap: Some(tap), ..Along::nothing() })?,
            None => machine.run(range, &mut values, &mut Along::nothing())?,
        }
        Ok(values)
    }

    /// Lets weights go that do not stay, and buffers.
    pub fn end_block(&mut self) {
        self.weights.end_block();
        self.pool.clear();
    }

    /// The ids as the value that the graph starts from.
    pub fn start(&mut self, ids: &Tensor<u32>) -> Result<Values<R>, Error> {
        let (inputs, outputs) = (self.graph.inputs().len(), self.graph.outputs().len());
        if (inputs, outputs) != (1, 1) || self.graph.values()[self.input.0].kind != Kind::Index {
            return Err(Error::NotALanguageModel { inputs, outputs });
        }
        if ids.shape().len() != 2 || ids.data().is_empty() {
            let (value, got) = (self.graph.values()[self.input.0].name.clone(), ids.shape().to_vec());
            return Err(Error::Value { value, got, expected: vec![1, 1] });
        }
        self.size_pool(ids.shape());
        Ok(Values::from([(self.input, Data::Index(Arc::new(ids.clone())))]))
    }

    /// Values that a run of nodes reads but does not make.
    pub fn inputs_of(&self, range: &Range<usize>) -> BTreeSet<ValueId> {
        self.schedule.inputs(&self.graph, range)
    }

    /// Gives the buffers of values back, for the next run.
    pub fn recycle(&mut self, values: Values<R>) {
        values.into_values().for_each(|data| self.pool.recycle(data));
    }

    /// Runs nodes. Takes at least [`Executor::inputs_of`] the range, returns what later nodes read.
    pub fn run_range(&mut self, range: Range<usize>, values: Values<R>) -> Result<Values<R>, Error> {
        self.run_range_along(range, values, Along::nothing())
    }

    /// [`Executor::run_range`], showing the inputs of every node to `tap` before it runs.
    pub fn run_range_with_taps(
        &mut self,
        range: Range<usize>,
        values: Values<R>,
        tap: &mut dyn FnMut(Tap<'_, R>),
    ) -> Result<Values<R>, Error> {
        self.run_range_along(range, values, Along { tap: Some(tap), ..Along::nothing() })
    }

    /// [`Executor::run_range`], and what [`Executor::backward_range`] of the same range needs.
    pub fn run_range_taped(&mut self, range: Range<usize>, values: Values<R>) -> Result<(Values<R>, Tape<R>), Error> {
        let mut tape = Tape::default();
        let values = self.run_range_along(range, values, Along { tape: Some(&mut tape), ..Along::nothing() })?;
        Ok((values, tape))
    }

    fn run_range_along(
        &mut self,
        range: Range<usize>,
        mut values: Values<R>,
        mut along: Along<'_, R>,
    ) -> Result<Values<R>, Error> {
        self.check_range(&range)?;
        self.check_values(&range, &values)?;
        self.machine().run(range, &mut values, &mut along)?;
        Ok(values)
    }

    /// Runs nodes backward from the gradients of their outputs. Weights that train add theirs to `grads`; the gradients of
    /// the `asked` values are returned, where any flowed there.
    pub fn backward_range(
        &mut self,
        range: Range<usize>,
        tape: Tape<R>,
        output_grads: BTreeMap<ValueId, Tensor<R>>,
        asked: &[ValueId],
        grads: &mut Grads<R>,
    ) -> Result<BTreeMap<ValueId, Tensor<R>>, Error> {
        self.check_range(&range)?;
        let trains = self.trains.clone();
        let wanted = backward::wanted(&self.graph, range.clone(), asked, &trains);
        let mut of_values = output_grads;
        let mut sink = Sink { of_values: &mut of_values, of_weights: grads, wanted: &wanted, trains: &trains };
        self.machine().run_back(range, tape, &mut sink)?;
        of_values.retain(|id, _| asked.contains(id));
        Ok(of_values)
    }

    fn check_range(&self, range: &Range<usize>) -> Result<(), Error> {
        let nodes = self.graph.nodes().len();
        if range.start > range.end || range.end > nodes {
            return Err(Error::Range { start: range.start, end: range.end, nodes });
        }
        Ok(())
    }

    /// Every value that the range reads is there, of the right kind and with its fixed dimensions.
    fn check_values(&self, range: &Range<usize>, values: &Values<R>) -> Result<(), Error> {
        let mut batch = None;
        for id in self.inputs_of(range) {
            let declared = &self.graph.values()[id.0];
            let given = values.get(&id).ok_or_else(|| Error::Missing { value: declared.name.clone() })?;
            let open = graph::Size {
                batch: given.shape().first().copied().unwrap_or(1),
                tokens: given.shape().get(1).copied().unwrap_or(1),
            };
            let expected: Vec<usize> = declared.shape.iter().map(|d| open.of(*d)).collect();
            if declared.shape.contains(&Dim::Batch) && *batch.get_or_insert(open.batch) != open.batch {
                return Err(Error::Batches { value: declared.name.clone(), got: open.batch });
            }
            if given.kind() != declared.kind || given.shape() != expected {
                let got = given.shape().to_vec();
                return Err(Error::Value { value: declared.name.clone(), got, expected });
            }
        }
        Ok(())
    }

    fn forward_along(&mut self, ids: &Tensor<u32>, mut along: Along<'_, R>) -> Result<Tensor<R>, Error> {
        let mut values = self.start(ids)?;
        self.run_segments(&mut values, &mut along)?;
        let head = self.head();
        self.machine().run(head, &mut values, &mut along)?;
        self.take(&mut values, self.output)
    }

    fn run_segments(&mut self, values: &mut Values<R>, along: &mut Along<'_, R>) -> Result<(), Error> {
        for range in self.schedule.segments.clone() {
            self.machine().run(range, values, along)?;
        }
        Ok(())
    }

    /// Runs the head on chunks of rows.
    fn see_logits(&mut self, hidden: Arc<Tensor<R>>, see: &mut dyn FnMut(Range<usize>, &[R])) -> Result<(), Error> {
        for rows in self.chunks(hidden.rows()) {
            let logits = self.head_of(&hidden, rows.clone(), None)?;
            see(rows, logits.data());
            self.pool.give(logits.into_data());
        }
        self.weights.end_block();
        self.pool.recycle_float(hidden);
        Ok(())
    }

    /// Logits of some rows of what goes into the head.
    pub(crate) fn head_of(
        &mut self,
        hidden: &Tensor<R>,
        rows: Range<usize>,
        tape: Option<&mut Tape<R>>,
    ) -> Result<Tensor<R>, Error> {
        let width = hidden.width();
        let mut part = self.pool.tensor(vec![1, rows.len(), width]);
        part.data_mut().copy_from_slice(&hidden.data()[rows.start * width..rows.end * width]);
        let mut values = Values::from([(self.head_input(), part.into())]);
        let head = self.head();
        let mut machine = self.machine();
        machine.hold = true;
        machine.run(head, &mut values, &mut Along { tape, ..Along::nothing() })?;
        self.take(&mut values, self.output)
    }

    /// What the head reads: the output itself where there is no head.
    pub(crate) fn head_input(&self) -> ValueId {
        self.graph.nodes().get(self.schedule.head.start).map_or(self.output, |node| node.inputs[0])
    }

    /// What goes into the head.
    pub fn hidden(&self, values: &Values<R>) -> Result<Arc<Tensor<R>>, Error> {
        let id = self.head_input();
        let missing = || Error::Missing { value: self.graph.values()[id.0].name.clone() };
        values.get(&id).and_then(Data::float).cloned().ok_or_else(missing)
    }

    /// Cuts rows so that the logits of a chunk stay small.
    pub(crate) fn chunks(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + use<R> {
        let step = (LOGITS / self.vocabulary().max(1)).clamp(128, 1024);
        (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
    }

    pub(crate) fn machine(&mut self) -> Machine<'_, R> {
        Machine {
            graph: &self.graph,
            schedule: &self.schedule,
            weights: &mut self.weights,
            pool: &mut self.pool,
            rope: &mut self.rope,
            statistics: self.statistics,
            hold: false,
        }
    }

    /// Takes numbers out of values.
    pub(crate) fn take(&mut self, values: &mut Values<R>, id: ValueId) -> Result<Tensor<R>, Error> {
        match values.remove(&id) {
            Some(Data::Float(tensor)) => Ok(Arc::try_unwrap(tensor).unwrap_or_else(|shared| self.pool.copy(&shared))),
            _ => Err(Error::Missing { value: self.graph.values()[id.0].name.clone() }),
        }
    }
}

/// Kernels cut values into rows: no dimension may be zero.
fn refuse_empty(graph: &Graph, weights: &WeightStore) -> Result<(), Error> {
    if let Some(value) = graph.values().iter().find(|v| v.shape.contains(&Dim::Fixed(0))) {
        return Err(Error::Empty { what: value.name.clone() });
    }
    let read = graph.nodes().iter().flat_map(|n| n.op.spec().weights());
    match read.map(|id| weights.get(id)).find(|w| w.elements() == 0) {
        Some(weight) => Err(Error::Empty { what: weight.name.clone() }),
        None => Ok(()),
    }
}
