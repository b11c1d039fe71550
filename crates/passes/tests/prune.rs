//! Pruning: networks small enough to know their groups by heart; each is pruned and must compute what it computes masked.

use exec::{Executor, Options};
use graph::ops::{
    Activation, Add, BatchNorm, Concat, Conv, ConvTranspose, Linear, MatMul, Mul, Norm, NormKind, Opaque, Pick, Pool,
    PoolKind, Reduce, ReduceKind, Reshape, Select, Softmax, Span, Split, Transpose,
};
use graph::{Body, Dim, Graph, Kind, Model, Op, Place, Role, Size, ValueId, Weight, WeightId, WeightStore};
use passes::prune::{self, Axis, Channel, Context, Freedom, Group, Groups, Of, PruneError, Removal, check};
use plan::{Allocation, Counters, Criterion, PruneSpec};
use std::collections::BTreeMap;

/// A network from `[batch, 3, 8, 8]`.
struct Net {
    graph: Graph,
    weights: WeightStore,
}

impl Net {
    fn new() -> (Net, ValueId) {
        let mut graph = Graph::default();
        let x = graph.input("x", Kind::Float, shape(&[3, 8, 8]));
        (Net { graph, weights: WeightStore::default() }, x)
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> WeightId {
        let mut data = testkit::values(name, shape.iter().product(), 1.0 / 256.0);
        let positive = name.ends_with("var") || name.ends_with("scale");
        data.iter_mut().filter(|_| positive).for_each(|x| *x = x.abs() + 0.5);
        let place = Place::outer(Role::Other);
        self.weights.insert(Weight::from_f32(name, place, shape.to_vec(), &data).expect("f32 holds any number"))
    }

    fn push(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.push1(name, op, inputs, &self.weights).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A 3 × 3 convolution that keeps the space.
    fn conv(&mut self, name: &str, x: ValueId, inputs: usize, outputs: usize, groups: usize) -> ValueId {
        let weight = self.weight(&format!("{name}.weight"), &[outputs, inputs / groups, 3, 3]);
        let bias = Some(self.weight(&format!("{name}.bias"), &[outputs]));
        let window = vec![Span { pad: [1, 1], ..Span::of(3) }; 2];
        self.push(name, Conv { weight, bias, outputs, window, groups }, &[x])
    }

    fn norm(&mut self, name: &str, x: ValueId, channels: usize) -> ValueId {
        let [scale, bias, mean, var] =
            ["scale", "bias", "mean", "var"].map(|n| self.weight(&format!("{name}.{n}"), &[channels]));
        self.push(name, BatchNorm { scale, bias, mean, var, eps: 1e-5, momentum: 0.9 }, &[x])
    }

    fn linear(&mut self, name: &str, x: ValueId, inputs: usize, outputs: usize) -> ValueId {
        let weight = self.weight(&format!("{name}.weight"), &[outputs, inputs]);
        self.push(name, Linear { weight, bias: None }, &[x])
    }

    fn relu(&mut self, name: &str, x: ValueId) -> ValueId {
        self.push(name, Activation::Relu, &[x])
    }

    fn reshape(&mut self, name: &str, x: ValueId, dims: &[usize]) -> ValueId {
        self.push(name, Reshape { shape: shape(dims) }, &[x])
    }

    /// The mean over space, then ten classes.
    fn finish(mut self, x: ValueId, channels: usize) -> Model {
        let mean = self.push("gap", Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: false }, &[x]);
        let y = self.linear("head", mean, channels, 10);
        self.model(y)
    }

    fn model(mut self, y: ValueId) -> Model {
        self.graph.output(y);
        Model { body: Body::Network { graph: self.graph }, weights: self.weights }
    }
}

fn shape(dims: &[usize]) -> Vec<Dim> {
    [Dim::Batch].into_iter().chain(dims.iter().map(|n| Dim::Fixed(*n))).collect()
}

fn spec(budget: &str) -> PruneSpec {
    PruneSpec::to(budget.parse().expect("a budget"))
}

fn context() -> Context<'static> {
    Context { data: None, seed: 1, advance: &|_| {} }
}

fn pruned(model: &Model, spec: &PruneSpec) -> Result<Model, PruneError> {
    let mut smaller = model.clone();
    let done = prune::prune(model, spec, &context())?;
    done.take_out(&mut smaller)?;
    Ok(smaller)
}

fn run(model: &Model) -> Vec<f32> {
    let graph = model.graph().expect("a graph");
    let size = Size { batch: 2, tokens: 1 };
    let inputs = graph.inputs().iter().map(|id| exec::random(&graph.values()[id.0], size, 7).expect("fits")).collect();
    let mut executor = Executor::<f32>::new(graph, &model.weights, Options::default()).expect("runs");
    let outputs = executor.run(inputs).expect("runs");
    outputs[0].float().expect("numbers").data().to_vec()
}

/// Takes the first half of every group's channels out: of the whole run the masked and the smaller network must agree.
fn halves(model: &Model) -> Groups {
    let found = prune::groups::find(model, Freedom::default());
    for group in &found.groups {
        let half: Vec<&Channel> = group.channels.iter().take(group.channels.len().div_ceil(2)).collect();
        assert!(check::invariance(model, &half, 3).expect("runs") <= check::TOLERANCE, "{}", group.name);
    }
    let gone = found.groups.iter().flat_map(|g| g.channels.iter().take(g.channels.len() / 2));
    let removal = Removal::of(gone);
    let (mut masked, mut smaller) = (model.clone(), model.clone());
    masked.apply(removal.mask(model).expect("plain")).expect("fits");
    smaller.apply(removal.patch(model).expect("plain")).expect("fits");
    let (a, b) = (run(&masked), run(&smaller));
    let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(largest > 0.0 && a != run(model), "something flows, and something changed");
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).for_each(|(a, b)| assert!((a - b).abs() <= 1e-5 * largest, "{a} {b}"));
    assert!(smaller.parameters() < model.parameters());
    found
}

/// Names of groups and how many channels they have.
fn sizes(found: &Groups) -> BTreeMap<&str, usize> {
    found.groups.iter().map(|g| (g.name.as_str(), g.channels.len())).collect()
}

#[test]
fn a_residual_stream_is_one_group() {
    let (mut net, x) = Net::new();
    let stem = net.conv("stem", x, 3, 8, 1);
    let a = net.conv("a", stem, 8, 6, 1);
    let a = net.norm("a.norm", a, 6);
    let a = net.relu("a.relu", a);
    let b = net.conv("b", a, 6, 8, 1);
    let sum = net.push("sum", Add, &[stem, b]);
    let found = halves(&net.finish(sum, 8));
    assert_eq!(sizes(&found), [("a.weight", 6), ("stem.weight", 8)].into());
    let frozen: Vec<_> =
        found.frozen.iter().map(|f| (f.weight.as_str(), f.outputs, f.why.contains("output"))).collect();
    assert_eq!(frozen, [("head.weight", 10, true)]);
}

#[test]
fn a_value_concatenated_twice_is_one_group() {
    let (mut net, x) = Net::new();
    let a = net.conv("a", x, 3, 4, 1);
    let b = net.conv("b", x, 3, 6, 1);
    let all = net.push("cat", Concat { axis: 1 }, &[a, b, a]);
    let found = halves(&net.finish(all, 14));
    assert_eq!(sizes(&found), [("a.weight", 4), ("b.weight", 6)].into());
    let head = |group: &Group| -> Vec<usize> {
        let weights = group.channels[0].indices.iter().filter(|(axis, _)| matches!(axis.of, Of::Weight(_)));
        weights.filter(|(axis, _)| axis.axis == 1).flat_map(|(_, at)| at.clone()).collect()
    };
    assert_eq!(head(&found.groups[0]), [0, 10]);
}

#[test]
fn a_gate_follows_what_it_gates() {
    let (mut net, x) = Net::new();
    let stem = net.conv("stem", x, 3, 8, 1);
    let mean = net.push("mean", Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: true }, &[stem]);
    let down = net.conv("down", mean, 8, 4, 1);
    let down = net.relu("relu", down);
    let up = net.conv("up", down, 4, 8, 1);
    let gate = net.push("gate", Activation::Sigmoid, &[up]);
    let gated = net.push("gated", Mul, &[stem, gate]);
    let found = halves(&net.finish(gated, 8));
    assert_eq!(sizes(&found), [("down.weight", 4), ("stem.weight", 8)].into());
}

#[test]
fn grouped_and_depthwise_convolutions() {
    let (mut net, x) = Net::new();
    let a = net.conv("a", x, 3, 8, 1);
    let depthwise = net.conv("depthwise", a, 8, 16, 8);
    let grouped = net.conv("grouped", depthwise, 16, 12, 4);
    let weight = net.weight("up.weight", &[12, 2, 2, 2]);
    let up = ConvTranspose {
        weight,
        bias: None,
        outputs: 6,
        window: vec![Span { stride: 2, ..Span::of(2) }; 2],
        extra: vec![0, 0],
        groups: 3,
    };
    let up = net.push("up", up, &[grouped]);
    let found = halves(&net.finish(up, 6));
    // The two outputs of each depthwise input go with it; of four groups the same two local inputs.
    assert_eq!(sizes(&found)["a.weight"], 2);
    assert_eq!(sizes(&found)["up.weight"], 2, "of three groups the same local output");
}

#[test]
fn a_shuffle_is_followed_index_by_index() {
    let (mut net, x) = Net::new();
    let a = net.conv("a", x, 3, 12, 1);
    let grid = net.reshape("grid", a, &[2, 6, 8, 8]);
    let turned = net.push("turned", Transpose { order: vec![0, 2, 1, 3, 4] }, &[grid]);
    let flat = net.reshape("flat", turned, &[12, 8, 8]);
    let [left, right] = [0..6, 6..12].map(|half| {
        let pick = Pick { axis: 1, indices: half.clone().collect() };
        net.push(&format!("half {}", half.start), Select { picks: vec![pick] }, &[flat])
    });
    let b = net.conv("b", left, 6, 5, 1);
    let all = net.push("cat", Concat { axis: 1 }, &[b, right]);
    let model = net.finish(all, 11);
    let found = halves(&model);
    let shuffled: Vec<&Group> = found.groups.iter().filter(|g| g.name == "a.weight").collect();
    assert_eq!(shuffled.iter().map(|g| g.channels.len()).sum::<usize>(), 6, "both halves of a pair go together");

    // As a choice of indices each goes by itself.
    let made = prune::prune(&model, &spec("channels=0.5"), &context()).expect("can be met");
    assert_eq!(made.groups.iter().filter(|g| g.name == "a.weight").map(|g| g.before).sum::<usize>(), 12);

    // The same channels with the shuffle taken for element-wise: refused.
    let a = Axis { of: Of::Weight(model.weights.find("a.weight").expect("there")), axis: 0 };
    let wrong = shuffled[0].channels[0].indices.iter().map(|(axis, at)| match *axis == a {
        true => (*axis, at.iter().map(|i| (i + 1) % 12).collect()),
        false => (*axis, at.clone()),
    });
    let wrong = Channel { indices: wrong.collect() };
    assert!(check::invariance(&model, &[&wrong], 3).is_ok_and(|apart| apart > 0.01));
}

#[test]
fn flattened_and_split_and_pooled() {
    let (mut net, x) = Net::new();
    let a = net.conv("a", x, 3, 8, 1);
    let parts = net.graph.push("split", Split { axis: 1, widths: vec![2, 6] }, &[a], &net.weights).expect("fits");
    let window = vec![Span { stride: 4, ..Span::of(4) }; 2];
    let pooled = net.push("pool", Pool { kind: PoolKind::Max, window, ceil: false }, &[parts[1]]);
    let flat = net.reshape("flat", pooled, &[24]);
    let mean = net.push("mean", Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: false }, &[parts[0]]);
    let both = net.push("both", Concat { axis: 1 }, &[mean, flat]);
    let b = net.linear("b", both, 26, 7);
    let y = net.linear("head", b, 7, 10);
    let found = halves(&net.model(y));
    let a: Vec<_> = found.groups.iter().filter(|g| g.name == "a.weight").map(|g| g.channels.len()).collect();
    assert_eq!(a, [2, 6], "each part by itself; a channel takes its four columns with it");
}

#[test]
fn one_kernel_used_twice_ties_its_users() {
    let (mut net, x) = Net::new();
    let stem = net.conv("stem", x, 3, 8, 1);
    let weight = net.weight("tied.weight", &[8, 8, 3, 3]);
    let window = vec![Span { pad: [1, 1], ..Span::of(3) }; 2];
    let tied = Conv { weight, bias: None, outputs: 8, window, groups: 1 };
    let a = net.push("first", tied.clone(), &[stem]);
    let a = net.relu("relu", a);
    let b = net.push("second", tied, &[a]);
    let found = halves(&net.finish(b, 8));
    assert_eq!(sizes(&found), [("stem.weight", 8)].into());
}

#[test]
fn shared_biases_tie_nobody() {
    let (mut net, x) = Net::new();
    let shared = net.weight("zeros", &[8]);
    let window = vec![Span { pad: [1, 1], ..Span::of(3) }; 2];
    let mut y = x;
    for (name, inputs) in [("a", 3), ("b", 8), ("c", 8)] {
        let weight = net.weight(&format!("{name}.weight"), &[8, inputs, 3, 3]);
        y = net.push(name, Conv { weight, bias: Some(shared), outputs: 8, window: window.clone(), groups: 1 }, &[y]);
    }
    let model = net.finish(y, 8);
    assert_eq!(prune::groups::find(&model, Freedom::default()).groups.len(), 1);
    let smaller = pruned(&model, &spec("channels=0.5")).expect("three groups");
    let found = prune::groups::find(&smaller, Freedom::default());
    assert_eq!(sizes(&found), [("a.weight", 4), ("b.weight", 4), ("c.weight", 4)].into());
}

#[test]
fn attention_loses_whole_heads_or_parts_of_all() {
    let (mut net, x) = Net::new();
    let tokens = net.reshape("tokens", x, &[3, 64]);
    let tokens = net.push("turn", Transpose { order: vec![0, 2, 1] }, &[tokens]);
    let tokens = net.linear("embed", tokens, 3, 16);
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let made = net.linear(name, tokens, 16, 24);
        let heads = net.reshape(&format!("{name}.heads"), made, &[64, 4, 6]);
        net.push(&format!("{name}.turn"), Transpose { order: vec![0, 2, 1, 3] }, &[heads])
    });
    let k = net.push("k.t", Transpose { order: vec![0, 1, 3, 2] }, &[k]);
    let scores = net.push("scores", MatMul, &[q, k]);
    let scores = net.push("softmax", Softmax { axis: 3, log: false }, &[scores]);
    let mixed = net.push("mixed", MatMul, &[scores, v]);
    let mixed = net.push("mixed.turn", Transpose { order: vec![0, 2, 1, 3] }, &[mixed]);
    let mixed = net.reshape("mixed.flat", mixed, &[64, 24]);
    let made = net.linear("o", mixed, 24, 16);
    let sum = net.push("sum", Add, &[tokens, made]);
    let mean = net.push("gap", Reduce { kind: ReduceKind::Mean, axes: vec![1], keep: false }, &[sum]);
    let y = net.linear("head", mean, 16, 10);
    let found = halves(&net.model(y));
    assert_eq!(sizes(&found), [("embed.weight", 16), ("q.weight", 6), ("v.weight", 6)].into());
}

#[test]
fn what_nobody_looks_into_is_frozen_and_said() {
    let (mut net, x) = Net::new();
    let a = net.conv("a", x, 3, 8, 1);
    let a = net.relu("relu", a);
    let outputs = vec![(Kind::Float, shape(&[8, 8, 8]))];
    let odd = Opaque { name: "Odd".into(), reason: "unknown".into(), outputs, weights: vec![], ranks: vec![] };
    let odd = net.push("odd", odd, &[a]);
    let b = net.conv("b", odd, 8, 6, 1);
    let found = prune::groups::find(&net.finish(b, 6), Freedom::default());
    assert_eq!(sizes(&found), [("b.weight", 6)].into());
    let frozen = found.frozen.iter().find(|f| f.weight == "a.weight").expect("reported");
    assert!(frozen.outputs == 8 && frozen.why.contains("`odd` (Opaque)"), "{}", frozen.why);
}

#[test]
fn norms_stay_unless_asked() {
    let build = || {
        let (mut net, x) = Net::new();
        let flat = net.reshape("flat", x, &[192]);
        let a = net.linear("a", flat, 192, 12);
        let (weight, bias) = (net.weight("norm.scale", &[12]), None);
        let norm = Norm { kind: NormKind::Layer, size: 12, weight, bias, eps: 1e-5, offset: 0.0 };
        let normed = net.push("norm", norm, &[a]);
        let y = net.linear("head", normed, 12, 10);
        net.model(y)
    };
    let model = build();
    assert!(
        matches!(pruned(&model, &spec("channels=0.5")), Err(PruneError::Nothing { why: Some(why) }) if why.contains("statistics"))
    );
    let smaller = pruned(&model, &PruneSpec { through_norms: true, ..spec("channels=0.5") }).expect("asked for");
    assert_eq!(run(&smaller).len(), run(&model).len());
}

/// Three stages with residual blocks.
fn stages() -> Model {
    let (mut net, x) = Net::new();
    let mut y = net.conv("stem", x, 3, 16, 1);
    let mut width = 16;
    for (stage, outputs) in [16, 24, 32].into_iter().enumerate() {
        let a = net.conv(&format!("{stage}.a"), y, width, outputs, 1);
        let a = net.norm(&format!("{stage}.norm"), a, outputs);
        let a = net.relu(&format!("{stage}.relu"), a);
        let b = net.conv(&format!("{stage}.b"), a, outputs, outputs, 1);
        y = net.push(&format!("{stage}.sum"), Add, &[a, b]);
        width = outputs;
    }
    net.finish(y, 32)
}

#[test]
fn budgets_hold_under_every_criterion_and_allocation() {
    let model = stages();
    let before = Counters::of(&model).expect("readable");
    let of =
        |counters: &Counters| [counters.total_macs(), counters.parameters, counters.bytes, counters.memory.planned];
    for (n, budget) in ["macs=0.4", "parameters=0.5", "bytes=30kB", "peak=0.7"].into_iter().enumerate() {
        let after = Counters::of(&pruned(&model, &spec(budget)).expect(budget)).expect("readable");
        let limit = if n == 2 { 30_000.0 } else { of(&before)[n] as f64 * [0.4, 0.5, 0.0, 0.7][n] };
        let left = of(&after)[n] as f64;
        assert!(left <= limit && left > 0.75 * limit, "{budget}: {left} of {limit}");
    }
    let (mut shapes, target) = (Vec::new(), before.total_macs() as f64 * 0.5);
    for by in [Criterion::L1, Criterion::BnScale, Criterion::Fpgm, Criterion::Taylor] {
        for across in [Allocation::Uniform, Allocation::Global, Allocation::Isomorphic, Allocation::Sensitivity] {
            let smaller = pruned(&model, &PruneSpec { by, across, ..spec("0.5") }).expect("can be met");
            let left = Counters::of(&smaller).expect("readable").total_macs() as f64;
            assert!(left <= target && left > 0.7 * target, "{by:?} {across:?}: {left} of {target}");
            let numbers = smaller.weights.iter().map(|(_, w)| w.read().expect("readable"));
            shapes.push(numbers.collect::<Vec<_>>());
        }
    }
    shapes.dedup();
    assert!(shapes.len() > 8, "they choose differently");
}

#[test]
fn kept_channels_are_multiples() {
    let smaller = pruned(&stages(), &PruneSpec { multiple: 8, ..spec("channels=0.6") }).expect("can be met");
    for (_, weight) in smaller.weights.iter().filter(|(_, w)| w.shape.len() == 4) {
        assert_eq!(weight.shape[0] % 8, 0, "{}", weight.name);
    }
}

#[test]
fn what_cannot_be_is_an_error() {
    let model = stages();
    assert!(matches!(pruned(&model, &spec("bytes=100")), Err(PruneError::Budget { least: 101.., .. })));
    assert!(matches!(pruned(&model, &spec("macs=1.0")), Err(PruneError::Met)));
    let mut broken = model.clone();
    let data = vec![f32::NAN; 16 * 3 * 9];
    let weight = Weight::from_f32("stem.weight", Place::outer(Role::Other), vec![16, 3, 3, 3], &data).expect("f32");
    broken.weights.insert(weight);
    assert!(matches!(pruned(&broken, &spec("0.5")), Err(PruneError::NotFinite { weight }) if weight == "stem.weight"));
}

#[test]
fn a_budget_of_time_is_measured() {
    let (mut net, x) = Net::new();
    let a = net.conv("a", x, 3, 128, 1);
    let a = net.relu("a.relu", a);
    let b = net.conv("b", a, 128, 128, 1);
    let model = net.finish(b, 128);
    let made = prune::prune(&model, &spec("latency=0.6"), &context()).expect("can be met");
    let of = |name: &str| made.figures.iter().find(|(n, _)| n == name).expect("is measured").1;
    let (before, after) = (of("latency before, ms"), of("latency after, ms"));
    assert!(after <= 0.6 * before && of("predicted, ms") > 0.0, "{:?}", made.figures);
    let hopeless = prune::prune(&model, &spec("latency=10ns"), &context());
    assert!(matches!(hopeless, Err(PruneError::Budget { of: plan::Resource::Latency, least: 11.., .. })));
}

#[test]
fn masks_are_idempotent_and_name_what_goes() {
    let model = stages();
    let chosen = prune::prune(&model, &spec("0.5"), &context()).expect("can be met");
    let mut masked = model.clone();
    masked.apply(chosen.removal.mask(&model).expect("plain weights")).expect("fits");
    let mut again = masked.clone();
    again.apply(chosen.removal.mask(&masked).expect("plain weights")).expect("fits");
    let gone: std::collections::HashMap<_, _> = chosen.removal.elements(&model).into_iter().collect();
    let mut left = 0;
    for (id, weight) in model.weights.iter() {
        let numbers = [&model, &masked, &again].map(|m| m.weights.get(id).read().expect("readable"));
        assert_eq!(numbers[1], numbers[2], "{}", weight.name);
        let goes = |at: usize| gone.get(&id).is_some_and(|all| all.contains(&at));
        for (at, x) in numbers[0].iter().enumerate() {
            assert_eq!(numbers[1][at], if goes(at) { 0.0 } else { *x }, "{} at {at}", weight.name);
        }
        left += (0..numbers[0].len()).filter(|at| !goes(*at)).count();
    }
    let mut smaller = model.clone();
    chosen.take_out(&mut smaller).expect("fits");
    assert_eq!(smaller.parameters(), left, "physically smaller by what the mask holds");
    let target = plan::Amount::Count(Counters::of(&smaller).expect("readable").total_macs());
    let same = PruneSpec::to(plan::Budget { of: plan::Resource::Macs, left: target });
    assert!(matches!(pruned(&smaller, &same), Err(PruneError::Met)), "nothing more goes");
}
