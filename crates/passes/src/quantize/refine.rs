//! # Rounding learned on divergence
//!
//! **What it does.** When all matrices of a model have codes, by whatever method, every number may still go to the value on
//! the other side of what it was. The whole model runs over calibration text, its distribution of next tokens is compared
//! with the original's, and gradients of the Kullback-Leibler divergence move every number along the way from one value
//! to the other, as [learned rounding](super::signround) does for blocks. Here the measure of quality itself is what is
//! learned on.
//!
//! **When to use.** Where the model fits into memory several times over and a file's quality is worth the time.
//!
//! **What it costs.** `STEPS` batches of 1,024 tokens forward and backward, and forward through the original. Memory: the
//! model in f32 twice, its gradients, and two values, two codes and a position for each number: 26 bytes.
//!
//! **What it needs.** Calibration text; one window in eight is not learned from, and the result is kept only where it
//! lowers the divergence on those.
//!
//! **Sources.** Rounding as in SignRound (arXiv 2309.05516); divergence from the original as the loss, as in Liu et al.:
//! LLM-QAT (arXiv 2305.17888), whose weights move freely where here each has two values.

use super::sequential::{Job, SequentialError};
use super::sides::Sides;
use calib::LaneError;
use codec::Part;
use exec::{Executor, Grads, Options, Recompute, Tensor};
use graph::{Graph, Model};

/// Batches that are learned from, where there is no reason to take fewer.
pub const STEPS: usize = 200;
/// Share of the way from one value to the other that the first batch moves a number of mean slope: so little that only
/// what many batches agree on changes sides.
const RATE: f32 = 1.25e-3;
/// Tokens of a batch.
const BATCH: usize = 1024;
/// One window in so many is not learned from.
const HELD: usize = 8;

/// What came of it.
#[derive(Debug)]
pub struct Refined {
    /// The new bytes of each weight; none where they would have been no better.
    pub parts: Vec<(Job, Vec<Part>)>,
    /// Mean divergence on windows that were not learned from, in nats per token: before, and after.
    pub divergence: (f64, f64),
}

/// Learns the rounding of all matrices together. `source`: what the weights should be, `model`: what they are.
/// `done` is called after each of `steps` batches.
pub fn refine(
    (source, model, graph): (&Model, &Model, &Graph),
    jobs: &[Job],
    windows: &[Vec<u32>],
    steps: usize,
    done: &mut dyn FnMut(),
) -> Result<Refined, SequentialError> {
    let open = |job: &Job| Sides::open(source, *job, &model.weights.get(job.weight).parts()?);
    let matrices = jobs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let new = |of: &Model| Executor::new(graph, &of.weights, Options::default()).map_err(LaneError::from);
    let mut whole = Whole { executor: new(model)?, original: new(source)?, matrices };
    whole.executor.train_only(|id| jobs.iter().any(|job| job.weight == id));
    let (learned, held): (Vec<_>, Vec<_>) = windows.iter().enumerate().partition(|(n, _)| n % HELD != HELD - 1);
    let batches = |windows: Vec<(usize, &Vec<u32>)>| -> Result<Vec<Tensor<u32>>, LaneError> {
        let together = (BATCH / windows.first().map_or(1, |(_, w)| w.len()).max(1)).max(1);
        let join =
            |some: &[(usize, &Vec<u32>)]| Tensor::ids(some.len(), some.iter().flat_map(|(_, w)| *w).copied().collect());
        Ok(windows.chunks(together).map(join).collect::<Result<_, _>>()?)
    };
    let (learned, held) = (batches(learned)?, batches(held)?);
    if learned.is_empty() || held.is_empty() {
        return Err(LaneError::Empty.into());
    }
    let before = whole.divergence(&held)?;
    whole.descend(&learned, steps, done)?;
    let after = whole.divergence(&held)?;
    let matrices = if after < before { whole.matrices } else { Vec::new() };
    let finish = |matrix: Sides| Ok((matrix.job, matrix.finish(source)?));
    let parts = matrices.into_iter().map(finish).collect::<Result<_, SequentialError>>()?;
    Ok(Refined { parts, divergence: (before, after) })
}

/// A model at work beside its original.
struct Whole {
    executor: Executor<f32>,
    original: Executor<f32>,
    matrices: Vec<Sides>,
}

impl Whole {
    /// Moves every number against its gradient, ever less.
    fn descend(&mut self, batches: &[Tensor<u32>], steps: usize, done: &mut dyn FnMut()) -> Result<(), LaneError> {
        let mut grads = Grads::default();
        for step in 0..steps {
            grads.zero();
            self.show()?;
            self.backward(&batches[step % batches.len()], &mut grads)?;
            let rate = RATE * (steps - step) as f32 / steps as f32;
            for matrix in &mut self.matrices {
                if let Some(grad) = grads.get(matrix.job.weight) {
                    matrix.step(grad, rate);
                }
            }
            done();
        }
        Ok(())
    }

    fn show(&mut self) -> Result<(), LaneError> {
        Ok(self.matrices.iter().try_for_each(|matrix| matrix.show(&mut self.executor))?)
    }

    /// Gradients of the divergence on a batch.
    fn backward(&mut self, ids: &Tensor<u32>, grads: &mut Grads<f32>) -> Result<(), LaneError> {
        let (vocab, original) = (self.executor.vocabulary(), &mut self.original);
        let hidden = original.forward_hidden(ids)?;
        let mut failed = None;
        let loss = &mut |rows: std::ops::Range<usize>, logits: &mut [f32]| {
            let mut losses = vec![0.0; rows.len()];
            match original.logits(&hidden, rows) {
                Ok(wanted) => kernels::kl_divergence_grad(wanted.data(), logits, vocab, 1.0, &mut losses),
                Err(error) => failed = Some(error),
            }
        };
        self.executor.backprop(ids, Recompute::Blocks, loss, grads)?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Mean divergence per token.
    fn divergence(&mut self, batches: &[Tensor<u32>]) -> Result<f64, LaneError> {
        self.show()?;
        let (vocab, mut sum, mut tokens) = (self.executor.vocabulary(), 0.0, 0);
        for ids in batches {
            let hidden = self.original.forward_hidden(ids)?;
            let (original, mut failed) = (&mut self.original, None);
            self.executor.forward_logits(ids, &mut |rows, logits| {
                let mut losses = vec![0.0; rows.len()];
                match original.logits(&hidden, rows) {
                    Ok(wanted) => kernels::kl_divergence(wanted.data(), logits, vocab, &mut losses),
                    Err(error) => failed = Some(error),
                }
                tokens += losses.len();
                sum += losses.iter().sum::<f64>();
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(sum / tokens.max(1) as f64)
    }
}
