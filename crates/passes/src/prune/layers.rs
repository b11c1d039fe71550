//! Depth pruning: whole layers of a decoder go.
//!
//! **What it does.** A layer adds to the hidden state; without it the state passes by. `loss` takes out the layer without which the
//! text's next tokens are most probable, then looks again, until the budget holds. `influence` takes out at once the layers that
//! turn the state least: `1 − mean cos(x_in, x_out)` over tokens.
//! `influence` is the default: on the models that were tried both choose layers of which the text is as probable.
//! **When to use.** Where a runtime is to be faster on any hardware: what is left has the usual shapes, in every format. Where more than
//! about a quarter goes, train what is left again.
//! **What it costs.** `influence`: one run over the text. `loss`: for each layer that goes, half as many runs as there are layers.
//! **What it needs.** Text (`--calibration`). Memory is one block and what flows between blocks.
//! **Numbers.** `bench/prune`.
//! **Paper.** `influence`: Men et al., *ShortGPT: Layers in Large Language Models are More Redundant Than You Expect*, 2024. `loss`: Song et al.,
//! *SLEB: Streamlining LLMs through Redundancy Verification and Elimination of Transformer Blocks*, ICML 2024.
//! **Differences from the papers.** None in what is measured. Layers before the one that is tried run once for all that are.

use super::PruneError;
use super::whole::{Chosen, Staying, Task, largest, left};
use calib::{Lane, windows_together};
use exec::{Compute, Tensor};
use graph::ValueId;
use plan::{Criterion, GroupEntry};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows of logits that are made together.
const ROWS: usize = 256;

/// The layers that stay.
pub(super) fn choose(task: Task<'_>) -> Result<Chosen, PruneError> {
    let (spec, before) = (task.spec, task.config.layers.len());
    let left = left(spec, before, 1)?;
    if task.windows.first().is_none_or(|window| window.len() < 2) {
        return Err(PruneError::NeedsText { by: spec.by.name(), of: "layers" });
    }
    let (layers, figures) = match spec.by {
        Criterion::Influence => by_influence(task, left)?,
        _ => by_loss(task, left)?,
    };
    let group = GroupEntry { name: "layers".into(), kind: "layer".into(), before, after: left, moved: Vec::new() };
    Ok(Chosen {
        staying: Staying { layers, experts: BTreeMap::new() },
        figures,
        notes: Vec::new(),
        groups: vec![group],
    })
}

/// Layers that stay, and what was measured.
type Choice = (Vec<usize>, Vec<(String, f64)>);

fn by_influence(task: Task<'_>, left: usize) -> Result<Choice, PruneError> {
    let mut walk = Walk::new(task)?;
    let mut influences = Vec::new();
    for layer in 0..task.config.layers.len() {
        influences.push(finite(walk.influence(layer)?, layer)?);
        (task.advance)(1);
    }
    let stay = largest(&influences, left);
    let gone = influences.iter().enumerate().filter(|(layer, _)| !stay.contains(layer));
    let mut figures: Vec<_> =
        gone.map(|(n, influence)| (format!("influence of layer {n}, which goes"), *influence)).collect();
    let least = stay.iter().map(|layer| influences[*layer]).fold(f64::INFINITY, f64::min);
    figures.push(("least of those that stay".to_owned(), least));
    Ok((stay, figures))
}

fn by_loss(task: Task<'_>, left: usize) -> Result<Choice, PruneError> {
    let mut stay: Vec<usize> = (0..task.config.layers.len()).collect();
    let mut whole = Walk::new(task)?;
    whole.run(&stay)?;
    let mut figures = vec![("nats per token".to_owned(), whole.loss()?)];
    while stay.len() > left {
        let losses = losses(task, &stay)?;
        let Some((at, loss)) = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)) else { break };
        figures.push((format!("without layer {} too", stay.remove(at)), *loss));
    }
    Ok((stay, figures))
}

/// The loss without each of these layers.
fn losses(task: Task<'_>, layers: &[usize]) -> Result<Vec<f64>, PruneError> {
    let mut walk = Walk::new(task)?;
    let mut losses = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        let (here, at) = (walk.lane.keep()?, walk.at);
        walk.run(&layers[n + 1..])?;
        losses.push(finite(walk.loss()?, *layer)?);
        walk.lane.go_back(here);
        walk.at = at;
        walk.run(&[*layer])?;
        (task.advance)(1);
    }
    Ok(losses)
}

fn finite(measured: f64, layer: usize) -> Result<f64, PruneError> {
    let at = || format!("at layer {layer}, or without it");
    if measured.is_finite() { Ok(measured) } else { Err(PruneError::NotFiniteOnText { at: at() }) }
}

/// A run over text that may leave layers out.
struct Walk<'a> {
    lane: Lane,
    windows: &'a [Vec<u32>],
    blocks: Vec<Range<usize>>,
    /// What each block reads, and behind them the head.
    reads: Vec<ValueId>,
    /// The value that waits.
    at: ValueId,
}

impl<'a> Walk<'a> {
    /// Stands before the first layer.
    fn new(Task { model, config, windows, .. }: Task<'a>) -> Result<Walk<'a>, PruneError> {
        let nothing = || PruneError::Nothing { why: Some("the model has no layers to run".into()) };
        let graph = model.graph().ok_or_else(nothing)?;
        let mut lane = Lane::new(graph, &model.weights, config.vocab, windows, None, Compute::F32)?;
        let blocks: Vec<Range<usize>> = graph.blocks().iter().map(|b| b.nodes.clone()).collect();
        let head = lane.executor().head();
        let first = blocks.first().ok_or_else(nothing)?.start;
        let read = |nodes: &Range<usize>| lane.executor().inputs_of(nodes).into_iter().next();
        let reads = blocks.iter().chain([&head]).filter_map(read).collect::<Vec<_>>();
        let at = *reads.first().ok_or_else(nothing)?;
        let before = lane.executor().segments().iter().filter(|s| s.end <= first).cloned().collect::<Vec<_>>();
        before.into_iter().try_for_each(|segment| lane.advance(segment))?;
        Ok(Walk { lane, windows, blocks, reads, at })
    }

    /// Goes through these layers and no other.
    fn run(&mut self, layers: &[usize]) -> Result<(), PruneError> {
        for layer in layers {
            self.lane.rename(self.at, self.reads[*layer])?;
            self.lane.advance(self.blocks[*layer].clone())?;
            self.at = self.reads[layer + 1];
        }
        Ok(())
    }

    /// Goes through the next layer: how far it turns what it reads.
    fn influence(&mut self, layer: usize) -> Result<f64, PruneError> {
        let before = self.states()?;
        self.run(&[layer])?;
        let (mut sum, mut tokens) = (0.0, 0);
        for (x, y) in before.iter().zip(self.states()?) {
            let rows = x.data().chunks_exact(x.width()).zip(y.data().chunks_exact(x.width()));
            sum += rows.map(|(x, y)| cosine(x, y)).sum::<f64>();
            tokens += x.rows();
        }
        Ok(1.0 - sum / tokens.max(1) as f64)
    }

    /// What waits, batch by batch.
    fn states(&mut self) -> Result<Vec<std::sync::Arc<Tensor>>, PruneError> {
        let (lane, at) = (&mut self.lane, self.at);
        Ok((0..lane.batches()).map(|batch| lane.value(batch, at)).collect::<Result<_, _>>()?)
    }

    /// Mean negative log probability of each next token, the head run on what waits.
    fn loss(&mut self) -> Result<f64, PruneError> {
        let length = self.windows.first().map_or(0, Vec::len);
        let (mut sum, mut tokens) = (0.0, 0);
        for (state, windows) in self.states()?.iter().zip(self.windows.chunks(windows_together(length))) {
            let next: Vec<Option<u32>> =
                windows.iter().flat_map(|w| w[1..].iter().copied().map(Some).chain([None])).collect();
            for start in (0..state.rows()).step_by(ROWS) {
                let rows = start..state.rows().min(start + ROWS);
                let logits = self.lane.executor().logits(state, rows.clone())?;
                let each = logits.data().par_chunks_exact(logits.width()).zip(&next[rows]);
                sum += each
                    .map(|(row, next)| next.map_or(0.0, |next| surprise(row, next)))
                    .collect::<Vec<_>>()
                    .iter()
                    .sum::<f64>();
            }
            tokens += next.iter().flatten().count();
        }
        self.lane.end_block();
        Ok(sum / tokens.max(1) as f64)
    }
}

fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(x, y) / (dot(x, x) * dot(y, y)).sqrt().max(f64::MIN_POSITIVE)
}

/// `−ln p` of a token under a row of logits.
fn surprise(row: &[f32], token: u32) -> f64 {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|z| f64::from(z - top).exp()).sum();
    row.get(token as usize).map_or(f64::INFINITY, |z| sum.ln() - f64::from(z - top))
}
