//! The largest magnitudes that flow through a model: what scales of inputs and caches in eight bits are made from.

use crate::{Lane, LaneError};
use exec::{Compute, Tap};
use graph::{Graph, Op, WeightId, WeightStore};
use std::collections::BTreeMap;

/// Largest magnitudes of one model over all windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Magnitudes {
    /// Of what each matrix inside blocks is multiplied with. An expert that no token reached has 0.
    pub inputs: BTreeMap<WeightId, f32>,
    /// Of the keys, after the rotary embedding, and values of each cache slot.
    pub caches: BTreeMap<usize, (f32, f32)>,
}

/// Runs a model over windows of one length. `done` is called after each run of nodes.
///
/// # Errors
/// What [`Lane`] refuses.
pub fn magnitudes(
    graph: &Graph,
    weights: &WeightStore,
    vocab: usize,
    windows: &[Vec<u32>],
    done: &mut dyn FnMut(),
) -> Result<Magnitudes, LaneError> {
    let mut lane = Lane::new(graph, weights, vocab, windows, None, Compute::F32)?;
    let mut found = Magnitudes::default();
    for segment in lane.executor().segments().to_vec() {
        lane.advance_seeing(segment, &mut |tap| found.see(graph, &tap))?;
        done();
    }
    Ok(found)
}

impl Magnitudes {
    fn see(&mut self, graph: &Graph, tap: &Tap<'_>) {
        match tap {
            Tap::Expert { weight, rows, .. } => self.input(*weight, largest(rows)),
            Tap::Inputs { node, inputs } => {
                let of = |n: usize| inputs.get(n).and_then(|data| data.float()).map_or(0.0, |x| largest(x.data()));
                match &graph.nodes()[node.0].op {
                    Op::Linear(op) => self.input(op.weight, of(0)),
                    Op::MoeExperts(op) => {
                        op.experts.iter().flat_map(|e| [e.gate, e.up, e.down]).for_each(|w| self.input(w, 0.0));
                    }
                    Op::Attention(op) => {
                        let (key, value) = self.caches.entry(op.slot).or_default();
                        (*key, *value) = (key.max(of(1)), value.max(of(2)));
                    }
                    _ => {}
                }
            }
        }
    }

    fn input(&mut self, weight: WeightId, magnitude: f32) {
        let known = self.inputs.entry(weight).or_default();
        *known = known.max(magnitude);
    }
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |most, x| x.abs().max(most))
}
