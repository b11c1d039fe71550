//! First-order Taylor: what the loss changes when a channel goes, `(Σ w · ∂L/∂w)²` over its slices, summed over small batches
//! (Molchanov et al., *Importance Estimation for Neural Network Pruning*, CVPR 2019).
//!
//! The loss is cross-entropy with the data's labels, or with the class that the network itself gives where there are none;
//! for outputs that are no classes half the sum of squares. A decoder's samples are windows of text, one a batch, and its labels the next tokens.

use super::criterion::{matrices, normalised, slice_sums};
use super::groups::Group;
use super::union::{Axis, Of};
use super::{Context, PruneError};
use calib::Batch;
use exec::{Data, Executor, Grads, Options, Tensor};
use graph::{Graph, Model, Size, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Samples that run together: each such batch counts by itself.
const TOGETHER: usize = 8;
/// Batches.
const BATCHES: usize = 8;

/// Scores of every channel of every group.
pub(super) fn scores(model: &Model, groups: &[Group], context: &Context<'_>) -> Result<Vec<Vec<f64>>, PruneError> {
    let Some(graph) = model.graph() else { return Ok(Vec::new()) };
    let axes: Vec<Vec<Axis>> = groups.iter().map(|g| matrices(model, g)).collect();
    let weights: BTreeSet<_> = axes.iter().flatten().copied().collect();
    let mut scores: Vec<Vec<f64>> = groups.iter().map(|g| vec![0.0; g.channels.len()]).collect();
    let mut executor = Executor::<f32>::new(graph, &model.weights, Options::default())?;
    let together = if model.decoder().is_some() { 1 } else { TOGETHER };
    for batch in batches(graph, together, context)? {
        let grads = gradients(&mut executor, batch)?;
        let mut sums: BTreeMap<Axis, Vec<f64>> = BTreeMap::new();
        for axis in &weights {
            let Of::Weight(id) = axis.of else { continue };
            let (weight, Some(grad)) = (model.weights.get(id), grads.get(id)) else { continue };
            let products: Vec<f32> = weight.read()?.iter().zip(grad).map(|(w, g)| w * g).collect();
            sums.insert(*axis, slice_sums(&products, &weight.shape, axis.axis, |x| x));
        }
        for ((group, axes), scores) in groups.iter().zip(&axes).zip(&mut scores) {
            for (channel, score) in group.channels.iter().zip(scores) {
                let of = |axis: &Axis| {
                    let indices = channel.indices.get(axis).into_iter().flatten();
                    sums.get(axis).map_or(0.0, |sums| indices.map(|i| sums[*i]).sum::<f64>())
                };
                *score += axes.iter().map(|axis| of(axis).powi(2)).sum::<f64>() / axes.len().max(1) as f64;
            }
        }
    }
    Ok(scores.into_iter().map(normalised).collect())
}

/// What the network is run on: the data, or random numbers where there are none.
fn batches(graph: &Graph, together: usize, context: &Context<'_>) -> Result<Vec<Batch>, PruneError> {
    if let Some(data) = context.data {
        let ends = (0..data.len().min(TOGETHER * BATCHES)).step_by(together);
        let one = |from: usize| data.batch(from..data.len().min(from + together));
        return ends.map(|from| one(from).map_err(|source| PruneError::Samples { source })).collect();
    }
    (0..BATCHES as u64).map(|n| Ok(Batch { inputs: random(graph, context.seed + n)?, labels: vec![] })).collect()
}

/// Random inputs of a few samples.
pub(super) fn random(graph: &Graph, seed: u64) -> Result<Vec<Data>, PruneError> {
    let size = Size { batch: 2, tokens: 8 };
    let one = |(n, id): (usize, &ValueId)| exec::random(&graph.values()[id.0], size, seed ^ (n as u64) << 48);
    Ok(graph.inputs().iter().enumerate().map(one).collect::<Result<_, _>>()?)
}

fn gradients(executor: &mut Executor, batch: Batch) -> Result<Grads, PruneError> {
    let values = executor.inputs(batch.inputs)?;
    let (values, tape) = executor.run_range_taped(executor.whole(), values)?;
    let outputs = executor.outputs(&values)?;
    let mut back = BTreeMap::new();
    for (id, output) in executor.graph().outputs().iter().zip(&outputs) {
        if let Some(output) = output.float() {
            back.insert(*id, of_loss(output, &batch.labels)?);
        }
    }
    let mut grads = Grads::default();
    executor.backward_range(executor.whole(), tape, back, &[], &mut grads)?;
    Ok(grads)
}

/// The gradient of the loss with respect to an output: of each row, where rows are classes.
fn of_loss(output: &Tensor, labels: &[u32]) -> Result<Tensor, PruneError> {
    let classes = output.width();
    if output.shape().len() != 2 && labels.is_empty() {
        return Ok(output.clone());
    }
    let mut grad = output.data().to_vec();
    for (n, row) in grad.chunks_mut(classes.max(1)).enumerate() {
        let own = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(at, _)| at);
        let label = labels.get(n).map_or(own, |l| *l as usize);
        let top = row[own];
        let total: f32 = row.iter().map(|x| (x - top).exp()).sum();
        row.iter_mut().for_each(|x| *x = (*x - top).exp() / total);
        row.iter_mut().skip(label).take(1).for_each(|x| *x -= 1.0);
    }
    Ok(Tensor::new(output.shape().to_vec(), grad)?)
}
