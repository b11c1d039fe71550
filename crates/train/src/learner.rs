//! A model that learns: its executor, its optimizer, gradients, and all that a resumed run needs.

use crate::masking::Masks;
use crate::optimizer::{Moments, Optimizer, Rule};
use crate::straight::StraightThrough;
use exec::{Error, Executor, Grads, Options};
use graph::{Graph, Grid, WeightId, WeightStore};
use std::collections::BTreeMap;

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
pub struct Unfit(pub(crate) String);

/// See the module.
pub(crate) struct Learner {
    pub executor: Executor,
    pub grads: Grads,
    /// Steps done.
    pub step: usize,
    momentum: f64,
    optimizer: Optimizer,
    straight: StraightThrough,
    /// What stays or becomes zero.
    pub masks: Masks,
}

impl Learner {
    /// Starts from the weights of the store; steps of quantization learn where that is asked for.
    pub fn new(graph: &Graph, store: &WeightStore, rule: Rule, learn_steps: bool) -> Result<Learner, Error> {
        let mut executor = Executor::new(graph, store, Options::default())?;
        let straight = StraightThrough::of(&mut executor, store, learn_steps)?;
        Ok(Learner {
            executor,
            straight,
            masks: Masks::default(),
            momentum: rule.momentum(),
            optimizer: Optimizer::new(graph, store, rule),
            grads: Grads::default(),
            step: 0,
        })
    }

    /// Goes down the gradients, each multiplied by `share` first. Returns their norm before clipping.
    pub fn descend(&mut self, share: f64, rate: f64) -> Result<f64, Error> {
        self.step += 1;
        self.masks.before(&mut self.grads);
        let steps = self.straight.steps(&mut self.executor)?;
        self.straight.before(&mut self.executor, &mut self.grads, share, [rate, self.momentum])?;
        let norm = self.optimizer.step(self.executor.weights_mut(), &self.grads, share, rate, self.step as u64)?;
        self.straight.after(&mut self.executor, &steps)?;
        self.masks.after(&mut self.executor, self.step)?;
        Ok(norm)
    }

    /// The grids that training moved.
    pub fn grids(&mut self) -> Result<BTreeMap<WeightId, Grid>, Error> {
        self.straight.grids(&mut self.executor)
    }

    /// Everything that [`Learner::restore`] needs, weight by weight.
    pub fn state(&mut self) -> Result<Vec<State>, Error> {
        let names: Vec<_> = self.executor.weights().store().iter().map(|(id, w)| (id, w.name.clone())).collect();
        let line = |(id, name): (WeightId, String)| {
            let weight = match self.straight.exact(id).or_else(|| self.masks.exact(id)) {
                Some(exact) => exact.to_vec(),
                None => self.executor.weights_mut().full_mut(id)?.to_vec(),
            };
            Ok(State { name, weight, moments: self.optimizer.moments[id.0].clone() })
        };
        let lines: Vec<State> = names.into_iter().map(line).collect::<Result<_, Error>>()?;
        Ok(lines.into_iter().chain(self.straight.state()).chain(self.masks.state()).collect())
    }

    /// Goes on from a checkpoint taken after `step` steps.
    pub fn restore(&mut self, step: usize, state: Vec<State>) -> Result<(), Unfit> {
        let store = self.executor.weights().store().clone();
        let lines = store.len() + self.straight.state().count() + self.masks.state().count();
        if state.len() != lines {
            return Err(Unfit(format!("it has {} weights, the model {lines}", state.len())));
        }
        for line in state {
            if self.straight.restore(&line)? || self.masks.restore(&line)? {
                continue;
            }
            let id = store.find(&line.name).ok_or_else(|| Unfit(format!("no weight is called `{}`", line.name)))?;
            let full = self.executor.weights_mut().full_mut(id).map_err(|e| Unfit(e.to_string()))?;
            let moments = &mut self.optimizer.moments[id.0];
            let lengths = |weight: &[f32], m: &Moments| [weight.len(), m.first.len(), m.second.len()];
            if lengths(&line.weight, &line.moments) != lengths(full, moments) {
                return Err(Unfit(format!("`{}` has other lengths", line.name)));
            }
            full.copy_from_slice(&line.weight);
            *moments = line.moments;
        }
        self.step = step;
        self.straight.after(&mut self.executor, &[]).map_err(|e| Unfit(e.to_string()))?;
        self.masks.restored(&mut self.executor, step).map_err(|e| Unfit(e.to_string()))
    }
}
