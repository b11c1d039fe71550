//! Optimizers over all weights of a graph: AdamW, and gradient descent with momentum. Weight decay is for matrices and kernels
//! only, not for norms and biases; the whole gradient's norm is clipped.
//!
//! Sources: Loshchilov and Hutter 2017; Sutskever et al. 2013; decay groups and clipping as is usual for decoders since GPT-2,
//! and for image networks since He et al. 2018 ("Bag of Tricks").

use exec::{Error, Grads, Weights};
use graph::{Graph, Op, WeightId, WeightStore};
use kernels::{AdamW, Sgd};
use serde::{Deserialize, Serialize};

/// The constants of AdamW.
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

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// See [`kernels::adamw`](kernels::adamw()).
    AdamW(Constants),
    /// See [`kernels::sgd`](kernels::sgd()).
    Sgd {
        /// Decay of the velocity.
        momentum: f64,
        /// Whether a step looks ahead.
        nesterov: bool,
        /// Added to the gradients of matrices, times the weight.
        weight_decay: f64,
        /// The gradient is scaled down to this norm where it is longer.
        clip: f64,
    },
}

impl Rule {
    /// Decay of the velocity, or of the first moment.
    pub(crate) fn momentum(&self) -> f64 {
        match self {
            Rule::AdamW(constants) => constants.beta1,
            Rule::Sgd { momentum, .. } => *momentum,
        }
    }

    fn clip(&self) -> f64 {
        match self {
            Rule::AdamW(constants) => constants.clip,
            Rule::Sgd { clip, .. } => *clip,
        }
    }
}

/// Both moments of one weight; of gradient descent only the first, its velocity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of its square.
    pub second: Vec<f32>,
}

/// The optimizer: its rule, and moments by weight.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: Rule,
    /// In the order of the store.
    pub moments: Vec<Moments>,
    /// Which weights decay.
    decays: Vec<bool>,
}

impl Optimizer {
    /// Moments of zero for every weight of the store.
    pub fn new(graph: &Graph, store: &WeightStore, rule: Rule) -> Optimizer {
        let second = matches!(rule, Rule::AdamW(_));
        let zero = |n: usize| Moments { first: vec![0.0; n], second: vec![0.0; if second { n } else { 0 }] };
        let mut decays: Vec<bool> = store.iter().map(|(_, w)| w.shape.len() > 1).collect();
        for node in graph.nodes().iter().filter(|n| matches!(n.op, Op::Constant(_) | Op::FakeQuant(_))) {
            node.op.spec().weights().into_iter().for_each(|id| decays[id.0] = false);
        }
        Optimizer { rule, moments: store.iter().map(|(_, w)| zero(w.elements())).collect(), decays }
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
        let clip = if norm > self.rule.clip() { self.rule.clip() / norm } else { 1.0 };
        for (id, grad) in grads.iter() {
            self.one(id, weights.full_mut(id)?, grad, share * clip, rate, step);
        }
        Ok(norm)
    }

    fn one(&mut self, id: WeightId, weight: &mut [f32], grad: &[f32], grad_scale: f64, lr: f64, step: u64) {
        let Moments { first, second } = &mut self.moments[id.0];
        let decay = |amount: f64| if self.decays[id.0] { amount } else { 0.0 };
        match self.rule {
            Rule::AdamW(c) => {
                let weight_decay = decay(c.weight_decay);
                let settings = AdamW { lr, beta1: c.beta1, beta2: c.beta2, eps: c.eps, weight_decay, grad_scale };
                kernels::adamw(&settings, step, weight, grad, first, second);
            }
            Rule::Sgd { momentum, nesterov, weight_decay, .. } => {
                let settings = Sgd { lr, momentum, weight_decay: decay(weight_decay), nesterov, grad_scale };
                kernels::sgd(&settings, weight, grad, first);
            }
        }
    }
}
