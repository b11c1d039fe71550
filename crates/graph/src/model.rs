//! The graph itself: values, nodes in the order they run, and the blocks they form.

use crate::{Cost, DecoderConfig, GraphError, Kind, Op, Shape, Size, WeightId, WeightStore, check};
use std::ops::Range;

/// Points to a value of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// Points to a node of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// What flows between nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// For people and taps.
    pub name: String,
    /// Numbers or indices.
    pub kind: Kind,
    /// Outermost dimension first.
    pub shape: Shape,
}

/// One op at work.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the graph.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it makes.
    pub outputs: Vec<ValueId>,
}

/// A repeated region (a decoder layer): the unit of streaming. Its nodes are consecutive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// For people: `layer 3`.
    pub name: String,
    /// Positions of its nodes.
    pub nodes: Range<usize>,
}

/// Nodes in an order in which they can run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    blocks: Vec<Block>,
}

impl Graph {
    /// Adds a graph input.
    pub fn input(&mut self, name: &str, kind: Kind, shape: Shape) -> ValueId {
        let id = self.value(name.into(), kind, shape);
        self.inputs.push(id);
        id
    }

    /// Appends a node; its outputs follow from the op. Fails where the inputs do not fit it.
    pub fn push(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[ValueId],
        weights: &WeightStore,
    ) -> Result<Vec<ValueId>, GraphError> {
        let op = op.into();
        let typed: Vec<_> = inputs.iter().map(|v| (self.values[v.0].kind, self.values[v.0].shape.clone())).collect();
        let made = op.spec().outputs(&typed, weights).map_err(|e| GraphError::Shape {
            node: name.into(),
            op: op.name(),
            why: e.0,
        })?;
        let many = made.len() > 1;
        let outputs: Vec<_> = made
            .into_iter()
            .enumerate()
            .map(|(i, (kind, shape))| self.value(if many { format!("{name}.{i}") } else { name.into() }, kind, shape))
            .collect();
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), outputs: outputs.clone() });
        Ok(outputs)
    }

    /// Appends a node with one output.
    pub fn push1(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[ValueId],
        weights: &WeightStore,
    ) -> Result<ValueId, GraphError> {
        self.push(name, op, inputs, weights).map(|outputs| outputs[0])
    }

    /// How much has been built, for [`Graph::rollback`].
    pub fn mark(&self) -> (usize, usize) {
        (self.nodes.len(), self.values.len())
    }

    /// Takes back every node and value since a mark.
    pub fn rollback(&mut self, (nodes, values): (usize, usize)) {
        self.nodes.truncate(nodes);
        self.values.truncate(values);
    }

    /// Names a value; nodes name their outputs after themselves.
    pub fn name_value(&mut self, value: ValueId, name: &str) {
        self.values[value.0].name = name.into();
    }

    /// Says that a value is an output of the graph.
    pub fn output(&mut self, value: ValueId) {
        self.outputs.push(value);
    }

    /// Says that the nodes from position `first` to the last one so far are a block.
    pub fn close_block(&mut self, name: String, first: usize) {
        self.blocks.push(Block { name, nodes: first..self.nodes.len() });
    }

    pub(crate) fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    pub(crate) fn outputs_mut(&mut self) -> &mut [ValueId] {
        &mut self.outputs
    }

    pub(crate) fn retype(&mut self, value: ValueId, kind: Kind, shape: Shape) {
        let value = &mut self.values[value.0];
        (value.kind, value.shape) = (kind, shape);
    }

    /// Removes a node; blocks behind it move.
    pub(crate) fn remove(&mut self, at: usize) {
        self.nodes.remove(at);
        for block in &mut self.blocks {
            block.nodes.start -= usize::from(block.nodes.start > at);
            block.nodes.end -= usize::from(block.nodes.end > at);
        }
    }

    /// Moves the last node forward; blocks behind its new place move.
    pub(crate) fn move_node(&mut self, from: usize, to: usize) {
        let node = self.nodes.remove(from);
        self.nodes.insert(to, node);
        for block in self.blocks.iter_mut().filter(|b| b.nodes.end > to) {
            block.nodes.start += usize::from(block.nodes.start >= to);
            block.nodes.end += 1;
        }
    }

    fn value(&mut self, name: String, kind: Kind, shape: Shape) -> ValueId {
        self.values.push(Value { name, kind, shape });
        ValueId(self.values.len() - 1)
    }

    /// All values; a [`ValueId`] is a position here.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, in running order; a [`NodeId`] is a position here.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The blocks, in running order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Graph inputs.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Graph outputs.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Kinds and shapes of a node's inputs.
    pub fn input_types(&self, node: &Node) -> Vec<(Kind, Shape)> {
        node.inputs.iter().map(|v| (self.values[v.0].kind, self.values[v.0].shape.clone())).collect()
    }

    /// The nodes that read a weight: more than one where it is shared (tied embeddings).
    pub fn users(&self, weight: WeightId) -> impl Iterator<Item = NodeId> {
        let reads = move |n: &Node| n.op.spec().weights().contains(&weight);
        self.nodes.iter().enumerate().filter(move |(_, n)| reads(n)).map(|(i, _)| NodeId(i))
    }

    /// What one run costs at a size.
    pub fn cost(&self, weights: &WeightStore, size: Size) -> Cost {
        let macs = self.nodes.iter().map(|n| n.op.spec().cost(&self.input_types(n), weights, size).macs).sum();
        Cost { macs }
    }
}

/// What a model is beside its weights.
#[derive(Clone)]
pub enum Body {
    /// A decoder language model, built from its configuration: one input of ids, one output of logits.
    Decoder {
        /// Its frozen configuration.
        config: DecoderConfig,
        /// What runs.
        graph: Graph,
    },
    /// Any other network, translated node by node: values are laid out as ONNX has them, `[batch, channels, space…]`.
    Network {
        /// What runs.
        graph: Graph,
    },
    /// Weights by name and shape only: what needs no graph still works.
    Unknown {
        /// Why there is no graph.
        reason: String,
    },
}

/// A model: what runs, and its weights.
#[derive(Clone)]
pub struct Model {
    /// What it is.
    pub body: Body,
    /// Its weights, lazily.
    pub weights: WeightStore,
}

impl Model {
    /// The graph, where the architecture is known.
    pub fn graph(&self) -> Option<&Graph> {
        match &self.body {
            Body::Decoder { graph, .. } | Body::Network { graph } => Some(graph),
            Body::Unknown { .. } => None,
        }
    }

    /// The decoder configuration, where it is one.
    pub fn decoder(&self) -> Option<&DecoderConfig> {
        match &self.body {
            Body::Decoder { config, .. } => Some(config),
            Body::Network { .. } | Body::Unknown { .. } => None,
        }
    }

    /// Elements of all weights.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|(_, w)| w.elements()).sum()
    }

    /// Checks every invariant of the graph against the weights.
    pub fn check(&self) -> Result<(), GraphError> {
        self.graph().map_or(Ok(()), |graph| check::check(graph, &self.weights))
    }
}
