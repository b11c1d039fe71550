//! The residual stream: values whose channels can all be rotated together.
//!
//! From each embedding on, whatever is added to it, scaled, or normalised as a whole carries the same channels. If all
//! that makes or reads such values does so by weights, one rotation goes into all of these and changes nothing. A norm
//! commutes with it once its own weight has gone into the matrices behind it; where it cannot go there (a norm whose
//! result is added to the stream; a head that is the embedding), there is no rotation.

use super::{Finder, Fold, Refusal, multiplies, weight_end};
use graph::ops::NormKind;
use graph::{Graph, Model, Node, NodeId, Op, Port, ValueId, WeightId};
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// Channels.
    pub width: usize,
    /// Norms whose weight must first go into the matrices behind them.
    pub norms: Vec<Fold>,
    /// Weights along one of whose axes the channels lie.
    pub weights: BTreeSet<(WeightId, usize)>,
    values: BTreeSet<ValueId>,
    nodes: BTreeSet<NodeId>,
}

/// The stream that begins at each embedding, or why it cannot be rotated.
pub fn streams(model: &Model, graph: &Graph) -> Vec<Result<Stream, Refusal>> {
    let finder = Finder { model, graph, first: 0 };
    let embeddings = graph.nodes().iter().filter(|n| matches!(n.op, Op::Embedding(_)));
    embeddings.map(|node| finder.stream(node.outputs[0])).collect()
}

impl Finder<'_> {
    fn stream(&self, first: ValueId) -> Result<Stream, Refusal> {
        let mut stream = Stream { width: self.width(first), ..Stream::default() };
        let mut next = vec![first];
        while let Some(value) = next.pop() {
            if stream.values.insert(value) {
                self.inner(value)?;
                self.made(value, &mut stream, &mut next)?;
                self.read(value, &mut stream, &mut next)?;
            }
        }
        let apart = |w: &WeightId| self.graph.users(*w).any(|node| !stream.nodes.contains(&node));
        match stream.weights.iter().map(|(w, _)| w).find(|w| apart(w)) {
            Some(w) => Err(Refusal::Shared { weight: self.model.weights.get(*w).name.clone() }),
            None => Ok(stream),
        }
    }

    /// Takes in what makes a value of the stream.
    fn made(&self, value: ValueId, stream: &mut Stream, next: &mut Vec<ValueId>) -> Result<(), Refusal> {
        let made = |(_, n): &(usize, &Node)| n.outputs.contains(&value);
        let Some((at, node)) = self.graph.nodes().iter().enumerate().find(made) else { return Ok(()) };
        stream.nodes.insert(NodeId(at));
        match &node.op {
            Op::Embedding(_) | Op::Linear(_) | Op::MoeExperts(_) => {
                let links = self.linked(node, Port::Output(0));
                stream.weights.extend(links.iter().filter_map(|link| weight_end(node, link)));
            }
            Op::Add(_) | Op::Scale(_) | Op::Norm(_) => self.same(node, node.inputs.iter(), stream, next)?,
            _ => return Err(Refusal::Op { node: node.name.clone(), op: node.op.name() }),
        }
        Ok(())
    }

    /// Takes in all that reads a value of the stream.
    fn read(&self, value: ValueId, stream: &mut Stream, next: &mut Vec<ValueId>) -> Result<(), Refusal> {
        for (at, node) in self.graph.nodes().iter().enumerate() {
            let Some(n) = node.inputs.iter().position(|v| *v == value) else { continue };
            stream.nodes.insert(NodeId(at));
            match &node.op {
                op if multiplies(op) => {
                    let columns = self.linked(node, Port::Input(n));
                    let columns = columns.iter().filter_map(|link| weight_end(node, link));
                    stream.weights.extend(columns.filter(|(_, axis)| *axis == 1));
                }
                Op::Norm(norm) if norm.kind == NormKind::Rms && norm.size == stream.width => {
                    stream.norms.push(self.at_value(node.outputs[0])?);
                    next.push(node.outputs[0]);
                }
                Op::Add(_) | Op::Scale(_) => self.same(node, node.outputs.iter(), stream, next)?,
                _ => return Err(self.reader(node, value)),
            }
        }
        Ok(())
    }

    /// Goes on to values that carry the same channels, if they are as wide.
    fn same<'v>(
        &self,
        node: &Node,
        values: impl Iterator<Item = &'v ValueId>,
        stream: &Stream,
        next: &mut Vec<ValueId>,
    ) -> Result<(), Refusal> {
        for value in values {
            if self.width(*value) != stream.width {
                return Err(Refusal::Op { node: node.name.clone(), op: node.op.name() });
            }
            next.push(*value);
        }
        Ok(())
    }

    /// Numbers in a row of a value; 0 where that is open.
    fn width(&self, value: ValueId) -> usize {
        match self.graph.values()[value.0].shape.last() {
            Some(graph::Dim::Fixed(width)) => *width,
            _ => 0,
        }
    }
}
