//! The ops of image networks: every backward against finite differences in f64, and what only a whole run shows.

mod common;

use common::Builder;
use exec::{BatchStatistics, Data, Executor, Grads, Options, Tensor, Values};
use graph::ops::{
    Activation, Add, BatchNorm, Binary, Concat, Constant, Conv, ConvTranspose, Coordinates, Expand, FakeQuant,
    GroupNorm, Interpolation, Lrn, MatMul, Mul, Pad, PadKind, Pick, Pool, PoolKind, Reduce, ReduceKind, Reshape,
    Resize, Resized, Rounding, Select, Softmax, Span, Split, Transpose,
};
use graph::{Dim, Graph, Kind, Levels, ValueId, WeightStore};

const BATCH: usize = 2;

/// A graph from one value `[batch, shape…]`.
fn graph_of(shape: &[usize], build: impl Fn(&mut Builder, ValueId) -> ValueId) -> (Graph, WeightStore) {
    let mut graph = Graph::default();
    let dims = [Dim::Batch].into_iter().chain(shape.iter().map(|n| Dim::Fixed(*n))).collect();
    let x = graph.input("x", Kind::Float, dims);
    let mut b = Builder { graph, weights: WeightStore::default() };
    let y = build(&mut b, x);
    b.finish(y)
}

fn numbers(name: &str, count: usize) -> Vec<f64> {
    // Away from kinks and ties: no two are equal, none is zero.
    let jitter = |i: usize| 1e-3 * ((i * 7919 % 1009) as f64 + 0.5);
    testkit::values(name, count, 1.0 / 64.0).into_iter().enumerate().map(|(i, x)| f64::from(x) + jitter(i)).collect()
}

fn value(shape: &[usize], data: &[f64]) -> Data<f64> {
    let shape = [&[BATCH], shape].concat();
    Tensor::new(shape, data.to_vec()).expect("the count fits").into()
}

/// `Σ c·y` over everything that comes out.
fn loss(executor: &mut Executor<f64>, x: Data<f64>) -> f64 {
    let y = executor.run(vec![x]).expect("runs");
    let y = y[0].float().expect("numbers");
    y.data().iter().zip(numbers("loss", y.data().len())).map(|(y, c)| y * c).sum()
}

/// Compares the gradients of the input and of every weight with finite differences; returns how many weights had one.
fn check_with(
    name: &str,
    statistics: BatchStatistics,
    shape: &[usize],
    build: impl Fn(&mut Builder, ValueId) -> ValueId,
) -> usize {
    let (graph, weights) = graph_of(shape, build);
    let mut executor = Executor::<f64>::new(&graph, &weights, Options::default()).expect(name);
    executor.set_batch_statistics(statistics);
    let x = numbers(name, BATCH * shape.iter().product::<usize>());
    let inputs = executor.inputs(vec![value(shape, &x)]).expect(name);
    let (values, tape) = executor.run_range_taped(executor.whole(), inputs).expect(name);
    let y = executor.outputs(&values).expect(name)[0].float().expect("numbers").clone();
    let dy = Tensor::new(y.shape().to_vec(), numbers("loss", y.data().len())).expect("the count fits");
    let (mut grads, input) = (Grads::default(), graph.inputs()[0]);
    let output = [(graph.outputs()[0], dy)].into();
    let back = executor.backward_range(executor.whole(), tape, output, &[input], &mut grads).expect(name);
    const STEP: f64 = 1e-6;
    let compare = |what: &str, grad: f64, numeric: f64| {
        assert!((numeric - grad).abs() < 1e-6 * (1.0 + numeric.abs()), "{name}: {what}: {grad} is not {numeric}");
    };
    for at in (0..x.len()).step_by(x.len().div_ceil(23)) {
        let mut shifted = |by: f64| {
            let mut x = x.clone();
            x[at] += by;
            loss(&mut executor, value(shape, &x))
        };
        let numeric = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
        compare(&format!("x[{at}]"), back[&input].data()[at], numeric);
    }
    for (id, grad) in grads.iter() {
        for at in (0..grad.len()).step_by(grad.len().div_ceil(13)) {
            let mut shifted = |by: f64| {
                executor.weights_mut().full_mut(id).expect("f64")[at] += by;
                let loss = loss(&mut executor, value(shape, &x));
                executor.weights_mut().full_mut(id).expect("f64")[at] -= by;
                loss
            };
            let numeric = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
            compare(&format!("{}[{at}]", weights.get(id).name), grad[at], numeric);
        }
    }
    grads.iter().count()
}

fn check(name: &str, shape: &[usize], build: impl Fn(&mut Builder, ValueId) -> ValueId) -> usize {
    check_with(name, BatchStatistics::Kept, shape, build)
}

const WINDOW: Span = Span { size: 3, stride: 1, dilation: 1, pad: [1, 1] };

#[test]
fn convolutions() {
    let conv = |b: &mut Builder, x, weight: &[usize], window: &[Span], groups| {
        let outputs = weight[0];
        let (weight, bias) = (b.weight("w", weight, 0.0), Some(b.weight("b", &weight[..1], 0.0)));
        b.push("y", Conv { weight, bias, outputs, window: window.to_vec(), groups }, &[x])
    };
    let strided = Span { stride: 2, pad: [1, 0], ..WINDOW };
    assert_eq!(check("square", &[4, 6, 7], |b, x| conv(b, x, &[5, 4, 3, 3], &[WINDOW; 2], 1)), 2);
    check("strided", &[4, 6, 7], |b, x| conv(b, x, &[6, 2, 3, 3], &[strided, Span { dilation: 2, ..strided }], 2));
    check("depthwise", &[4, 6, 7], |b, x| conv(b, x, &[4, 1, 3, 3], &[strided; 2], 4));
    check("one axis", &[4, 11], |b, x| conv(b, x, &[5, 4, 3], &[strided], 1));
    for (extra, groups) in [(vec![0, 0], 1), (vec![1, 0], 2)] {
        check("transposed", &[4, 5, 6], |b, x| {
            let (weight, bias) = (b.weight("w", &[4, 6 / groups, 3, 3], 0.0), Some(b.weight("b", &[6], 0.0)));
            let window = vec![Span { stride: 2, ..WINDOW }; 2];
            b.push("y", ConvTranspose { weight, bias, outputs: 6, window, extra: extra.clone(), groups }, &[x])
        });
    }
}

fn batch_norm(b: &mut Builder, x: ValueId, channels: usize) -> ValueId {
    let [scale, bias, mean] = ["scale", "bias", "mean"].map(|name| b.weight(name, &[channels], 0.5));
    let var = b.weight("var", &[channels], 4.0);
    b.push("norm", BatchNorm { scale, bias, mean, var, eps: 1e-3, momentum: 0.9 }, &[x])
}

#[test]
fn norms() {
    let live = BatchStatistics::Live { momentum: None };
    for statistics in [BatchStatistics::Kept, live] {
        let weights = check_with("batch norm", statistics, &[3, 4, 5], |b, x| {
            let y = batch_norm(b, x, 3);
            b.push("y", Mul, &[y, x])
        });
        assert_eq!(weights, 2, "running statistics have no gradient");
    }
    for groups in [1, 2, 6] {
        check("group norm", &[6, 4, 3], |b, x| {
            let (scale, bias) = (b.weight("scale", &[6], 1.0), b.weight("bias", &[6], 0.0));
            b.push("y", GroupNorm { groups, scale, bias, eps: 1e-3 }, &[x])
        });
    }
    check("LRN", &[6, 4, 3], |b, x| b.push("y", Lrn { size: 3, alpha: 0.5, beta: 0.75, bias: 1.0 }, &[x]));
}

#[test]
fn running_statistics_keep_their_momentum_of_the_old_value() {
    let (graph, weights) = graph_of(&[2, 3], |b, x| batch_norm(b, x, 2));
    let mut executor = Executor::<f64>::new(&graph, &weights, Options::default()).expect("runs");
    let x = numbers("x", 12);
    let of = |channel: usize| [0, 6].into_iter().flat_map(move |image| (0..3).map(move |i| image + 3 * channel + i));
    let mean = of(1).map(|at| x[at]).sum::<f64>() / 6.0;
    let var = of(1).map(|at| (x[at] - mean).powi(2)).sum::<f64>() / 6.0;
    let kept = |name: &str, executor: &mut Executor<f64>| {
        executor.weights_mut().full_mut(weights.find(name).expect("there")).expect("f64")[1]
    };
    let old = (kept("mean", &mut executor), kept("var", &mut executor));
    executor.run(vec![value(&[2, 3], &x)]).expect("runs");
    assert_eq!(old, (kept("mean", &mut executor), kept("var", &mut executor)), "kept statistics stay");
    for momentum in [None, Some(0.25)] {
        let keep = momentum.unwrap_or(0.9);
        let old = (kept("mean", &mut executor), kept("var", &mut executor));
        executor.set_batch_statistics(BatchStatistics::Live { momentum });
        executor.run(vec![value(&[2, 3], &x)]).expect("runs");
        let new = (kept("mean", &mut executor), kept("var", &mut executor));
        let want = (keep * old.0 + (1.0 - keep) * mean, keep * old.1 + (1.0 - keep) * var);
        assert!((new.0 - want.0).abs() < 1e-12 && (new.1 - want.1).abs() < 1e-12, "{new:?} is not {want:?}");
    }
}

#[test]
fn pools_and_reductions() {
    let window = vec![Span { size: 3, stride: 2, dilation: 1, pad: [1, 0] }; 2];
    for kind in [PoolKind::Max, PoolKind::Average { count_padding: true }, PoolKind::Average { count_padding: false }] {
        for ceil in [false, true] {
            check("pool", &[3, 6, 7], |b, x| b.push("y", Pool { kind, window: window.clone(), ceil }, &[x]));
        }
        check("pool of one axis", &[3, 9], |b, x| {
            b.push("y", Pool { kind, window: vec![Span { stride: 2, ..WINDOW }], ceil: true }, &[x])
        });
    }
    for kind in [ReduceKind::Mean, ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min] {
        for (axes, keep) in [(vec![2, 3], true), (vec![1], false), (vec![3], true), (vec![1, 2, 3], false)] {
            check("reduction", &[3, 4, 5], |b, x| b.push("y", Reduce { kind, axes: axes.clone(), keep }, &[x]));
        }
    }
    check("a mean of axes apart", &[3, 4, 5], |b, x| {
        b.push("y", Reduce { kind: ReduceKind::Mean, axes: vec![1, 3], keep: false }, &[x])
    });
}

#[test]
fn functions() {
    use Activation::*;
    for activation in [
        Relu,
        LeakyRelu(0.1),
        Elu(0.7),
        Clip(-0.5, 0.75),
        Sigmoid,
        HardSigmoid(0.2, 0.5),
        HardSwish,
        Tanh,
        Mish,
        Softplus,
        Softsign,
        Erf,
        Exp,
        Abs,
        Neg,
    ] {
        check("activation", &[3, 5], |b, x| b.push("y", activation, &[x]));
    }
    for activation in [Log, Sqrt, Reciprocal] {
        check("positive", &[3, 5], |b, x| {
            let x = b.push("exp", Exp, &[x]);
            b.push("y", activation, &[x])
        });
    }
    for shape in [vec![3, 4], vec![4], vec![3, 1], vec![1]] {
        for op in [Binary::Sub, Binary::Div, Binary::Pow, Binary::Max, Binary::Min, Binary::Slope] {
            let with_constant = |b: &mut Builder, x: ValueId| {
                let weight = b.weight("w", &shape, 1.5);
                let constant = b.push("c", Constant { weight, rank: shape.len() }, &[]);
                let x = if op == Binary::Pow { b.push("exp", Exp, &[x]) } else { x };
                let y = b.push("y", op, &[x, constant]);
                let y = b.push("back", op, &[constant, y]);
                let y = b.push("sum", Add, &[y, constant]);
                b.push("product", Mul, &[constant, y])
            };
            // A base below zero has no power.
            if op != Binary::Pow {
                check("two operands", &[3, 4], with_constant);
            } else {
                check("power", &[3, 4], |b, x| {
                    let weight = b.weight("w", &shape, 1.5);
                    let constant = b.push("c", Constant { weight, rank: shape.len() }, &[]);
                    let x = b.push("exp", Exp, &[x]);
                    b.push("y", op, &[x, constant])
                });
            }
        }
    }
    for (axis, log) in [(1, false), (2, true), (3, false)] {
        check("softmax", &[3, 4, 5], |b, x| b.push("y", Softmax { axis, log }, &[x]));
    }
}

#[test]
fn moving_and_resampling() {
    let pads = vec![[0, 0], [1, 2], [2, 1]];
    for kind in [PadKind::Constant(0.5), PadKind::Reflect, PadKind::Edge] {
        check("pad", &[3, 4], |b, x| b.push("y", Pad { kind, pads: pads.clone() }, &[x]));
    }
    check("shuffle", &[6, 4], |b, x| {
        let x = b.push("in", Reshape { shape: vec![Dim::Batch, Dim::Fixed(2), Dim::Fixed(3), Dim::Fixed(4)] }, &[x]);
        let x = b.push("turn", Transpose { order: vec![0, 2, 1, 3] }, &[x]);
        let x = b.push("out", Reshape { shape: vec![Dim::Batch, Dim::Fixed(6), Dim::Fixed(4)] }, &[x]);
        let parts = b.graph.push("parts", Split { axis: 1, widths: vec![2, 4] }, &[x], &b.weights).expect("fits");
        let picks = vec![Pick { axis: 1, indices: vec![3, 1, 1] }, Pick { axis: 2, indices: vec![0, 3] }];
        let picked = b.push("pick", Select { picks }, &[parts[1]]);
        let first = b.push("first", Select { picks: vec![Pick { axis: 2, indices: vec![2, 1] }] }, &[parts[0]]);
        let joined = b.push("join", Concat { axis: 1 }, &[picked, first, picked]);
        let shape = vec![Dim::Fixed(2), Dim::Batch, Dim::Fixed(8), Dim::Fixed(2)];
        b.push("stretch", Expand { shape }, &[joined])
    });
    check("product", &[2, 3, 4], |b, x| {
        let turned = b.push("turn", Transpose { order: vec![0, 1, 3, 2] }, &[x]);
        let weight = b.weight("w", &[3, 5], 0.0);
        let w = b.push("c", Constant { weight, rank: 2 }, &[]);
        let y = b.push("square", MatMul, &[x, turned]);
        b.push("y", MatMul, &[y, w])
    });
    let axes = vec![Resized { axis: 2, points: 7, scale: 7.0 / 4.0 }, Resized { axis: 3, points: 3, scale: 0.6 }];
    for interpolation in
        [Interpolation::Nearest(Rounding::HalfDown), Interpolation::Linear, Interpolation::Cubic(-0.75)]
    {
        for coordinates in
            [Coordinates::HalfPixel, Coordinates::HalfPixelOrOrigin, Coordinates::Asymmetric, Coordinates::AlignCorners]
        {
            check("resize", &[3, 4, 5], |b, x| {
                b.push("y", Resize { interpolation, coordinates, axes: axes.clone() }, &[x])
            });
        }
    }
}

#[test]
fn fake_quantization_passes_gradients_where_nothing_is_clamped() {
    let (graph, weights) = graph_of(&[3, 5], |b, x| {
        let scale = b.weight("scale", &[3], 0.1);
        b.push("y", FakeQuant { scale, zero: vec![0, 3, -2], axis: Some(1), levels: Levels::I4 }, &[x])
    });
    let mut executor = Executor::<f64>::new(&graph, &weights, Options::default()).expect("runs");
    let x = numbers("x", 30);
    let inputs = executor.inputs(vec![value(&[3, 5], &x)]).expect("one input");
    let (values, tape) = executor.run_range_taped(executor.whole(), inputs).expect("runs");
    let y = executor.outputs(&values).expect("one output")[0].float().expect("numbers").clone();
    let dy = Tensor::new(vec![2, 3, 5], vec![1.0; 30]).expect("fits");
    let (mut grads, input) = (Grads::default(), graph.inputs()[0]);
    let output = [(graph.outputs()[0], dy)].into();
    let back = executor.backward_range(executor.whole(), tape, output, &[input], &mut grads).expect("runs");
    let id = weights.find("scale").expect("there");
    let scales = executor.weights_mut().full_mut(id).expect("f64").to_vec();
    let mut clamped = 0;
    for at in 0..30 {
        let (scale, zero) = (scales[at / 5 % 3], [0.0, 3.0, -2.0][at / 5 % 3]);
        let free = (x[at] / scale).round_ties_even() + zero;
        assert!((y.data()[at] - scale * (free.clamp(-8.0, 7.0) - zero)).abs() < 1e-15);
        assert_eq!(back[&input].data()[at], if (-8.0..=7.0).contains(&free) { 1.0 } else { 0.0 });
        clamped += usize::from(!(-8.0..=7.0).contains(&free));
    }
    assert!((1..29).contains(&clamped) && grads.get(id).is_some());
}

/// Several inputs and outputs, one of them read by nothing; taps; samples that do not agree.
#[test]
fn several_ends() {
    let mut graph = Graph::default();
    let [a, c] = ["a", "c"].map(|name| graph.input(name, Kind::Float, vec![Dim::Batch, Dim::Fixed(3)]));
    let weights = WeightStore::default();
    let sum = graph.push1("sum", Add, &[a, c], &weights).expect("fits");
    let product = graph.push1("product", Mul, &[sum, c], &weights).expect("fits");
    graph.output(product);
    graph.output(sum);
    let mut executor = Executor::<f32>::new(&graph, &weights, Options::default()).expect("runs");
    let data = |rows: usize, x: f32| Data::from(Tensor::new(vec![rows, 3], vec![x; 3 * rows]).expect("fits"));
    let out = executor.run(vec![data(2, 1.0), data(2, 2.0)]).expect("runs");
    assert_eq!(out.iter().map(|y| y.float().expect("numbers").data()[0]).collect::<Vec<_>>(), [6.0, 3.0]);
    let mut seen = 0;
    let values: Values = executor.inputs(vec![data(2, 1.0), data(2, 2.0)]).expect("two inputs");
    executor.run_range_with_taps(0..2, values, &mut |_| seen += 1).expect("runs");
    assert_eq!(seen, 2);
    let mut error = |inputs| executor.run(inputs).expect_err("refused").to_string();
    assert_eq!(error(vec![data(2, 1.0)]), "1 inputs for a graph with 2");
    assert!(error(vec![data(2, 1.0), data(3, 1.0)]).contains("samples"));
}
