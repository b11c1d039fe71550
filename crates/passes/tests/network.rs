//! Networks on grids: what runs on codes, what shares a grid, and how far outputs move.

use calib::{Batch, Samples};
use exec::{Executor, Tensor};
use graph::ops::*;
use graph::{Body, Dim, Graph, Kind, Levels, Model, Op, Place, Role, ValueId, Weight, WeightId, WeightStore};
use passes::quantize::network::{QuantizeError, Quantized, equalize, fusion, quantize, verified};
use plan::{Calibrator, QuantizeSpec, Rounding, Runs};
use std::error::Error;
use std::ops::Range;

struct Net {
    graph: Graph,
    weights: WeightStore,
}

impl Net {
    fn weight(&mut self, name: &str, shape: &[usize], scale: f32, center: f32) -> WeightId {
        let mut data = testkit::values(name, shape.iter().product(), scale / 128.0);
        data.iter_mut().for_each(|x| *x += center);
        let weight = Weight::from_f32(name, Place::outer(Role::Other), shape.to_vec(), &data);
        self.weights.insert(weight.expect("f32 holds any number"))
    }

    fn push(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.push1(name, op, inputs, &self.weights).expect("fits")
    }

    fn conv(&mut self, name: &str, [inputs, outputs]: [usize; 2], size: usize, x: ValueId) -> ValueId {
        let weight = self.weight(&format!("{name}.w"), &[outputs, inputs, size, size], 0.4, 0.0);
        let bias = Some(self.weight(&format!("{name}.b"), &[outputs], 0.5, 0.1));
        let span = Span { size, stride: 1, dilation: 1, pad: [size / 2; 2] };
        self.push(name, Conv { weight, bias, outputs, window: vec![span; 2], groups: 1 }, &[x])
    }

    fn constant(&mut self, name: &str, shape: &[usize], center: f32) -> ValueId {
        let weight = self.weight(name, shape, 0.2, center);
        self.push(&format!("constant {name}"), Constant { weight, rank: shape.len() }, &[])
    }
}

const CHANNELS: usize = 8;

/// A residual block with a gate, a pool, a concatenation, channels padded, a mean over the plane, a classifier.
fn network() -> Model {
    let mut graph = Graph::default();
    let x = graph.input("x", Kind::Float, vec![Dim::Batch, Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)]);
    let mut net = Net { graph, weights: WeightStore::default() };
    let a = net.conv("first", [3, CHANNELS], 3, x);
    let a = net.push("relu", Activation::Clip(0.0, 2.0), &[a]);
    let a = net.push(
        "pool",
        Pool {
            kind: PoolKind::Max,
            window: vec![Span { size: 2, stride: 2, dilation: 1, pad: [0, 0] }; 2],
            ceil: false,
        },
        &[a],
    );
    let b = net.conv("second", [CHANNELS, CHANNELS], 3, a);
    let gate = net.push("gate mean", Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: true }, &[b]);
    let gate = net.conv("gate", [CHANNELS, CHANNELS], 1, gate);
    let gate = net.push("sigmoid", Activation::Sigmoid, &[gate]);
    let b = net.push("gated", Mul, &[b, gate]);
    let b = net.push("sum", Add, &[a, b]);
    let b = net.push("sum relu", Activation::Relu, &[b]);
    let pads = vec![[0, 0], [2, 2], [0, 0], [0, 0]];
    let padded = net.push("pad", Pad { kind: PadKind::Constant(0.0), pads }, &[a]);
    let c = net.push("concat", Concat { axis: 1 }, &[b, padded]);
    let shift = net.constant("shift", &[2 * CHANNELS + 4, 1, 1], 0.3);
    let c = net.push("minus", Binary::Sub, &[c, shift]);
    let c = net.push("swish", Activation::HardSwish, &[c]);
    let c = net.push("mean", Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: false }, &[c]);
    let weight = net.weight("head.w", &[5, 2 * CHANNELS + 4], 0.5, 0.0);
    let bias = Some(net.weight("head.b", &[5], 0.5, 0.0));
    let c = net.push("head", Linear { weight, bias }, &[c]);
    let c = net.push("softmax", Softmax { axis: 1, log: false }, &[c]);
    net.graph.output(c);
    Model { body: Body::Network { graph: net.graph }, weights: net.weights }
}

/// Images in memory: `[samples, 3, side, side]`.
#[derive(Debug)]
struct Images(Tensor);

impl Images {
    fn new(count: usize, channels: usize) -> Images {
        Images::named("x", count, channels)
    }

    fn named(name: &str, count: usize, channels: usize) -> Images {
        let numbers = testkit::values(name, count * channels * 64, 1.0 / 64.0).into_iter().map(|x| x + 1.0).collect();
        Images(Tensor::new(vec![count, channels, 8, 8], numbers).expect("fits"))
    }
}

impl Samples for Images {
    fn name(&self) -> &str {
        "images"
    }

    fn len(&self) -> usize {
        self.0.shape()[0]
    }

    fn batch(&self, range: Range<usize>) -> Result<Batch, Box<dyn Error + Send + Sync>> {
        let (each, mut shape) = (self.0.data().len() / self.len(), self.0.shape().to_vec());
        shape[0] = range.len();
        let numbers = self.0.data()[range.start * each..range.end * each].to_vec();
        Ok(Batch { inputs: vec![Tensor::new(shape, numbers)?.into()], labels: vec![] })
    }
}

fn samples() -> Images {
    Images::new(40, 3)
}

fn run(model: &Model, samples: &Images) -> Vec<f32> {
    let graph = model.graph().expect("is there");
    let mut executor = Executor::new(graph, &model.weights, exec::Options::default()).expect("runs");
    let outputs = executor.run(vec![samples.0.clone().into()]).expect("runs");
    outputs[0].float().expect("numbers").data().to_vec()
}

fn runs_of<'a>(fusion: &'a plan::Fusion, node: &str) -> &'a Runs {
    let found = fusion.nodes.iter().find(|n| n.node == node);
    &found.unwrap_or_else(|| panic!("{node} among {:?}", fusion.nodes)).runs
}

#[test]
fn all_that_has_a_kernel_runs_on_codes() {
    let model = network();
    for values in [Levels::U8, Levels::I8] {
        let Quantized { model: made, notes, .. } =
            quantize(&model, &samples(), &QuantizeSpec { values, ..QuantizeSpec::default() }).expect("quantizes");
        made.check().expect("is sound");
        assert_eq!(notes.len(), 3, "{notes:?}");
        let fusion = fusion(&made);
        let codes = ["first", "second", "gate mean", "gate", "gated", "sum", "pad", "concat", "minus", "mean", "head"];
        for node in codes {
            assert!(matches!(runs_of(&fusion, node), Runs::OnCodes(_)), "{node}: {:?}", runs_of(&fusion, node));
        }
        assert_eq!(runs_of(&fusion, "pool"), &Runs::MovesCodes);
        assert_eq!(runs_of(&fusion, "mean_flat"), &Runs::MovesCodes);
        assert!(fusion.nodes.iter().all(|n| n.node != "relu" && n.node != "sum relu"), "clamps are in the ranges");
        let float: Vec<&str> = fusion.in_float().map(|(node, ..)| &node.node[..]).collect();
        assert_eq!(float, ["swish", "softmax"]);
        let beside: Vec<_> = fusion.inside().filter_map(|c| c.beside.as_deref()).collect();
        assert_eq!(beside, ["swish", "swish"]);
    }
}

#[test]
fn outputs_stay_near() {
    let (model, samples) = (network(), samples());
    let before = run(&model, &samples);
    for ranges in [Calibrator::MinMax, Calibrator::MovingAverage, Calibrator::Percentile(99.999), Calibrator::Mse] {
        let made = quantize(&model, &samples, &QuantizeSpec { ranges, ..QuantizeSpec::default() }).expect("quantizes");
        let gap = testkit::max_abs_difference(&run(&made.model, &samples), &before).0;
        assert!(gap > 0.0 && gap < 0.04, "{ranges:?}: {gap}");
    }
}

#[test]
fn every_layer_and_value_is_measured() {
    let made = quantize(&network(), &samples(), &QuantizeSpec::default()).expect("quantizes");
    let layers: Vec<&str> = made.sensitivity.iter().map(|s| &s.node[..]).collect();
    assert_eq!(layers, ["first", "second", "gate", "pad", "head"]);
    for layer in &made.sensitivity {
        let [(int8, fine), (int4, coarse)] = &layer.moved[..] else { panic!("two kinds of codes") };
        assert_eq!([&int8[..], &int4[..]], ["int8", "int4"]);
        // What only copies channels is exact at any number of bits.
        let exact = layer.node == "pad" && fine == coarse;
        assert!(*fine > 0.0 && (2.0 * fine < *coarse || exact) && *coarse < 0.5, "{}: {fine}, {coarse}", layer.node);
    }
    let of = |name: &str| made.ranges.iter().find(|r| r.value == name).expect("is on a grid");
    let input = of("x");
    assert!(input.counts.iter().sum::<u64>() > 1000 && input.kept[0] <= 0.0 && input.kept[1] > 0.0);
    assert!(made.ranges.iter().all(|r| r.kept[1] - r.kept[0] <= 1.5 * (r.seen[1] - r.seen[0])), "{:?}", made.ranges);
}

/// Two convolutions with a Relu between them, a depthwise one behind, channels of very unlike size.
fn unlike() -> Model {
    let mut graph = Graph::default();
    let x = graph.input("x", Kind::Float, vec![Dim::Batch, Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)]);
    let mut net = Net { graph, weights: WeightStore::default() };
    let a = net.conv("a", [3, 4], 3, x);
    let a = net.push("a relu", Activation::Relu, &[a]);
    let weight = net.weight("b.w", &[8, 1, 3, 3], 0.5, 0.0);
    let span = Span { size: 3, stride: 1, dilation: 1, pad: [1; 2] };
    let b = net.push("b", Conv { weight, bias: None, outputs: 8, window: vec![span; 2], groups: 4 }, &[a]);
    let b = net.push("b relu", Activation::LeakyRelu(0.1), &[b]);
    let c = net.conv("c", [8, 5], 1, b);
    net.graph.output(c);
    let id = net.weights.find("a.w").expect("is there");
    let old = net.weights.get(id).clone();
    let mut numbers = old.read().expect("reads");
    numbers[27..54].iter_mut().for_each(|w| *w *= 50.0);
    let new = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers).expect("f32");
    net.weights.replace(id, new.encoding, new.shape, new.source);
    Model { body: Body::Network { graph: net.graph }, weights: net.weights }
}

#[test]
fn equalized_layers_compute_the_same() {
    let (model, samples) = (unlike(), samples());
    let mut equal = model.clone();
    let (patch, pairs) = equalize(&model).expect("equalizes");
    equal.apply(patch).expect("is sound");
    assert_eq!(pairs, 2);
    let (before, after) = (run(&model, &samples), run(&equal, &samples));
    let largest = before.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    assert!(testkit::max_abs_difference(&after, &before).0 < 1e-5 * largest);
    let spread = |model: &Model| {
        let weight = model.weights.get(model.weights.find("a.w").expect("is there")).read().expect("reads");
        let sizes: Vec<f32> = weight.chunks(27).map(|row| row.iter().fold(0.0f32, |m, x| m.max(x.abs()))).collect();
        sizes.iter().copied().fold(0.0, f32::max) / sizes.iter().copied().fold(f32::INFINITY, f32::min)
    };
    assert!(spread(&equal) < 0.3 * spread(&model), "{} {}", spread(&equal), spread(&model));
}

/// Mean squared error of the outputs of a quantized network on samples that it was not made with.
fn error(spec: &QuantizeSpec) -> f64 {
    let (model, other) = (network(), Images::named("other", 64, 3));
    let made = quantize(&model, &Images::new(256, 3), spec).expect("quantizes");
    let pairs = run(&made.model, &other).into_iter().zip(run(&model, &other));
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[test]
fn learned_rounding_beats_nearest_at_four_bits() {
    let spec = QuantizeSpec { weights: Levels::I4, correct: false, ..QuantizeSpec::default() };
    let nearest = error(&spec);
    let corrected = error(&QuantizeSpec { correct: true, ..spec.clone() });
    assert!(corrected < 0.9 * nearest, "{corrected} against {nearest}");
    for round in [Rounding::Descent, Rounding::Adaround] {
        let learned = error(&QuantizeSpec { round, correct: true, ..spec.clone() });
        assert!(learned < 0.95 * corrected, "{round:?}: {learned} against {corrected}");
    }
}

#[test]
fn a_budget_takes_as_few_wide_layers_as_it_needs() {
    let samples = samples();
    let made =
        |weights, budget| quantize(&network(), &samples, &QuantizeSpec { weights, budget, ..QuantizeSpec::default() });
    let before = run(&network(), &samples);
    let moved = |made: &Quantized| {
        let square = |x: f32| f64::from(x).powi(2);
        let pairs = run(&made.model, &samples).into_iter().zip(&before);
        let (apart, norm) = pairs.fold((0.0, 0.0), |(a, n), (x, y)| (a + square(x - y), n + square(*y)));
        f64::sqrt(apart / norm)
    };
    let [narrow, wide] = [Levels::I4, Levels::I8].map(|levels| moved(&made(levels, None).expect("quantizes")));
    assert!(wide < 0.8 * narrow, "{wide} against {narrow}");
    let budget = (narrow + wide) / 2.0;
    let found = made(Levels::I4, Some(budget)).expect("is met");
    let widened = found.notes.iter().filter(|note| note.contains("wider")).count();
    assert!((1..5).contains(&widened), "{widened} of five layers");
    assert!(moved(&found) <= budget * 1.000_001);
    assert!(matches!(made(Levels::I4, Some(1e-6)), Err(QuantizeError::Budget { .. })));
}

/// Samples with the classes that a network gives them, some of them wrong.
#[derive(Debug)]
struct Labelled {
    images: Images,
    labels: Vec<u32>,
}

impl Labelled {
    fn by(model: &Model, images: Images) -> Labelled {
        let (count, scores) = (images.len(), run(model, &images));
        let largest =
            |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(at, _)| at as u32);
        Labelled { labels: scores.chunks(scores.len() / count).map(largest).collect(), images }
    }
}

impl Samples for Labelled {
    fn name(&self) -> &str {
        "labelled"
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn batch(&self, range: Range<usize>) -> Result<Batch, Box<dyn Error + Send + Sync>> {
        let labels = self.labels[range.clone()].to_vec();
        Ok(Batch { labels, ..self.images.batch(range)? })
    }
}

/// The network with scores so shifted that samples are of different classes.
fn balanced() -> Model {
    let (mut model, samples) = (network(), Images::new(200, 3));
    let (id, scores) = (model.weights.find("head.b").expect("is there"), run(&model, &samples));
    let old = model.weights.get(id).clone();
    let (mut bias, classes) = (old.read().expect("reads"), old.elements());
    for row in scores.chunks(classes) {
        bias.iter_mut().zip(row).for_each(|(b, share)| *b -= share.ln() / samples.len() as f32);
    }
    let new = Weight::from_f32(&old.name, old.place, old.shape.clone(), &bias).expect("f32");
    model.weights.replace(id, new.encoding, new.shape, new.source);
    model
}

#[test]
fn accuracy_is_kept_on_samples_and_on_held_out_ones() {
    let model = balanced();
    let (samples, held_out) =
        (Labelled::by(&model, Images::new(200, 3)), Labelled::by(&model, Images::named("o", 300, 3)));
    let lost = |made: &Quantized, on: &Labelled| {
        let now = Labelled::by(&made.model, Images(on.images.0.clone()));
        let wrong = now.labels.iter().zip(&on.labels).filter(|(a, b)| a != b).count();
        100.0 * wrong as f64 / on.len() as f64
    };
    let spec = QuantizeSpec { weights: Levels::I4, correct: false, ..QuantizeSpec::default() };
    let narrow = quantize(&model, &samples, &spec).expect("quantizes");
    let (on, out) = (lost(&narrow, &samples), lost(&narrow, &held_out));
    assert!(on > 1.0 && out > 1.0, "four bits cost something: {on}, {out}");
    let most = 0.6 * on.min(out);
    let spec = QuantizeSpec { max_drop: Some(most), ..spec };
    let found = verified(&model, &samples, Some(&held_out), &spec).expect("is met");
    assert!(lost(&found, &samples) <= most && lost(&found, &held_out) <= most);
    assert!(found.notes.iter().any(|note| note.contains("int8, wider")), "{:?}", found.notes);
    let unlabelled = quantize(&model, &samples.images, &spec);
    assert!(matches!(unlabelled, Err(QuantizeError::NoLabels { .. })));
    let hopeless = QuantizeSpec { max_drop: Some(-50.0), ..spec };
    assert!(matches!(quantize(&model, &samples, &hopeless), Err(QuantizeError::Drop { .. })));
}

#[test]
fn weights_and_biases_lie_on_their_grids() {
    let made = quantize(&network(), &samples(), &QuantizeSpec::default()).expect("quantizes").model;
    for name in ["first.w", "second.b", "head.w", "head.b", "shift"] {
        let id = made.weights.find(name).expect("is there");
        let (weight, grid) = (made.weights.get(id), made.weights.grid(id).expect("is on a grid"));
        let inner = grid.axis.map_or(usize::MAX, |axis| weight.shape[axis + 1..].iter().product());
        for (at, x) in weight.read().expect("reads").into_iter().enumerate() {
            let index = at / inner % grid.scale.len();
            let back = (grid.code(x, index) - i64::from(grid.zero[index])) as f32 * grid.scale[index];
            assert!((back - x).abs() <= 1e-6 * x.abs(), "{name}: {x} {back}");
        }
    }
}

#[test]
fn what_is_kept_stays_in_float() {
    let options = QuantizeSpec { keep: vec!["second".parse().expect("a pattern")], ..QuantizeSpec::default() };
    let made = quantize(&network(), &samples(), &options).expect("quantizes").model;
    assert!(matches!(runs_of(&fusion(&made), "second"), Runs::InFloat { .. }));
    assert!(made.weights.grid(made.weights.find("second.w").expect("is there")).is_none());
}

#[test]
fn what_cannot_be_quantized_says_why() {
    let model = network();
    assert!(matches!(quantize(&model, &Images::new(0, 3), &QuantizeSpec::default()), Err(QuantizeError::Observe(_))));
    assert!(quantize(&model, &Images::new(1, 2), &QuantizeSpec::default()).is_err());
    let made = quantize(&model, &samples(), &QuantizeSpec::default()).expect("quantizes").model;
    assert!(matches!(quantize(&made, &samples(), &QuantizeSpec::default()), Err(QuantizeError::Already { .. })));
    let mut broken = model.clone();
    let id = broken.weights.find("second.w").expect("is there");
    let old = broken.weights.get(id).clone();
    let mut numbers = old.read().expect("reads");
    numbers[7] = f32::NAN;
    let new = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers).expect("f32");
    broken.weights.replace(id, new.encoding, new.shape, new.source);
    let error = quantize(&broken, &samples(), &QuantizeSpec::default()).err().expect("fails").to_string();
    assert!(error.contains("second"), "{error}");
}
