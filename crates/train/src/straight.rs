//! Quantization-aware training: weights that lie on grids run rounded and learn unrounded.
//!
//! The executor holds the rounded weights; gradients of these go to the exact ones, straight through, and are zero where the exact
//! number lies beyond the ends of its grid. Values are rounded by the graph's own ops, whose backward does the same. Grids
//! stay as they are, or their steps `s` learn, too (LSQ), of weights and of values:
//!
//! ```text
//! ∂ŵ/∂s = round(w/s) − w/s inside, the last code beyond the ends;  its gradient is multiplied by 1/√(N·Q)
//! ```
//!
//! with `N` numbers on the step (of one sample, for values) and `Q` its largest code. A step of training changes a step of quantization
//! by a factor of two at most: it stays above zero, and those of dead channels do not run away. Biases follow: their steps are
//! those of input and weight multiplied, the latter widened where a bias would have no code.
//!
//! Source: Bengio et al. 2013 (arXiv 1308.3432); Jacob et al. 2018 (arXiv 1712.05877), section 3; Esser et al. 2020 (LSQ,
//! arXiv 1902.08153), sections 2.1 and 2.2.

use crate::learner::{State, Unfit};
use crate::optimizer::Moments;
use exec::{Error, Executor, Grads};
use graph::{Graph, Grid, Levels, Op, WeightId, WeightStore};
use kernels::{Along, FakeQuant, QuantRange, Sgd, Write, fake_quant};
use std::collections::BTreeMap;

/// Codes that a bias may have: half of the accumulator's, so that the product's sum has room.
const BIAS_MOST: f32 = (1u32 << 30) as f32;

/// A weight that runs rounded.
struct Rounded {
    id: WeightId,
    name: String,
    grid: Grid,
    along: Along,
    exact: Vec<f32>,
    /// Of its steps.
    velocity: Vec<f32>,
}

/// See the module.
pub(crate) struct StraightThrough {
    rounded: Vec<Rounded>,
    /// Steps of values: their weight, and what its gradient is multiplied by. None where steps do not learn.
    values: Option<Vec<(WeightId, f32)>>,
}

impl StraightThrough {
    /// The weights of a store that lie on grids.
    pub fn of(executor: &mut Executor, store: &WeightStore, learn_steps: bool) -> Result<StraightThrough, Error> {
        let mut rounded = Vec::new();
        for (id, weight) in store.iter() {
            let Some(grid) = store.grid(id) else { continue };
            let exact = executor.weights_mut().full_mut(id)?.to_vec();
            let (along, velocity) = (along(grid, &weight.shape), vec![0.0; grid.scale.len()]);
            rounded.push(Rounded { id, name: weight.name.clone(), grid: Grid::clone(grid), along, exact, velocity });
        }
        Ok(StraightThrough { rounded, values: learn_steps.then(|| steps_of_values(executor.graph())) })
    }

    /// Before a step: puts the exact weights in, takes away what would push them farther beyond their grids' ends, and moves steps.
    /// Gradients are multiplied by `share`.
    pub fn before(
        &mut self,
        executor: &mut Executor,
        grads: &mut Grads,
        share: f64,
        [rate, momentum]: [f64; 2],
    ) -> Result<(), Error> {
        for weight in &self.rounded {
            executor.weights_mut().full_mut(weight.id)?.copy_from_slice(&weight.exact);
        }
        let learn = self.values.is_some();
        for (id, grad) in grads.iter_mut() {
            if let Some((_, factor)) = self.values.iter().flatten().find(|(of, _)| *of == id) {
                grad.iter_mut().for_each(|g| *g *= factor);
            }
            let Some(weight) = self.rounded.iter_mut().find(|w| w.id == id) else { continue };
            let of_rounded = grad.to_vec();
            kernels::fake_quant_grad(&quant(&weight.grid, weight.along), &weight.exact, &of_rounded, grad, Write::Set);
            if learn && weight.grid.levels != Levels::I32 {
                weight.learn(
                    &of_rounded,
                    &Sgd { lr: rate, momentum, weight_decay: 0.0, nesterov: false, grad_scale: share },
                );
            }
        }
        Ok(())
    }

    /// After a step: keeps the exact weights, and lets the rounded ones run. `steps`: those of values before it.
    pub fn after(&mut self, executor: &mut Executor, steps: &[(WeightId, Vec<f32>)]) -> Result<(), Error> {
        for weight in &mut self.rounded {
            let full = executor.weights_mut().full_mut(weight.id)?;
            weight.exact.copy_from_slice(full);
            fake_quant(&quant(&weight.grid, weight.along), &weight.exact, full);
        }
        for (id, old) in steps {
            within_a_factor(executor.weights_mut().full_mut(*id)?, old);
        }
        Ok(())
    }

    /// The steps of values that learn.
    pub fn steps(&self, executor: &mut Executor) -> Result<Vec<(WeightId, Vec<f32>)>, Error> {
        let of = |(id, _): &(WeightId, f32)| Ok((*id, executor.weights_mut().full_mut(*id)?.to_vec()));
        self.values.iter().flatten().map(of).collect()
    }

    /// The exact numbers of a weight that runs rounded.
    pub fn exact(&self, id: WeightId) -> Option<&[f32]> {
        self.rounded.iter().find(|w| w.id == id).map(|w| &w.exact[..])
    }

    /// The grids that training moved: those of weights, and of the biases behind them.
    pub fn grids(&self, executor: &mut Executor) -> Result<BTreeMap<WeightId, Grid>, Error> {
        if self.values.is_none() {
            return Ok(BTreeMap::new());
        }
        let weights = self.rounded.iter().filter(|w| w.grid.levels != Levels::I32);
        let mut grids: BTreeMap<WeightId, Grid> = weights.map(|w| (w.id, w.grid.clone())).collect();
        let mut biases = Vec::new();
        for node in executor.graph().nodes() {
            let (weight, bias) = match &node.op {
                Op::Conv(op) => (op.weight, op.bias),
                Op::Linear(op) => (op.weight, op.bias),
                _ => continue,
            };
            let maker = node.inputs.first().and_then(|value| executor.graph().maker(*value));
            if let (Some(bias), Some(Op::FakeQuant(input))) = (bias, maker.map(|at| &executor.graph().nodes()[at].op)) {
                biases.push((weight, bias, input.scale));
            }
        }
        for (weight, bias, input) in biases {
            let input = executor.weights_mut().full_mut(input)?.first().copied().unwrap_or(1.0);
            let known = self.rounded.iter().find(|w| w.id == bias && w.grid.levels == Levels::I32);
            let (Some(known), Some(of)) = (known, grids.get_mut(&weight)) else { continue };
            if of.scale.len() == known.grid.scale.len() {
                for (scale, bias) in of.scale.iter_mut().zip(&known.exact) {
                    *scale = scale.max(bias.abs() / (BIAS_MOST * input));
                }
                let scale = of.scale.iter().map(|scale| scale * input).collect();
                grids.insert(bias, Grid { scale, ..known.grid.clone() });
            }
        }
        Ok(grids)
    }

    /// What a checkpoint keeps of steps: a line for each weight whose steps learn.
    pub fn state(&self) -> impl Iterator<Item = State> {
        let learns = |w: &&Rounded| self.values.is_some() && w.grid.levels != Levels::I32;
        self.rounded.iter().filter(learns).map(|w| State {
            name: w.line(),
            weight: w.grid.scale.clone(),
            moments: Moments { first: w.velocity.clone(), second: Vec::new() },
        })
    }

    /// Takes such a line; whether it is one.
    pub fn restore(&mut self, line: &State) -> Result<bool, Unfit> {
        let Some(weight) = self.rounded.iter_mut().find(|w| w.line() == line.name) else { return Ok(false) };
        if [line.weight.len(), line.moments.first.len()] != [weight.grid.scale.len(); 2] {
            return Err(Unfit(format!("`{}` has other lengths", line.name)));
        }
        weight.grid.scale.copy_from_slice(&line.weight);
        weight.velocity.copy_from_slice(&line.moments.first);
        Ok(true)
    }
}

impl Rounded {
    /// What checkpoints call its steps.
    fn line(&self) -> String {
        format!("{}/steps", self.name)
    }

    /// Moves the steps down their gradient; `settings.grad_scale` is the gradients' own factor.
    fn learn(&mut self, of_rounded: &[f32], settings: &Sgd) {
        let mut grad = vec![0.0; self.grid.scale.len()];
        kernels::fake_quant_grad_scale(&quant(&self.grid, self.along), &self.exact, of_rounded, &mut grad);
        let count = self.exact.len() / self.grid.scale.len().max(1);
        let old = self.grid.scale.clone();
        let factor = f64::from(factor(count, self.grid.levels));
        let settings = Sgd { grad_scale: settings.grad_scale * factor, ..*settings };
        kernels::sgd(&settings, &mut self.grid.scale, &grad, &mut self.velocity);
        within_a_factor(&mut self.grid.scale, &old);
    }
}

/// `1/√(N·Q)`.
fn factor(count: usize, levels: Levels) -> f32 {
    1.0 / (count.max(1) as f32 * levels.range().1 as f32).sqrt()
}

fn within_a_factor(now: &mut [f32], old: &[f32]) {
    now.iter_mut().zip(old).for_each(|(now, old)| *now = now.clamp(0.5 * old, 2.0 * old).max(f32::MIN_POSITIVE));
}

/// The scales of a graph's values with what their gradients are multiplied by.
fn steps_of_values(graph: &Graph) -> Vec<(WeightId, f32)> {
    let one = |node: &graph::Node| match &node.op {
        Op::FakeQuant(op) => {
            let shape = node.inputs.first().map_or(&[][..], |value| &graph.values()[value.0].shape);
            let count = shape.iter().filter_map(|dim| dim.fixed()).product::<usize>() / op.zero.len().max(1);
            Some((op.scale, factor(count, op.levels)))
        }
        _ => None,
    };
    // Of a scale that several values share, the first counts.
    let all: BTreeMap<WeightId, f32> = graph.nodes().iter().rev().filter_map(one).collect();
    all.into_iter().collect()
}

fn along(grid: &Grid, shape: &[usize]) -> Along {
    match grid.axis {
        Some(axis) => Along::axis(shape, axis),
        None => Along { outer: 1, length: 1, inner: shape.iter().product() },
    }
}

fn quant(grid: &Grid, along: Along) -> FakeQuant<'_, f32> {
    let (low, high) = grid.levels.range();
    // Codes have at most 32 bits.
    let range = QuantRange { low: low as i32, high: high as i32 };
    FakeQuant { along, range, scales: &grid.scale, zeros: &grid.zero }
}

/// Rounds numbers of a shape onto a grid.
pub(crate) fn round(grid: &Grid, shape: &[usize], numbers: &mut [f32]) {
    let exact = numbers.to_vec();
    fake_quant(&quant(grid, along(grid, shape)), &exact, numbers);
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
        let mut learner = Learner::new(&graph, &store, rule, false).expect("starts");
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

    /// `y = ŵ · x̂ + b`, one number of each beyond the ends of its grid.
    #[test]
    fn steps_learn_by_the_formula_and_biases_follow() {
        let mut store = WeightStore::default();
        let mut insert = |name: &str, shape: &[usize], data: &[f32]| {
            store.insert(Weight::from_f32(name, Place::outer(Role::Other), shape.to_vec(), data).expect("f32"))
        };
        let weight = insert("w", &[1, 2], &[0.55, -3.0]);
        let (bias, scale) = (insert("b", &[1], &[0.3]), insert("s", &[], &[0.5]));
        store.set_grid(weight, Grid { scale: vec![0.25], zero: vec![0], axis: Some(0), levels: Levels::I4 });
        store.set_grid(bias, Grid { scale: vec![0.125], zero: vec![0], axis: Some(0), levels: Levels::I32 });
        let mut graph = Graph::default();
        let x = graph.input("x", Kind::Float, vec![Dim::Batch, Dim::Fixed(2)]);
        let op = graph::ops::FakeQuant { scale, zero: vec![0], axis: None, levels: Levels::I8 };
        let on = graph.push1("on", op, &[x], &store).expect("fits");
        let y = graph.push1("y", Linear { weight, bias: Some(bias) }, &[on], &store).expect("fits");
        graph.output(y);
        let rule = Rule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, clip: f64::INFINITY };
        let mut learner = Learner::new(&graph, &store, rule, true).expect("starts");
        let start = learner.state().expect("is there");
        let step = |learner: &mut Learner| {
            learner.grads.zero();
            let data: Data = Tensor::new(vec![1, 2], vec![1.1, 100.0]).expect("fits").into();
            let values = learner.executor.inputs(vec![data]).expect("fits");
            let (_, tape) = learner.executor.run_range_taped(0..2, values).expect("runs");
            let grads = BTreeMap::from([(y, Tensor::new(vec![1, 1], vec![1.0]).expect("fits"))]);
            learner.executor.backward_range(0..2, tape, grads, &[], &mut learner.grads).expect("runs");
            learner.descend(1.0, 0.001).expect("steps");
        };
        // A checkpoint's weights run rounded: 0.5 and −2.
        learner.restore(0, start.clone()).expect("is its own");
        let of_values = (0.5 * (2.0 - 2.2) - 2.0 * 127.0) / (2.0f32 * 127.0).sqrt();
        let of_weights = (1.0 * (2.0 - 2.2) + 63.5 * -8.0) / (2.0f32 * 7.0).sqrt();
        step(&mut learner);
        let grids = learner.grids().expect("is there");
        let of_values = 0.5 - 0.001 * of_values;
        let of_weights = 0.25 - 0.001 * of_weights;
        let now = learner.executor.weights_mut().full_mut(scale).expect("is there")[0];
        assert!((now - of_values).abs() < 1e-4, "{now} is not {of_values}");
        assert!((grids[&weight].scale[0] - of_weights).abs() < 1e-4, "{grids:?} is not {of_weights}");
        assert!((grids[&bias].scale[0] - now * grids[&weight].scale[0]).abs() < 1e-6, "{grids:?}");
        let rounded = learner.executor.weights_mut().full_mut(weight).expect("is there").to_vec();
        assert!((rounded[1] + 8.0 * of_weights).abs() < 1e-4, "−3 is eight steps now: {rounded:?}");
        let moved = [-1.0, 1.0].map(|to| {
            let mut now = [to];
            super::within_a_factor(&mut now, &[0.25]);
            now[0]
        });
        assert_eq!(moved, [0.125, 0.5]);

        let after = learner.state().expect("is there");
        learner.restore(0, start).expect("is its own");
        step(&mut learner);
        assert_eq!(learner.state().expect("is there"), after, "a checkpoint holds the steps, too");
    }
}
