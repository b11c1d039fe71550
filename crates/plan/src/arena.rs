//! How much activation memory a graph needs, and a plan that fits it: buffers at fixed offsets in one arena.
//!
//! *Live bytes* at a node are those of all values that it reads, makes, or that wait for a later one; no plan needs less
//! than their maximum. An element-wise node writes over an input that nobody reads afterwards; a reshape moves nothing.
//! Offsets are found first-fit: buffers in some order (largest first, or by birth), each at the lowest offset where it
//! overlaps none that lives at the same time; the best order wins. (Pisarchyk and Lee, *Efficient Memory Management for
//! Deep Neural Net Inference*, 2020.) Weights are not counted, nor a kernel's scratch.

use crate::counters::bits;
use graph::{Graph, Node, Op, Size, ValueId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::ops::RangeInclusive;

/// Activation memory of one sample, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arena {
    /// The most that is alive at once: what no plan can do without.
    pub live: u64,
    /// The node at which that is.
    pub at: String,
    /// What the plan takes.
    pub planned: u64,
    /// Live bytes at every node, in running order.
    pub timeline: Vec<u64>,
}

/// A piece of memory that one or more values share one after the other.
struct Buffer {
    bytes: u64,
    lives: RangeInclusive<usize>,
}

/// Plans a graph's activations.
pub(crate) fn plan(graph: &Graph) -> Arena {
    let buffers = buffers(graph);
    let alive = |at: usize| buffers.iter().filter(|b| b.lives.contains(&at)).map(|b| b.bytes).sum();
    let timeline: Vec<u64> = (0..graph.nodes().len()).map(alive).collect();
    let peak = timeline.iter().enumerate().max_by_key(|(at, bytes)| (**bytes, Reverse(*at)));
    let (at, live) = peak.map_or((0, 0), |(at, live)| (at, *live));
    let at = graph.nodes().get(at).map_or_else(String::new, |n| n.name.clone());
    Arena { live, at, planned: best_fit(&buffers), timeline }
}

/// The least extent over a few orders of placing.
fn best_fit(buffers: &[Buffer]) -> u64 {
    let keys: [Key; 4] = [
        |b| (b.bytes, span(b)),
        |b| (span(b), b.bytes),
        |b| (b.bytes.saturating_mul(span(b)), b.bytes),
        |b| (u64::MAX - *b.lives.start() as u64, b.bytes),
    ];
    let extent = |key: &Key| {
        let mut order: Vec<&Buffer> = buffers.iter().collect();
        order.sort_by_key(|b| Reverse(key(b)));
        first_fit(&order)
    };
    keys.iter().map(extent).min().unwrap_or(0)
}

/// By what buffers are placed, the greatest first.
type Key = fn(&Buffer) -> (u64, u64);

/// How many nodes a buffer outlasts.
fn span(buffer: &Buffer) -> u64 {
    (buffer.lives.end() - buffer.lives.start() + 1) as u64
}

/// Places buffers in turn, each as low as it fits; returns where the last one ends.
fn first_fit(order: &[&Buffer]) -> u64 {
    let mut placed: Vec<(u64, &Buffer)> = Vec::new();
    for buffer in order {
        let together = |b: &Buffer| b.lives.start() <= buffer.lives.end() && buffer.lives.start() <= b.lives.end();
        let mut taken: Vec<_> = placed.iter().filter(|(_, b)| together(b)).map(|(at, b)| (*at, at + b.bytes)).collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (from, to) in taken {
            if offset + buffer.bytes <= from {
                break;
            }
            offset = offset.max(to);
        }
        placed.push((offset, buffer));
    }
    placed.iter().map(|(at, b)| at + b.bytes).max().unwrap_or(0)
}

/// The buffers of a graph's values.
fn buffers(graph: &Graph) -> Vec<Buffer> {
    let mut last = vec![0; graph.values().len()];
    for (at, node) in graph.nodes().iter().enumerate() {
        node.inputs.iter().for_each(|v| last[v.0] = at);
    }
    graph.outputs().iter().for_each(|v| last[v.0] = graph.nodes().len());
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut of: Vec<Option<usize>> = vec![None; graph.values().len()];
    let fresh = |value: ValueId, at: usize, of: &mut Vec<Option<usize>>, buffers: &mut Vec<Buffer>| {
        buffers.push(Buffer { bytes: bytes(graph, value), lives: at..=last[value.0].max(at) });
        of[value.0] = Some(buffers.len() - 1);
    };
    graph.inputs().iter().for_each(|v| fresh(*v, 0, &mut of, &mut buffers));
    for (at, node) in graph.nodes().iter().enumerate() {
        for (n, value) in node.outputs.iter().enumerate() {
            let mut host = node.inputs.iter().filter_map(|v| Some((*v, of[v.0]?)));
            let host = host.rfind(|(v, b)| n == 0 && may_share(graph, node, *v, *value, &buffers[*b], at));
            match host {
                Some((_, buffer)) => {
                    let lives = &mut buffers[buffer].lives;
                    *lives = *lives.start()..=(*lives.end()).max(last[value.0]);
                    of[value.0] = Some(buffer);
                }
                None if matches!(node.op, Op::Constant(_)) => {}
                None => fresh(*value, at, &mut of, &mut buffers),
            }
        }
    }
    buffers
}

/// Whether an output may lie where an input does: a reshape's always, an element-wise op's where the input dies.
fn may_share(graph: &Graph, node: &Node, input: ValueId, output: ValueId, host: &Buffer, at: usize) -> bool {
    let fits = bytes(graph, output) <= host.bytes && graph.values()[input.0].shape == graph.values()[output.0].shape;
    match &node.op {
        Op::Reshape(_) => true,
        Op::Activation(_) | Op::Add(_) | Op::Mul(_) | Op::Binary(_) | Op::BatchNorm(_) | Op::FakeQuant(_) => {
            fits && *host.lives.end() == at
        }
        Op::DynamicQuant(_) | Op::Scale(_) | Op::Softmax(_) | Op::Norm(_) | Op::GroupNorm(_) => {
            fits && *host.lives.end() == at
        }
        _ => false,
    }
}

fn bytes(graph: &Graph, value: ValueId) -> u64 {
    let one = Size { batch: 1, tokens: 1 };
    (one.elements(&graph.values()[value.0].shape) * bits(graph, value)).div_ceil(8) as u64
}
