//! Expert pruning: whole experts of a mixture go, as many of each layer, with their rows of the router.
//!
//! **What it does.** Scores every expert by `mean g·‖f(x)‖₂` over the tokens that the router sends to it: `g` what its output is
//! multiplied by, `f` the output. The least go. The router then chooses among the others, as many for each token as before.
//! **When to use.** Where a mixture does not fit in memory; what a token costs stays as it is.
//! **What it costs.** One run over the text, with each expert's last product made twice.
//! **What it needs.** Text of the kind that the model is for (`--calibration`): what is rare in it goes. `l1` and `l2` need none: they compare sums
//! over each expert's numbers, and know nothing of what the router does.
//! **Numbers.** `bench/prune`.
//! **Paper.** Lasby et al., *REAP the Experts: Why Pruning Prevails for One-Shot MoE Compression*, 2025.
//! **Differences from the paper.** None in the score. An expert that no token reached has score 0, and the journal counts them.

use super::PruneError;
use super::whole::{Chosen, Staying, Task, largest, left};
use calib::Lane;
use exec::{Compute, Data, Tap};
use graph::{Model, Op, WeightId, ops::MoeExperts};
use kernels::{MatMut, MatRef, Write, matmul};
use plan::{Criterion, GroupEntry, Note};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The experts that stay.
pub(super) fn choose(task: Task<'_>) -> Result<Chosen, PruneError> {
    let Task { model, config, spec, windows, .. } = task;
    let experts = config.experts.as_ref().ok_or(PruneError::NoExperts)?;
    let left = left(spec, experts.count, experts.used)?;
    let (scores, mut notes, figures): (Scores, Vec<String>, _) = match spec.by {
        Criterion::Reap if windows.is_empty() => {
            return Err(PruneError::NeedsText { by: spec.by.name(), of: "experts" });
        }
        Criterion::Reap => {
            let seen = watch(task)?;
            let scores = seen.iter().map(|(layer, of)| (*layer, of.scores())).collect();
            (scores, idle(&seen), vec![("share of choices of experts that stay".into(), kept(&seen, left))])
        }
        by => {
            let note = "experts were compared by their numbers alone, not by their use".into();
            (by_magnitude(model, by)?, vec![note], Vec::new())
        }
    };
    notes.push(format!("every token still goes to {} experts, of {left} in place of {}", experts.used, experts.count));
    let entry = |layer: &usize| GroupEntry {
        name: format!("layer {layer}"),
        kind: "experts".into(),
        before: experts.count,
        after: left,
        moved: Vec::new(),
    };
    if let Some((layer, _)) = scores.iter().find(|(_, scores)| scores.iter().any(|s| !s.is_finite())) {
        return Err(PruneError::NotFiniteOnText { at: format!("in the experts of layer {layer}") });
    }
    let groups = scores.keys().map(entry).collect();
    let staying = Staying {
        layers: (0..config.layers.len()).collect(),
        experts: scores.iter().map(|(layer, scores)| (*layer, largest(scores, left))).collect(),
    };
    let notes = notes.into_iter().map(|what| Note { weight: None, what }).collect();
    Ok(Chosen { staying, figures, notes, groups })
}

/// Scores of every expert, by layer.
type Scores = BTreeMap<usize, Vec<f64>>;

/// Mixtures, and the layer of each.
fn mixtures(model: &Model) -> impl Iterator<Item = (usize, &MoeExperts)> {
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    nodes.iter().filter_map(|node| match &node.op {
        Op::MoeExperts(op) => Some((layer_of(model, op)?, op)),
        _ => None,
    })
}

fn layer_of(model: &Model, op: &MoeExperts) -> Option<usize> {
    op.experts.first().and_then(|expert| model.weights.get(expert.down).place.layer)
}

fn by_magnitude(model: &Model, by: Criterion) -> Result<Scores, PruneError> {
    let size = |x: &f32| if by == Criterion::L1 { f64::from(x.abs()) } else { f64::from(*x).powi(2) };
    let of = |id: WeightId| model.weights.get(id).read().map(|numbers| numbers.iter().map(size).sum::<f64>());
    let one = |(layer, op): (usize, &MoeExperts)| {
        let scores = op.experts.iter().map(|e| Ok(of(e.gate)? + of(e.up)? + of(e.down)?));
        Ok((layer, scores.collect::<Result<_, PruneError>>()?))
    };
    mixtures(model).map(one).collect()
}

/// What the experts of a layer did on the text.
#[derive(Clone, Default)]
struct Use {
    /// `Σ g·‖f(x)‖` of each.
    made: Vec<f64>,
    /// Tokens of each.
    tokens: Vec<u64>,
}

impl Use {
    /// What each made, for a token that it got.
    fn scores(&self) -> Vec<f64> {
        self.made.iter().zip(&self.tokens).map(|(made, n)| made / (*n).max(1) as f64).collect()
    }
}

/// Says how many experts no token reached.
fn idle(seen: &BTreeMap<usize, Use>) -> Vec<String> {
    let idle = seen.values().flat_map(|of| &of.tokens).filter(|n| **n == 0).count();
    let note = (idle > 0).then(|| format!("no token of the text reached {idle} experts: these went first"));
    note.into_iter().collect()
}

/// The share of all choices of experts that fell on the best so many of each layer.
fn kept(seen: &BTreeMap<usize, Use>, left: usize) -> f64 {
    let best = |of: &Use| largest(&of.scores(), left).iter().map(|e| of.tokens[*e]).sum::<u64>();
    let all: u64 = seen.values().flat_map(|of| &of.tokens).sum();
    seen.values().map(best).sum::<u64>() as f64 / all.max(1) as f64
}

/// Runs over the text and watches the experts.
fn watch(Task { model, config, windows, advance, .. }: Task<'_>) -> Result<BTreeMap<usize, Use>, PruneError> {
    let Some(graph) = model.graph() else { return Ok(BTreeMap::new()) };
    let mut lane = Lane::new(graph, &model.weights, config.vocab, windows, None, Compute::F32)?;
    let mut seen = BTreeMap::new();
    for segment in lane.executor().segments().to_vec() {
        let (mut watch, mut read) = (None, Ok(()));
        lane.advance_seeing(segment, &mut |tap| match tap {
            Tap::Inputs { node, inputs } => {
                if let Op::MoeExperts(op) = &graph.nodes()[node.0].op {
                    watch.get_or_insert_with(|| Watch::new(op)).route(inputs);
                }
            }
            Tap::Expert { weight, width, rows, .. } => {
                if let (Some(watch), Ok(())) = (&mut watch, &read) {
                    read = watch.expert(model, weight, width, rows);
                }
            }
        })?;
        read?;
        seen.extend(watch.and_then(|watch| Some((layer_of(model, watch.op)?, watch.seen))));
        advance(1);
    }
    Ok(seen)
}

/// A mixture at work.
struct Watch<'a> {
    op: &'a MoeExperts,
    /// Of each expert: what its outputs are multiplied by, token by token of the batch at hand.
    gates: Vec<Vec<f32>>,
    /// The last matrix of each expert that had a token.
    down: BTreeMap<usize, Vec<f32>>,
    seen: Use,
}

impl<'a> Watch<'a> {
    fn new(op: &'a MoeExperts) -> Watch<'a> {
        let count = op.experts.len();
        Watch {
            op,
            gates: Vec::new(),
            down: BTreeMap::new(),
            seen: Use { made: vec![0.0; count], tokens: vec![0; count] },
        }
    }

    /// Takes what the router chose.
    fn route(&mut self, inputs: &[Data]) {
        self.gates = vec![Vec::new(); self.op.experts.len()];
        let (gates, numbers) = (inputs.get(1).and_then(Data::float), inputs.get(2).and_then(Data::index));
        for (gate, number) in gates.into_iter().flat_map(|g| g.data()).zip(numbers.into_iter().flat_map(|n| n.data())) {
            self.gates.get_mut(*number as usize).into_iter().for_each(|gates| gates.push(*gate));
        }
    }

    /// Takes the rows that an expert's matrix is about to multiply; those of its last one become its outputs.
    fn expert(&mut self, model: &Model, weight: WeightId, width: usize, rows: &[f32]) -> Result<(), PruneError> {
        let Some(e) = self.op.experts.iter().position(|expert| expert.down == weight) else { return Ok(()) };
        let matrix = match self.down.entry(e) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(slot) => slot.insert(model.weights.get(weight).read()?),
        };
        let (tokens, made) = (rows.len() / width.max(1), matrix.len() / width.max(1));
        let mut outputs = vec![0.0; tokens * made];
        let (rows, matrix) = (MatRef::new(rows, tokens, width), MatRef::new(matrix, made, width).t());
        matmul(1.0, rows, matrix, MatMut::new(&mut outputs, tokens, made), Write::Set);
        let norm = |y: &[f32]| y.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>().sqrt();
        let weighed = outputs.chunks_exact(made.max(1)).zip(&self.gates[e]).map(|(y, gate)| f64::from(*gate) * norm(y));
        self.seen.made[e] += weighed.sum::<f64>();
        self.seen.tokens[e] += tokens as u64;
        Ok(())
    }
}
