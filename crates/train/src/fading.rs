//! What is to be pruned fades: a penalty `λ·w²/2` on it grows by the same with every step, so that the network moves what it knows
//! elsewhere, and little is lost when it goes.
//!
//! Scales and biases of norms, and the weights that read a channel, are under it like those that make the channel: behind a norm with
//! live statistics these alone change nothing. Source: Wang et al. 2021, *Neural Pruning via Growing Regularization*, GReg-1.

use exec::{Error, Executor, Grads};
use graph::WeightId;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Fading {
    /// Which elements of which weights.
    pub elements: Vec<(WeightId, Vec<usize>)>,
    /// λ of the last step.
    pub most: f64,
}

impl Fading {
    /// λ of a step, counted from 0, of so many: a pure function, so that a resumed run goes on with it.
    pub fn penalty(&self, step: usize, steps: usize) -> f64 {
        self.most * ((step + 1) as f64 / steps.max(1) as f64).min(1.0)
    }

    /// Adds a penalty's gradient `λ·w`.
    pub(crate) fn add(&self, penalty: f64, executor: &mut Executor, grads: &mut Grads) -> Result<(), Error> {
        let penalty = penalty as f32;
        for (id, grad) in grads.iter_mut() {
            let Some((_, elements)) = self.elements.iter().find(|(of, _)| *of == id) else { continue };
            let weight = executor.weights_mut().full_mut(id)?;
            elements.iter().for_each(|at| grad[*at] += penalty * weight[*at]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Fading;

    #[test]
    fn the_penalty_grows_to_its_most() {
        let fading = Fading { elements: vec![], most: 2.0 };
        assert_eq!([0, 1, 3, 9].map(|step| fading.penalty(step, 4)), [0.5, 1.0, 2.0, 2.0]);
    }
}
