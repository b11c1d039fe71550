//! What can be said of a graph before it runs: when values die, its segments, its head, and which nodes fuse.

use crate::ops::{Function, Gated};
use graph::{Graph, Op, ValueId};
use std::collections::BTreeSet;
use std::ops::Range;

/// How a node runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// By its op's rule.
    Plain,
    /// Not at all: the product at this node applies the activation.
    Deferred {
        /// Position of the product.
        at: usize,
    },
    /// A product that applies an activation to one of its inputs first.
    Gated {
        /// Position of the activation.
        from: usize,
        /// What then runs.
        gated: Gated,
    },
}

/// See the module.
pub(crate) struct Schedule {
    /// Position of the last reader of each value; `usize::MAX` for graph outputs.
    last_use: Vec<Option<usize>>,
    steps: Vec<Step>,
    /// Runs of nodes that cover the body: blocks, and what lies between them.
    pub segments: Vec<Range<usize>>,
    /// The nodes after the last block that turn rows of one value into rows of logits.
    pub head: Range<usize>,
}

impl Schedule {
    pub fn new(graph: &Graph) -> Schedule {
        let mut last_use = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs.iter().for_each(|v| last_use[v.0] = Some(i));
        }
        graph.outputs().iter().for_each(|v| last_use[v.0] = Some(usize::MAX));
        let head = head(graph);
        Schedule { last_use, steps: steps(graph), segments: segments(graph, head.start), head }
    }

    /// Whether nothing after node `at` reads the value.
    pub fn dies_at(&self, value: ValueId, at: usize) -> bool {
        self.last_use[value.0].is_none_or(|last| last <= at)
    }

    /// How node `at` runs as part of `range`: fused only with nodes of the range.
    pub fn step(&self, at: usize, range: &Range<usize>, fuse: bool) -> Step {
        match self.steps[at] {
            Step::Deferred { at } if !fuse || !range.contains(&at) => Step::Plain,
            Step::Gated { from, .. } if !fuse || !range.contains(&from) => Step::Plain,
            step => step,
        }
    }

    /// Values that a run of nodes reads but does not make.
    pub fn inputs(&self, graph: &Graph, range: &Range<usize>) -> BTreeSet<ValueId> {
        let nodes = &graph.nodes()[range.clone()];
        let made: BTreeSet<_> = nodes.iter().flat_map(|n| &n.outputs).copied().collect();
        nodes.iter().flat_map(|n| &n.inputs).copied().filter(|v| !made.contains(v)).collect()
    }
}

/// Blocks, the nodes between them, and those between the last block and the head.
fn segments(graph: &Graph, end: usize) -> Vec<Range<usize>> {
    let mut segments = Vec::new();
    let mut at = 0;
    for block in graph.blocks() {
        segments.extend([at..block.nodes.start, block.nodes.clone()]);
        at = block.nodes.end;
    }
    segments.push(at..end);
    segments.retain(|s| !s.is_empty());
    segments
}

/// The longest run of row-wise nodes after the last block that reads one value; empty where there is none.
fn head(graph: &Graph) -> Range<usize> {
    let end = graph.nodes().len();
    let first = graph.blocks().last().map_or(0, |b| b.nodes.end);
    let rowwise = |op: &Op| matches!(op, Op::Norm(_) | Op::Linear(_) | Op::Activation(_) | Op::Scale(_));
    let mut start = end;
    for (i, node) in graph.nodes().iter().enumerate().skip(first).rev() {
        let feeds_next = i + 1 == end || graph.nodes()[i + 1].inputs == node.outputs;
        if !rowwise(&node.op) || !feeds_next {
            break;
        }
        start = i;
    }
    start..end
}

/// Fuses an activation whose only reader is a product with that product.
fn steps(graph: &Graph) -> Vec<Step> {
    let mut steps = vec![Step::Plain; graph.nodes().len()];
    for (from, node) in graph.nodes().iter().enumerate() {
        let Op::Activation(op) = &node.op else { continue };
        let Function::Gate(activation) = (*op).into() else { continue };
        if let Some((at, gate)) = only_product(graph, node.outputs[0])
            && steps[at] == Step::Plain
        {
            steps[from] = Step::Deferred { at };
            steps[at] = Step::Gated { from, gated: Gated { activation, gate } };
        }
    }
    steps
}

/// The product that alone reads a value, and as which input.
fn only_product(graph: &Graph, value: ValueId) -> Option<(usize, usize)> {
    let mut readers = graph.nodes().iter().enumerate().filter(|(_, n)| n.inputs.contains(&value));
    let (at, node) = readers.next()?;
    let alone = readers.next().is_none() && !graph.outputs().contains(&value);
    let gate = node.inputs.iter().position(|v| *v == value)?;
    let once = node.inputs.get(1 - gate.min(1)) != Some(&value);
    let alike = node.inputs.iter().all(|v| graph.values()[v.0].shape == graph.values()[value.0].shape);
    (alone && once && alike && matches!(node.op, Op::Mul(_))).then_some((at, gate))
}
