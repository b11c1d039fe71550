//! Every backward against finite differences, in f64: op by op, then whole decoders.

mod common;

use common::{Builder, Decoder};
use exec::{Executor, Grads, Options, Recompute, Tensor};
use graph::ops::{Activation, Add, Attention, Mul, NormKind, Scale};
use graph::{ValueId, WeightId, WeightStore};

/// Fixed coefficients `c`; the loss is `Σ c · logits`.
fn coefficients(count: usize) -> Vec<f64> {
    testkit::values("loss", count, 1.0 / 64.0).into_iter().map(f64::from).collect()
}

fn linear_loss(executor: &mut Executor<f64>, ids: &Tensor<u32>) -> f64 {
    let y = executor.forward(ids).expect("the graph runs");
    y.data().iter().zip(coefficients(y.data().len())).map(|(y, c)| y * c).sum()
}

/// Compares the gradient of about `samples` elements of every weight with `(loss(w + h) − loss(w − h)) / 2h`.
fn check(
    samples: usize,
    executor: &mut Executor<f64>,
    weights: &WeightStore,
    grads: &Grads<f64>,
    mut loss: impl FnMut(&mut Executor<f64>) -> f64,
) {
    const STEP: f64 = 1e-5;
    for (id, weight) in weights.iter() {
        let grad = grads.get(id).unwrap_or_else(|| panic!("no gradient of {}", weight.name)).to_vec();
        for at in (0..grad.len()).step_by(grad.len().div_ceil(samples)) {
            let mut shifted = |by: f64| {
                executor.weights_mut().full_mut(id).expect("weights are f64")[at] += by;
                let loss = loss(executor);
                executor.weights_mut().full_mut(id).expect("weights are f64")[at] -= by;
                loss
            };
            let numeric = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
            let error = (numeric - grad[at]).abs() / (1e-3 + numeric.abs());
            assert!(error < 1e-5, "{}[{at}]: {} is not {numeric}", weight.name, grad[at]);
        }
    }
}

/// Checks a graph whose weights, embeddings among them, stand for every input of the op under test.
fn check_graph(name: &str, build: impl Fn(&mut Builder, ValueId) -> ValueId) {
    let (mut b, ids) = Builder::new();
    let y = build(&mut b, ids);
    let (graph, weights) = b.finish(y);
    for recompute in [Recompute::Nothing, Recompute::Blocks] {
        let mut executor = Executor::<f64>::new(&graph, &weights, Options::default()).expect(name);
        let ids = common::ids(6, 2, 5);
        let c = coefficients(10_000);
        let mut grads = Grads::default();
        let loss = &mut |rows: std::ops::Range<usize>, logits: &mut [f64]| {
            let width = logits.len() / rows.len();
            logits.copy_from_slice(&c[rows.start * width..rows.end * width]);
        };
        executor.backprop(&ids, recompute, loss, &mut grads).expect(name);
        check(13, &mut executor, &weights, &grads, |executor| linear_loss(executor, &ids));
    }
}

#[test]
fn activations() {
    for activation in
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::SoftCap(1.5)]
    {
        check_graph("activation", |b, ids| {
            let x = b.embed("x", ids, 6, 7);
            b.push("y", activation, &[x])
        });
        check_graph("gated", |b, ids| {
            let (x, up) = (b.embed("x", ids, 6, 7), b.embed("up", ids, 6, 7));
            let gate = b.push("gate", activation, &[x]);
            let y = b.push("y", Mul, &[up, gate]);
            b.push("z", Add, &[y, x])
        });
    }
}

#[test]
fn arithmetic() {
    check_graph("add, mul, scale", |b, ids| {
        let (x, y) = (b.embed("x", ids, 6, 7), b.embed("y", ids, 6, 7));
        let sum = b.push("sum", Add, &[x, y]);
        let square = b.push("square", Mul, &[sum, sum]);
        let double = b.push("double", Add, &[square, square]);
        let product = b.push("product", Mul, &[double, x]);
        b.push("scaled", Scale { factor: 0.5 }, &[product])
    });
    check_graph("split", |b, ids| {
        let x = b.embed("x", ids, 6, 9);
        let parts = b.split("parts", x, &[3, 2, 3, 1]);
        b.push("y", Mul, &[parts[0], parts[2]])
    });
}

#[test]
fn linear_layers_and_norms() {
    check_graph("linear", |b, ids| {
        let x = b.embed("x", ids, 6, 7);
        b.linear("y", x, 7, 5, true)
    });
    for (kind, offset, size) in
        [(NormKind::Rms, 0.0, 8), (NormKind::Rms, 1.0, 4), (NormKind::Layer, 0.0, 8), (NormKind::Layer, 1.0, 4)]
    {
        check_graph("norm", |b, ids| {
            let x = b.embed("x", ids, 6, 8);
            let y = b.norm("norm", x, size, kind, offset);
            b.push("z", Mul, &[y, x])
        });
    }
}

#[test]
fn attention_with_rotation() {
    for (window, softcap) in [(None, None), (Some(2), Some(1.0))] {
        check_graph("attention", |b, ids| {
            let [q, k, v] = [("q", 24), ("k", 12), ("v", 12)].map(|(name, width)| b.embed(name, ids, 6, width));
            let (q, k) = (b.rope("q_rope", q, 6, 2), b.rope("k_rope", k, 6, 3));
            let op = Attention { heads: 4, kv_heads: 2, head_dim: 6, scale: 0.7, window, softcap, slot: 0 };
            b.push("y", op, &[q, k, v])
        });
    }
}

#[test]
fn experts() {
    check_graph("experts", |b, ids| {
        let x = b.embed("x", ids, 6, 8);
        b.experts("moe", x, 8, 5, 4, 2)
    });
}

fn check_decoder(decoder: Decoder) {
    let (graph, weights) = decoder.build();
    // More rows than one chunk of logits holds.
    let ids = common::ids(decoder.vocab, 2, 70);
    let mut targets: Vec<u32> = ids.data().iter().map(|id| (id * 7 + 3) % decoder.vocab as u32).collect();
    targets[5] = exec::IGNORE;
    let mut first: Option<Grads<f64>> = None;
    for recompute in [Recompute::Nothing, Recompute::Blocks] {
        let mut executor = Executor::<f64>::new(&graph, &weights, Options::default()).expect("one input, one output");
        let mut grads = Grads::default();
        executor.loss_and_grads(&ids, &targets, 0.5, recompute, &mut grads).expect("trains");
        if let Some(first) = &first {
            assert!(first.iter().eq(grads.iter()), "recomputation changes gradients");
            continue;
        }
        check(3, &mut executor, &weights, &grads, |executor| {
            0.5 * executor.loss_and_grads(&ids, &targets, 0.5, recompute, &mut Grads::default()).expect("trains")
        });
        first = Some(grads);
    }
}

#[test]
fn decoders() {
    check_decoder(Decoder::TINY);
    check_decoder(Decoder { fused: true, tied: false, layers: 1, ..Decoder::TINY });
    check_decoder(Decoder { rich: true, ..Decoder::TINY });
    check_decoder(Decoder { moe: true, ..Decoder::TINY });
}

/// The gradient of a block's input, by running the block alone.
#[test]
fn a_range_alone() {
    let (graph, weights) = Decoder { rich: true, ..Decoder::TINY }.build();
    let mut executor = Executor::<f64>::new(&graph, &weights, Options::default()).expect("one input, one output");
    let block = graph.blocks()[1].nodes.clone();
    let inputs: Vec<ValueId> = executor.inputs_of(&block).into_iter().collect();
    let output = graph.nodes()[block.end - 1].outputs[0];
    let x: Vec<f64> = coefficients(2 * 6 * 12).into_iter().map(|x| 0.8 * x).collect();
    let run = |executor: &mut Executor<f64>, x: &[f64]| {
        let x = Tensor::new(vec![2, 6, 12], x.to_vec()).expect("the count fits");
        executor.run_range_taped(block.clone(), [(inputs[0], x.into())].into()).expect("the block runs")
    };
    let (_, tape) = run(&mut executor, &x);
    executor.train_only(|id| id == WeightId(3));
    let dy = Tensor::new(vec![2, 6, 12], coefficients(144)).expect("the count fits");
    let mut grads = Grads::default();
    let back = executor.backward_range(block.clone(), tape, [(output, dy)].into(), &inputs, &mut grads);
    let back = back.expect("the block runs backward");
    assert_eq!(grads.iter().count(), 0, "frozen weights have no gradients");
    let mut loss = |x: &[f64]| {
        let (values, _) = run(&mut executor, x);
        let y = values[&output].float().expect("numbers").clone();
        y.data().iter().zip(coefficients(144)).map(|(y, c)| y * c).sum::<f64>()
    };
    for at in (0..144).step_by(11) {
        let mut shifted = |by: f64| {
            let mut x = x.clone();
            x[at] += by;
            loss(&x)
        };
        let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
        assert!((back[&inputs[0]].data()[at] - numeric).abs() < 1e-6 * (1.0 + numeric.abs()));
    }
}
