//! # Fisher information of weights
//!
//! **What it is.** The trace of each matrix's Fisher information, `E‖∂ log p(y|x) / ∂W‖²` per token: how much the model's
//! distribution turns where the matrix moves. Under the usual factoring, `F ≈ g²·I ⊗ E[xxᵀ]`, a change `ΔW` costs about
//! `½·g²·tr(ΔW·E[xxᵀ]·ΔWᵀ)` nats per token: a guess at divergence that runs nothing.
//!
//! **What it costs.** A window forward and backward for each window; gradients of all matrices in f32.
//!
//! **Papers.** Martens, Grosse: K-FAC (arXiv 1503.05671), for the factoring; Dong et al.: HAWQ-V2 (arXiv 1911.03852), for
//! traces as sensitivity.
//!
//! **Differences.** Targets are drawn from the model itself, so that it is the Fisher information and not the empirical
//! one. Gradients are squared window by window: tokens of a window count as independent.

use crate::LaneError;
use crate::data::Random;
use exec::{Executor, Grads, Options, Recompute, Residency, Tensor};
use graph::{Graph, WeightId, WeightStore};
use std::collections::BTreeMap;

/// The trace of the Fisher information of each of some matrices, per token.
///
/// # Errors
/// What the executor refuses.
pub fn fisher(
    graph: &Graph,
    weights: &WeightStore,
    of: &dyn Fn(WeightId) -> bool,
    windows: &[Vec<u32>],
    seed: u64,
) -> Result<BTreeMap<WeightId, f64>, LaneError> {
    let mut executor =
        Executor::<f32>::new(graph, weights, Options { residency: Residency::Block, ..Options::default() })?;
    executor.train_only(of);
    let vocab = executor.vocabulary();
    let (mut grads, mut traces, mut random) = (Grads::default(), BTreeMap::new(), Random::new(seed));
    for window in windows {
        grads.zero();
        let ids = Tensor::ids(1, window.clone())?;
        let loss = &mut |_, logits: &mut [f32]| logits.chunks_exact_mut(vocab).for_each(|row| pull(row, random.unit()));
        executor.backprop(&ids, Recompute::Blocks, loss, &mut grads)?;
        for (id, grad) in grads.iter() {
            *traces.entry(id).or_insert(0.0) += kernels::sum_squares(grad);
        }
    }
    let tokens = windows.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    Ok(traces.into_iter().map(|(id, sum)| (id, sum / tokens)).collect())
}

/// Logits become the gradient of the loss of a target that is drawn from them; `at` in 0 … 1 draws it.
fn pull(logits: &mut [f32], at: f64) {
    kernels::softmax_rows(logits, logits.len());
    let mut left = at;
    let drawn = logits.iter().position(|p| {
        left -= f64::from(*p);
        left < 0.0
    });
    let last = logits.len().saturating_sub(1);
    logits.get_mut(drawn.unwrap_or(last)).into_iter().for_each(|p| *p -= 1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_as_often_as_the_model_gives_them() {
        let (logits, mut random) = ([0.0f32, 1.0, 2.0], Random::new(1));
        let mut mean = [0.0f64; 3];
        for _ in 0..20_000 {
            let mut row = logits;
            pull(&mut row, random.unit());
            mean.iter_mut().zip(row).for_each(|(m, g)| *m += f64::from(g) / 20_000.0);
        }
        // The score has mean zero under the model's own distribution.
        assert!(mean.iter().all(|m| m.abs() < 0.02), "{mean:?}");
    }
}
