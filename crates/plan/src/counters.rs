//! What a graph costs, counted: multiply–accumulates by op and type, parameters, bytes of weights, and the activation
//! memory that one sample needs.

use crate::arena::{self, Arena};
use graph::{Graph, Model, Node, Op, Size, SourceError, ValueId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one sample costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Multiply–accumulates by op and type of its operands: `Conv int8`.
    pub macs: BTreeMap<String, u64>,
    /// Elements of weights.
    pub parameters: u64,
    /// Bytes of weights: codes where they lie on a grid.
    pub bytes: u64,
    /// Activations.
    pub memory: Arena,
}

impl Counters {
    /// Counts a model; one without a graph has weights alone.
    pub fn of(model: &Model) -> Result<Counters, SourceError> {
        let mut counted = Counters { parameters: model.parameters() as u64, ..Counters::default() };
        for (id, weight) in model.weights.iter() {
            counted.bytes += match model.weights.grid(id) {
                Some(grid) => (weight.elements() * grid.levels.bits()).div_ceil(8) + 4 * grid.scale.len(),
                None => weight.bytes()?,
            } as u64;
        }
        let Some(graph) = model.graph() else { return Ok(counted) };
        for node in graph.nodes() {
            let macs = macs(model, graph, node);
            if macs > 0 {
                *counted.macs.entry(format!("{} {}", node.op.name(), operands(model, graph, node))).or_default() +=
                    macs;
            }
        }
        counted.memory = arena::plan(graph);
        Ok(counted)
    }

    /// All multiply–accumulates.
    pub fn total_macs(&self) -> u64 {
        self.macs.values().sum()
    }
}

/// Multiply–accumulates of a node for one sample.
pub fn macs(model: &Model, graph: &Graph, node: &Node) -> u64 {
    node.op.spec().cost(&graph.input_types(node), &model.weights, ONE).macs
}

const ONE: Size = Size { batch: 1, tokens: 1 };

/// The type that a node multiplies in: integers where all its values and factors are codes.
fn operands(model: &Model, graph: &Graph, node: &Node) -> String {
    let values = node.inputs.iter().map(|v| bits(graph, *v));
    let factor = |id: &graph::WeightId| model.weights.grid(*id).map_or(32, |grid| grid.levels.bits());
    let weight = node.op.spec().weights().first().map(factor);
    match values.chain(weight).max() {
        Some(bits) if bits < 32 => format!("int{bits}"),
        _ => "f32".into(),
    }
}

/// Bits of an element: those of the codes that a value is rounded to, there or by all that read it.
pub(crate) fn bits(graph: &Graph, value: ValueId) -> usize {
    let levels = |node: &Node| match &node.op {
        Op::FakeQuant(op) => Some(op.levels.bits()),
        Op::DynamicQuant(_) => Some(8),
        _ => None,
    };
    let made = graph.nodes().iter().find(|n| n.outputs.contains(&value)).and_then(levels);
    let mut readers = graph.readers(value).map(|at| levels(&graph.nodes()[at])).peekable();
    let read = readers.peek().copied().flatten().filter(|bits| readers.all(|r| r == Some(*bits)));
    made.or(read).unwrap_or(32)
}
