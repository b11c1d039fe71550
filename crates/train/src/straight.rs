//! Quantization-aware training: weights that lie on grids run rounded and learn unrounded.
//!
//! The executor holds the rounded weights; gradients of these go to the exact ones, straight through, and are zero where the exact
//! number lies beyond the ends of its grid. Grids stay as they are. Values are rounded by the graph's own ops, whose
//! backward does the same.
//!
//! Source: Bengio et al. 2013 (arXiv 1308.3432); Jacob et al. 2018 (arXiv 1712.05877), section 3.

use exec::{Error, Executor, Grads};
use graph::{Grid, WeightId, WeightStore};
use kernels::{Along, FakeQuant, QuantRange, fake_quant};
use std::sync::Arc;

/// A weight that runs rounded.
struct Rounded {
    id: WeightId,
    grid: Arc<Grid>,
    along: Along,
    exact: Vec<f32>,
}

/// See the module.
pub(crate) struct StraightThrough(Vec<Rounded>);

impl StraightThrough {
    /// The weights of a store that lie on grids.
    pub fn of(executor: &mut Executor, store: &WeightStore) -> Result<StraightThrough, Error> {
        let mut all = Vec::new();
        for (id, weight) in store.iter() {
            let Some(grid) = store.grid(id) else { continue };
            let along = match grid.axis {
                Some(axis) => Along::axis(&weight.shape, axis),
                None => Along { outer: 1, length: 1, inner: weight.elements() },
            };
            let exact = executor.weights_mut().full_mut(id)?.to_vec();
            all.push(Rounded { id, grid: grid.clone(), along, exact });
        }
        Ok(StraightThrough(all))
    }

    /// Before a step: puts the exact weights in, and takes away what would push them farther beyond their grids' ends.
    pub fn before(&mut self, executor: &mut Executor, grads: &mut Grads) -> Result<(), Error> {
        for weight in &self.0 {
            executor.weights_mut().full_mut(weight.id)?.copy_from_slice(&weight.exact);
        }
        for (id, grad) in grads.iter_mut() {
            let Some(weight) = self.0.iter().find(|w| w.id == id) else { continue };
            let quant = weight.quant();
            kernels::fake_quant_grad(&quant, &weight.exact, &grad.to_vec(), grad, kernels::Write::Set);
        }
        Ok(())
    }

    /// After a step: keeps the exact weights, and lets the rounded ones run.
    pub fn after(&mut self, executor: &mut Executor) -> Result<(), Error> {
        for weight in &mut self.0 {
            let full = executor.weights_mut().full_mut(weight.id)?;
            weight.exact.copy_from_slice(full);
            fake_quant(&weight.quant(), &weight.exact, full);
        }
        Ok(())
    }

    /// The exact numbers of a weight that runs rounded.
    pub fn exact(&self, id: WeightId) -> Option<&[f32]> {
        self.0.iter().find(|w| w.id == id).map(|w| &w.exact[..])
    }
}

impl Rounded {
    fn quant(&self) -> FakeQuant<'_, f32> {
        let (low, high) = self.grid.levels.range();
        // Codes have at most 32 bits.
        let range = QuantRange { low: low as i32, high: high as i32 };
        FakeQuant { along: self.along, range, scales: &self.grid.scale, zeros: &self.grid.zero }
    }
}

#[cfg(test)]
mod tests {
    use crate::Rule;
    use crate::learner::Learner;
    use exec::{Data, Tensor};
    use graph::ops::Linear;
    use graph::{Dim, Graph, Grid, Kind, Levels, Place, Role, Weight, WeightStore};
    use std::collections::BTreeMap;

    /// `y = w · x` with `x = (1, 1)`: the gradient of `y` is 1 for both weights.
    #[test]
    fn rounded_weights_learn_unrounded() {
        let mut store = WeightStore::default();
        let place = Place::outer(Role::Other);
        let weight = store.insert(Weight::from_f32("w", place, vec![1, 2], &[0.5, -2.0]).expect("f32"));
        store.set_grid(weight, Grid { scale: vec![0.25], zero: vec![0], axis: Some(0), levels: Levels::I4 });
        let mut graph = Graph::default();
        let x = graph.input("x", Kind::Float, vec![Dim::Batch, Dim::Fixed(2)]);
        let y = graph.push1("y", Linear { weight, bias: None }, &[x], &store).expect("fits");
        graph.output(y);
        let rule = Rule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, clip: f64::INFINITY };
        let mut learner = Learner::new(&graph, &store, rule).expect("starts");
        let mut seen = Vec::new();
        for _ in 0..10 {
            learner.grads.zero();
            let ones: Data = Tensor::new(vec![1, 2], vec![1.0; 2]).expect("fits").into();
            let values = learner.executor.inputs(vec![ones]).expect("fits");
            let (_, tape) = learner.executor.run_range_taped(0..1, values).expect("runs");
            let grads = BTreeMap::from([(y, Tensor::new(vec![1, 1], vec![1.0]).expect("fits"))]);
            learner.executor.backward_range(0..1, tape, grads, &[], &mut learner.grads).expect("runs");
            learner.descend(1.0, 0.02).expect("steps");
            seen.push(learner.executor.weights_mut().full_mut(weight).expect("is there").to_vec());
        }
        assert_eq!((seen[4][0], seen[9][0]), (0.5, 0.25), "it moves when the exact one has moved by half a step");
        assert!(seen.iter().all(|w| w[1] == -2.0), "it stays on its grid");
        let exact = learner.state().expect("is there").swap_remove(0).weight;
        assert!((exact[0] - 0.3).abs() < 1e-6, "{exact:?}");
        // Beyond the end by half a step at most, because nothing pushes it farther then.
        assert!(exact[1] < -2.0 && exact[1] >= -2.15, "{exact:?}");
    }
}
