//! Running nodes backward: what a forward keeps for it, what a rule sees of its node, and the loop.

use crate::forward::Machine;
use crate::ops::{self, RopeTables};
use crate::pool::Pool;
use crate::schedule::Step;
use crate::{Data, Error, Scalar, Tensor, Weights};
use graph::{Graph, Kind, Node, ValueId, WeightId};
use kernels::Write;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What a forward run keeps for its backward.
pub struct Tape<R = f32> {
    values: BTreeMap<ValueId, Data<R>>,
    /// Of every value that was read, kept or not.
    shapes: BTreeMap<ValueId, Vec<usize>>,
    /// By position of the node.
    saved: BTreeMap<usize, Vec<Vec<R>>>,
}

impl<R> Default for Tape<R> {
    fn default() -> Tape<R> {
        Tape { values: BTreeMap::new(), shapes: BTreeMap::new(), saved: BTreeMap::new() }
    }
}

impl<R> Tape<R> {
    pub(crate) fn keep(&mut self, id: ValueId, data: &Data<R>) {
        self.values.entry(id).or_insert_with(|| data.clone());
    }

    pub(crate) fn note(&mut self, id: ValueId, shape: &[usize]) {
        self.shapes.entry(id).or_insert_with(|| shape.to_vec());
    }

    pub(crate) fn save(&mut self, node: usize, saved: Vec<Vec<R>>) {
        self.saved.insert(node, saved);
    }
}

/// Gradients of weights. Those of a weight that several nodes read add up, and so do those of several batches.
#[derive(Clone, Debug)]
pub struct Grads<R = f32> {
    of: BTreeMap<WeightId, Vec<R>>,
}

impl<R> Default for Grads<R> {
    fn default() -> Grads<R> {
        Grads { of: BTreeMap::new() }
    }
}

impl<R: Scalar> Grads<R> {
    /// A weight's gradient; none where nothing reached it.
    pub fn get(&self, id: WeightId) -> Option<&[R]> {
        self.of.get(&id).map(Vec::as_slice)
    }

    /// A weight's gradient, to change.
    pub fn get_mut(&mut self, id: WeightId) -> Option<&mut [R]> {
        self.of.get_mut(&id).map(Vec::as_mut_slice)
    }

    /// Every gradient, by weight.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &[R])> {
        self.of.iter().map(|(id, grad)| (*id, &grad[..]))
    }

    /// Every gradient, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (WeightId, &mut [R])> {
        self.of.iter_mut().map(|(id, grad)| (*id, &mut grad[..]))
    }

    /// Sets all to zero and keeps the buffers.
    pub fn zero(&mut self) {
        self.of.values_mut().for_each(|grad| grad.fill(R::ZERO));
    }

    /// Square root of the sum of all squares.
    pub fn norm(&self) -> f64 {
        self.of.values().map(|grad| kernels::sum_squares(grad)).sum::<f64>().sqrt()
    }
}

/// What a rule's backward sees of its node.
pub(crate) struct Backward<'a, R> {
    pub node: &'a Node,
    pub weights: &'a Weights<R>,
    pub pool: &'a mut Pool<R>,
    pub rope: &'a mut RopeTables<R>,
    graph: &'a Graph,
    kept: &'a BTreeMap<ValueId, Data<R>>,
    shapes: &'a BTreeMap<ValueId, Vec<usize>>,
    saved: std::vec::IntoIter<Vec<R>>,
    /// Gradients of the outputs.
    grads: Vec<Option<Tensor<R>>>,
    wanted: &'a BTreeSet<ValueId>,
    /// Gradients of values so far.
    of_values: &'a mut BTreeMap<ValueId, Tensor<R>>,
    of_weights: &'a mut Grads<R>,
    trains: &'a [bool],
}

impl<'a, R: Scalar> Backward<'a, R> {
    fn kept(&self, id: ValueId) -> Result<&'a Data<R>, Error> {
        self.kept.get(&id).ok_or_else(|| Error::Missing { value: self.graph.values()[id.0].name.clone() })
    }

    fn kept_float(&self, id: ValueId) -> Result<Arc<Tensor<R>>, Error> {
        let missing = || Error::Missing { value: self.graph.values()[id.0].name.clone() };
        self.kept(id)?.float().cloned().ok_or_else(missing)
    }

    fn kept_index(&self, id: ValueId) -> Result<Arc<Tensor<u32>>, Error> {
        let missing = || Error::Missing { value: self.graph.values()[id.0].name.clone() };
        self.kept(id)?.index().cloned().ok_or_else(missing)
    }

    /// An input of numbers, as the forward saw it.
    pub fn input(&self, input: usize) -> Result<Arc<Tensor<R>>, Error> {
        self.kept_float(self.node.inputs[input])
    }

    /// The shape of an input.
    pub fn shape(&self, input: usize) -> Result<&'a [usize], Error> {
        let id = self.node.inputs[input];
        let missing = || Error::Missing { value: self.graph.values()[id.0].name.clone() };
        self.shapes.get(&id).map(Vec::as_slice).ok_or_else(missing)
    }

    /// An input of indices.
    pub fn index(&self, input: usize) -> Result<Arc<Tensor<u32>>, Error> {
        self.kept_index(self.node.inputs[input])
    }

    /// An output of numbers, as the forward made it.
    pub fn output(&self, output: usize) -> Result<Arc<Tensor<R>>, Error> {
        self.kept_float(self.node.outputs[output])
    }

    /// An output of indices.
    pub fn output_index(&self, output: usize) -> Result<Arc<Tensor<u32>>, Error> {
        self.kept_index(self.node.outputs[output])
    }

    /// The next of what the forward saved, in its order.
    pub fn saved(&mut self) -> Result<Vec<R>, Error> {
        self.saved.next().ok_or_else(|| Error::Missing { value: self.node.name.clone() })
    }

    /// The gradient of an output; fails where there is none.
    pub fn grad(&mut self, output: usize) -> Result<Tensor<R>, Error> {
        let grad = self.grads.get_mut(output).and_then(Option::take);
        grad.ok_or_else(|| Error::Missing { value: format!("gradient of {}", self.node.name) })
    }

    /// Whether the gradient of an input is wanted.
    pub fn wants(&self, input: usize) -> bool {
        self.wanted.contains(&self.node.inputs[input])
    }

    /// Whether the gradient of a weight is wanted.
    pub fn trains(&self, weight: WeightId) -> bool {
        self.trains[weight.0]
    }

    /// The buffer of an input's gradient, and whether to add to it or to set it. Goes back by [`Backward::close`].
    pub fn open(&mut self, input: usize, shape: &[usize]) -> (Tensor<R>, Write) {
        match self.of_values.remove(&self.node.inputs[input]) {
            Some(grad) => (grad, Write::Add),
            None => (self.pool.tensor(shape.to_vec()), Write::Set),
        }
    }

    /// Puts the buffer of an input's gradient back.
    pub fn close(&mut self, input: usize, grad: Tensor<R>) {
        if self.wants(input) {
            self.of_values.insert(self.node.inputs[input], grad);
        } else {
            self.recycle(grad);
        }
    }

    /// Lets `write` set an input's gradient or add to it, if it is wanted.
    pub fn input_grad(&mut self, input: usize, shape: &[usize], write: impl FnOnce(&mut [R], Write)) {
        if self.wants(input) {
            let (mut grad, how) = self.open(input, shape);
            write(grad.data_mut(), how);
            self.close(input, grad);
        }
    }

    /// Adds to an input's gradient.
    pub fn add_grad(&mut self, input: usize, grad: Tensor<R>) {
        match self.of_values.get_mut(&self.node.inputs[input]) {
            Some(sum) => {
                kernels::add_assign(sum.data_mut(), grad.data());
                self.recycle(grad);
            }
            None => self.close(input, grad),
        }
    }

    /// Lets `add` add to a weight's gradient, if it is wanted.
    pub fn weight_grad(&mut self, weight: WeightId, add: impl FnOnce(&mut [R])) {
        if self.trains(weight) {
            let len = self.weights.store().get(weight).elements();
            add(self.of_weights.of.entry(weight).or_insert_with(|| vec![R::ZERO; len]));
        }
    }

    /// Keeps a buffer for later.
    pub fn recycle(&mut self, grad: Tensor<R>) {
        self.pool.give(grad.into_data());
    }
}

/// Where gradients go.
pub(crate) struct Sink<'a, R> {
    /// Gradients of values: of the outputs before, of the wanted inputs after.
    pub of_values: &'a mut BTreeMap<ValueId, Tensor<R>>,
    pub of_weights: &'a mut Grads<R>,
    /// Values that want one, as [`wanted`] says.
    pub wanted: &'a BTreeSet<ValueId>,
    /// Which weights want one.
    pub trains: &'a [bool],
}

/// The values that gradients must flow through to reach the weights that train and the `asked` values.
pub(crate) fn wanted(graph: &Graph, range: Range<usize>, asked: &[ValueId], trains: &[bool]) -> BTreeSet<ValueId> {
    let mut wanted: BTreeSet<ValueId> = asked.iter().copied().collect();
    for node in &graph.nodes()[range] {
        let trained = node.op.spec().weights().iter().any(|w| trains[w.0]);
        if trained || node.inputs.iter().any(|v| wanted.contains(v)) {
            let floats = node.outputs.iter().filter(|v| graph.values()[v.0].kind == Kind::Float);
            wanted.extend(floats);
        }
    }
    wanted
}

impl<R: Scalar> Machine<'_, R> {
    /// Runs nodes backward; what the tape holds is freed on the way.
    pub fn run_back(&mut self, range: Range<usize>, mut tape: Tape<R>, sink: &mut Sink<'_, R>) -> Result<(), Error> {
        for at in range.clone().rev() {
            match self.schedule.step(at, &range, true) {
                Step::Deferred { .. } => self.back_deferred(at, sink),
                step => self.back_node(at, step, &mut tape, sink)?,
            }
            for value in &self.graph.nodes()[at].outputs {
                tape.values.remove(value).into_iter().for_each(|data| self.pool.recycle(data));
            }
        }
        tape.values.into_values().for_each(|data| self.pool.recycle(data));
        if !self.hold {
            self.weights.end_block();
        }
        Ok(())
    }

    /// The product has already gone through the activation.
    fn back_deferred(&mut self, at: usize, sink: &mut Sink<'_, R>) {
        let node = &self.graph.nodes()[at];
        let (input, output) = (node.inputs[0], node.outputs[0]);
        let Some(grad) = sink.of_values.remove(&output) else { return };
        match sink.of_values.get_mut(&input) {
            Some(sum) => kernels::add_assign(sum.data_mut(), grad.data()),
            None => drop(sink.of_values.insert(input, grad)),
        }
    }

    fn back_node(&mut self, at: usize, step: Step, tape: &mut Tape<R>, sink: &mut Sink<'_, R>) -> Result<(), Error> {
        let node = &self.graph.nodes()[at];
        let saved = tape.saved.remove(&at).unwrap_or_default();
        let grads: Vec<_> = node.outputs.iter().map(|v| sink.of_values.remove(v)).collect();
        let trained = node.op.spec().weights().iter().any(|w| sink.trains[w.0]);
        let flows = trained || node.inputs.iter().any(|v| sink.wanted.contains(v));
        if !flows || grads.iter().all(Option::is_none) {
            grads.into_iter().flatten().for_each(|g| self.pool.give(g.into_data()));
            return Ok(());
        }
        self.weights.load(&node.name, &node.op)?;
        let mut cx = Backward {
            node,
            weights: self.weights,
            pool: self.pool,
            rope: self.rope,
            graph: self.graph,
            kept: &tape.values,
            shapes: &tape.shapes,
            saved: saved.into_iter(),
            grads,
            wanted: sink.wanted,
            of_values: sink.of_values,
            of_weights: sink.of_weights,
            trains: sink.trains,
        };
        ops::rule::<R>(&node.op, &step).backward(&mut cx)
    }
}
