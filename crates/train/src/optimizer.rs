//! AdamW over all weights of a graph, with decay for matrices only and clipping of the whole gradient's norm.
//!
//! Source: Loshchilov and Hutter 2017; decay groups and clipping as is usual for decoders since GPT-2.

use exec::{Error, Grads, Weights};
use graph::{WeightId, WeightStore};
use kernels::AdamW;
use serde::{Deserialize, Serialize};

/// The constants of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Constants {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay of matrices; norms and biases have none.
    pub weight_decay: f64,
    /// The gradient is scaled down to this norm where it is longer.
    pub clip: f64,
}

impl Default for Constants {
    fn default() -> Constants {
        Constants { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1.0 }
    }
}

/// Both moments of one weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of its square.
    pub second: Vec<f32>,
}

/// The optimizer: constants, and moments by weight.
#[derive(Clone, Debug)]
pub struct Optimizer {
    constants: Constants,
    /// In the order of the store.
    pub moments: Vec<Moments>,
}

impl Optimizer {
    /// Moments of zero for every weight of the store.
    pub fn new(store: &WeightStore, constants: Constants) -> Optimizer {
        let zero = |n: usize| Moments { first: vec![0.0; n], second: vec![0.0; n] };
        Optimizer { constants, moments: store.iter().map(|(_, w)| zero(w.elements())).collect() }
    }

    /// Changes the weights by one step, counted from 1, at a rate. `share` multiplies every gradient first (one over
    /// the number of micro-batches). Returns the norm of the gradient before clipping.
    pub fn step(
        &mut self,
        weights: &mut Weights<f32>,
        grads: &Grads<f32>,
        share: f64,
        rate: f64,
        step: u64,
    ) -> Result<f64, Error> {
        let norm = share * grads.norm();
        let clip = if norm > self.constants.clip { self.constants.clip / norm } else { 1.0 };
        for (id, grad) in grads.iter() {
            let settings = self.settings(weights.store(), id, rate, share * clip);
            let Moments { first, second } = &mut self.moments[id.0];
            kernels::adamw(&settings, step, weights.full_mut(id)?, grad, first, second);
        }
        Ok(norm)
    }

    fn settings(&self, store: &WeightStore, id: WeightId, lr: f64, grad_scale: f64) -> AdamW {
        let c = &self.constants;
        let weight_decay = if store.get(id).shape.len() > 1 { c.weight_decay } else { 0.0 };
        AdamW { lr, beta1: c.beta1, beta2: c.beta2, eps: c.eps, weight_decay, grad_scale }
    }
}
