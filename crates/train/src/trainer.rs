//! Next-token training: micro-batches to gradients, gradients to a step, and all that a resumed run needs.

use crate::optimizer::{Constants, Moments, Optimizer};
use crate::{Batch, Batches, Schedule};
use exec::{Error, Executor, Grads, Options, Recompute, Tensor};
use graph::{Graph, WeightId, WeightStore};

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

/// A weight and its moments: one line of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Name of the weight.
    pub name: String,
    /// Its values.
    pub weight: Vec<f32>,
    /// The optimizer's moments.
    pub moments: Moments,
}

/// A checkpoint that does not fit the model.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint does not fit the model: {0}")]
pub struct Unfit(String);

/// A model in training.
pub struct Trainer {
    executor: Executor,
    optimizer: Optimizer,
    grads: Grads,
    settings: Settings,
    step: usize,
}

impl Trainer {
    /// Starts from the weights of the store.
    pub fn new(graph: &Graph, store: &WeightStore, settings: Settings) -> Result<Trainer, Error> {
        Ok(Trainer {
            executor: Executor::new(graph, store, Options::default())?,
            optimizer: Optimizer::new(store, settings.constants),
            grads: Grads::default(),
            settings,
            step: 0,
        })
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// One step over the micro-batches that the step's number stands for.
    pub fn step(&mut self, batches: &Batches<'_>) -> Result<StepReport, Error> {
        self.grads.zero();
        let (mut loss, mut tokens) = (0.0, 0);
        for part in 0..self.settings.accumulate {
            let batch = batches.random(self.step, part, self.settings.batch);
            tokens += batch.targets.len();
            let ids = Tensor::ids(batch.rows, batch.inputs)?;
            let recompute = self.settings.recompute;
            loss += self.executor.loss_and_grads(&ids, &batch.targets, 1.0, recompute, &mut self.grads)?;
        }
        let rate = self.settings.schedule.rate(self.step);
        self.step += 1;
        let share = 1.0 / tokens as f64;
        let weights = self.executor.weights_mut();
        let grad_norm = self.optimizer.step(weights, &self.grads, share, rate, self.step as u64)?;
        Ok(StepReport { step: self.step, loss: loss * share, grad_norm, rate })
    }

    /// Mean negative log-likelihood per token, in nats, over batches.
    pub fn evaluate(&mut self, batches: impl Iterator<Item = Batch>) -> Result<f64, Error> {
        let (mut loss, mut tokens) = (0.0, 0);
        for batch in batches {
            let vocab = self.executor.vocabulary();
            let ids = Tensor::ids(batch.rows, batch.inputs)?;
            self.executor.forward_logits(&ids, &mut |rows, logits| {
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
        let names: Vec<_> = self.executor.weights().store().iter().map(|(id, w)| (id, w.name.clone())).collect();
        let line = |(id, name): (WeightId, String)| {
            let weight = self.executor.weights_mut().full_mut(id)?.to_vec();
            Ok(State { name, weight, moments: self.optimizer.moments[id.0].clone() })
        };
        names.into_iter().map(line).collect()
    }

    /// Goes on from a checkpoint taken after `step` steps.
    pub fn restore(&mut self, step: usize, state: Vec<State>) -> Result<(), Unfit> {
        let store = self.executor.weights().store().clone();
        if state.len() != store.len() {
            return Err(Unfit(format!("it has {} weights, the model {}", state.len(), store.len())));
        }
        for line in state {
            let id = store.find(&line.name).ok_or_else(|| Unfit(format!("no weight is called `{}`", line.name)))?;
            let full = self.executor.weights_mut().full_mut(id).map_err(|e| Unfit(e.to_string()))?;
            let lengths = [line.weight.len(), line.moments.first.len(), line.moments.second.len()];
            if lengths != [full.len(); 3] {
                return Err(Unfit(format!("`{}` has {} elements, not {lengths:?}", line.name, full.len())));
            }
            full.copy_from_slice(&line.weight);
            self.optimizer.moments[id.0] = line.moments;
        }
        self.step = step;
        Ok(())
    }
}
