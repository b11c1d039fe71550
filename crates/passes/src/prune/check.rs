//! Dead-channel invariance: the proof that a group is one.
//!
//! With a channel's numbers made zero wherever they stand, nothing passes through it, so the network must compute what it
//! computes without the channel. A group that missed a weight, or put its indices in another order (a shuffle taken for
//! element-wise), does not. Only the nodes from the first to the last one that touches the group are run, on random values; all
//! that later nodes read must agree.

use super::union::Of;
use super::{Channel, PruneError, Removal};
use exec::{Data, Executor, Options, Values};
use graph::{Model, Size, ValueId};
use std::collections::BTreeSet;
use std::ops::Range;

/// The largest difference that counts as none, relative to the largest number.
pub const TOLERANCE: f64 = 1e-5;

const ONE: Size = Size { batch: 1, tokens: 8 };

/// How far apart the masked and the smaller network are: `max |a − b| / max |a|` of every value that leaves the group's nodes.
pub fn invariance(model: &Model, channels: &[&Channel], seed: u64) -> Result<f64, PruneError> {
    let removal = Removal::of(channels.iter().copied());
    let (mut masked, mut smaller) = (model.clone(), model.clone());
    masked.apply(removal.mask(model)?)?;
    smaller.apply(removal.patch(model)?)?;
    let Some(range) = span(model, &removal) else { return Ok(0.0) };
    let a = run(&masked, &range, seed)?;
    let b = run(&smaller, &range, seed)?;
    Ok(a.iter().map(|(id, a)| b.get(id).map_or(f64::INFINITY, |b| apart(a, b))).fold(0.0, f64::max))
}

/// From the first to the last node that touches an axis that loses indices.
fn span(model: &Model, removal: &Removal) -> Option<Range<usize>> {
    let graph = model.graph()?;
    let touched: BTreeSet<Of> = removal.axes().map(|axis| axis.of).collect();
    let touches = |node: &graph::Node| {
        let mut values = node.inputs.iter().chain(&node.outputs).map(|v| Of::Value(*v));
        let mut weights = node.op.spec().weights().into_iter().map(Of::Weight);
        values.any(|v| touched.contains(&v)) || weights.any(|w| touched.contains(&w))
    };
    let first = graph.nodes().iter().position(touches)?;
    let last = graph.nodes().iter().rposition(touches)?;
    Some(first..last + 1)
}

/// What a run of nodes makes of random values.
fn run(model: &Model, range: &Range<usize>, seed: u64) -> Result<Values, PruneError> {
    let Some(graph) = model.graph() else { return Ok(Values::new()) };
    let mut executor = Executor::<f32>::new(graph, &model.weights, Options::default())?;
    let random = |id: ValueId| exec::random(&graph.values()[id.0], ONE, seed ^ (id.0 as u64) << 32);
    let inputs = executor.inputs_of(range).into_iter().map(|id| Ok((id, random(id)?)));
    let inputs = inputs.collect::<Result<_, exec::Error>>()?;
    Ok(executor.run_range(range.clone(), inputs)?)
}

fn apart(a: &Data, b: &Data) -> f64 {
    let (Some(a), Some(b)) = (a.float(), b.float()) else { return 0.0 };
    if a.shape() != b.shape() {
        return f64::INFINITY;
    }
    let largest = a.data().iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let difference = a.data().iter().zip(b.data()).fold(0.0, |m: f32, (a, b)| {
        let d = (a - b).abs();
        if d.is_nan() { f32::INFINITY } else { m.max(d) }
    });
    if difference == 0.0 { 0.0 } else { f64::from(difference) / f64::from(largest).max(f64::MIN_POSITIVE) }
}
