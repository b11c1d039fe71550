//! Statistics of the columns of every matrix at once, from the float model: what an imatrix holds.

use crate::{Depth, Inputs, Lane, LaneError};
use exec::{Compute, Tap};
use graph::{Graph, Op, WeightId, WeightStore};
use std::collections::BTreeMap;

/// What the matrices inside blocks are multiplied with, over windows of one length. An expert that no token reached has
/// seen nothing. `done` is told how many matrices are done, block by
/// block.
///
/// # Errors
/// What [`Lane`] refuses.
pub fn columns(
    graph: &Graph,
    weights: &WeightStore,
    vocab: usize,
    windows: &[Vec<u32>],
    done: &mut dyn FnMut(usize),
) -> Result<BTreeMap<WeightId, Inputs>, LaneError> {
    let mut lane = Lane::new(graph, weights, vocab, windows, None, Compute::F32)?;
    let mut seen = BTreeMap::new();
    let new = |id: WeightId| (id, Inputs::new(weights.get(id).cols(), Depth::Columns));
    for segment in lane.executor().segments().to_vec() {
        let matrices = graph.nodes()[segment.clone()].iter().flat_map(|node| matrices(&node.op));
        let before = seen.len();
        seen.extend(matrices.filter(|id| weights.get(*id).place.layer.is_some()).map(new));
        lane.advance_seeing(segment, &mut |tap| see(graph, &tap, &mut seen))?;
        done(seen.len() - before);
    }
    Ok(seen)
}

fn matrices(op: &Op) -> Vec<WeightId> {
    match op {
        Op::Linear(op) => vec![op.weight],
        Op::MoeRoute(op) => vec![op.weight],
        Op::MoeExperts(op) => op.experts.iter().flat_map(|e| [e.gate, e.up, e.down]).collect(),
        _ => Vec::new(),
    }
}

fn see(graph: &Graph, tap: &Tap<'_>, seen: &mut BTreeMap<WeightId, Inputs>) {
    match tap {
        Tap::Expert { weight, rows, .. } => {
            seen.entry(*weight).and_modify(|inputs| inputs.see(rows));
        }
        Tap::Inputs { node, inputs } => {
            let op = &graph.nodes()[node.0].op;
            let Some(rows) = inputs.first().and_then(|data| data.float()) else { return };
            if !matches!(op, Op::MoeExperts(_)) {
                for id in matrices(op) {
                    seen.entry(id).and_modify(|inputs| inputs.see(rows.data()));
                }
            }
        }
    }
}
