//! How many tokens of a text the routers of a mixture send to each expert: what is known of an expert before any
//! statistics are gathered.

use crate::{Lane, LaneError};
use exec::{Compute, Tap};
use graph::{Graph, Op, WeightStore};
use std::collections::BTreeMap;

/// Tokens that each expert of a layer is chosen for, over windows of one length; empty where there are no experts.
///
/// # Errors
/// What [`Lane`] refuses.
pub fn coverage(
    graph: &Graph,
    weights: &WeightStore,
    vocab: usize,
    windows: &[Vec<u32>],
    done: &mut dyn FnMut(),
) -> Result<BTreeMap<usize, Vec<u64>>, LaneError> {
    let mut found: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    if !graph.nodes().iter().any(|node| matches!(node.op, Op::MoeExperts(_))) {
        return Ok(found);
    }
    let mut lane = Lane::new(graph, weights, vocab, windows, None, Compute::F32)?;
    for segment in lane.executor().segments().to_vec() {
        lane.advance_seeing(segment, &mut |tap| {
            let Tap::Inputs { node, inputs } = tap else { return };
            let Op::MoeExperts(op) = &graph.nodes()[node.0].op else { return };
            let layer = op.experts.first().and_then(|expert| weights.get(expert.gate).place.layer);
            let (Some(layer), Some(chosen)) = (layer, inputs.get(2).and_then(|data| data.index())) else { return };
            let counts = found.entry(layer).or_insert_with(|| vec![0; op.experts.len()]);
            for expert in chosen.data() {
                counts.get_mut(*expert as usize).into_iter().for_each(|count| *count += 1);
            }
        })?;
        done();
    }
    Ok(found)
}
