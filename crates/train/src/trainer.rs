//! Next-token training: micro-batches to gradients, gradients to a step, and all that a resumed run needs.

use crate::learner::{Learner, State, Unfit};
use crate::optimizer::{Constants, Rule};
use crate::{Batch, Batches, Schedule};
use exec::{Error, Recompute, Tensor};
use graph::{Graph, WeightStore};

/// How training goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Windows of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step.
    pub accumulate: usize,
    /// The optimizer's constants.
    pub constants: Constants,
    /// Whether blocks are computed again in the backward, to save memory.
    pub recompute: Recompute,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: usize,
    /// Mean negative log-likelihood of its tokens, in nats, before the step.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub rate: f64,
}

/// A model in training.
pub struct Trainer {
    learner: Learner,
    settings: Settings,
}

impl Trainer {
    /// Starts from the weights of the store.
    pub fn new(graph: &Graph, store: &WeightStore, settings: Settings) -> Result<Trainer, Error> {
        Ok(Trainer { learner: Learner::new(graph, store, Rule::AdamW(settings.constants), false)?, settings })
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.learner.step
    }

    /// One step over the micro-batches that the step's number stands for.
    pub fn step(&mut self, batches: &Batches<'_>) -> Result<StepReport, Error> {
        self.learner.grads.zero();
        let (mut loss, mut tokens) = (0.0, 0);
        for part in 0..self.settings.accumulate {
            let batch = batches.random(self.learner.step, part, self.settings.batch);
            tokens += batch.targets.len();
            let ids = Tensor::ids(batch.rows, batch.inputs)?;
            let recompute = self.settings.recompute;
            let Learner { executor, grads, .. } = &mut self.learner;
            loss += executor.loss_and_grads(&ids, &batch.targets, 1.0, recompute, grads)?;
        }
        let rate = self.settings.schedule.rate(self.learner.step);
        let share = 1.0 / tokens as f64;
        let grad_norm = self.learner.descend(share, rate)?;
        Ok(StepReport { step: self.learner.step, loss: loss * share, grad_norm, rate })
    }

    /// Mean negative log-likelihood per token, in nats, over batches.
    pub fn evaluate(&mut self, batches: impl Iterator<Item = Batch>) -> Result<f64, Error> {
        let (mut loss, mut tokens) = (0.0, 0);
        for batch in batches {
            let vocab = self.learner.executor.vocabulary();
            let ids = Tensor::ids(batch.rows, batch.inputs)?;
            self.learner.executor.forward_logits(&ids, &mut |rows, logits| {
                let mut losses = vec![0.0; rows.len()];
                kernels::cross_entropy(logits, &batch.targets[rows], vocab, &mut losses);
                loss += losses.iter().sum::<f64>();
            })?;
            tokens += batch.targets.len();
        }
        Ok(loss / tokens.max(1) as f64)
    }

    /// Everything that [`Trainer::restore`] needs, weight by weight.
    pub fn state(&mut self) -> Result<Vec<State>, Error> {
        self.learner.state()
    }

    /// Goes on from a checkpoint taken after `step` steps.
    pub fn restore(&mut self, step: usize, state: Vec<State>) -> Result<(), Unfit> {
        self.learner.restore(step, state)
    }
}
