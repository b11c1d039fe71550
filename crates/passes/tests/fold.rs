//! Promise: folded networks compute the same, whatever stands before the norm; norms that cannot go say why.

use exec::{Data, Executor, Options, Tensor};
use graph::ops::{Activation, Add, BatchNorm, Conv, ConvTranspose, Linear, Reshape, Span};
use graph::{Body, Dim, Graph, Kind, Model, Op, Place, Role, ValueId, Weight, WeightId, WeightStore};
use passes::transform::fold::fold;

struct Net {
    graph: Graph,
    weights: WeightStore,
}

impl Net {
    fn weight(&mut self, name: &str, shape: &[usize], center: f32) -> WeightId {
        let mut data = testkit::values(name, shape.iter().product(), 1.0 / 256.0);
        data.iter_mut().for_each(|x| *x += center);
        let weight = Weight::from_f32(name, Place::outer(Role::Other), shape.to_vec(), &data);
        self.weights.insert(weight.expect("f32 holds any number"))
    }

    fn push(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.push1(name, op, inputs, &self.weights).expect("fits")
    }

    fn norm(&mut self, name: &str, channels: usize, x: ValueId) -> ValueId {
        let [scale, bias, mean] =
            ["scale", "bias", "mean"].map(|p| self.weight(&format!("{name}.{p}"), &[channels], 0.75));
        let var = self.weight(&format!("{name}.var"), &[channels], 1.5);
        self.push(name, BatchNorm { scale, bias, mean, var, eps: 1e-5, momentum: 0.9 }, &[x])
    }
}

const SPAN: Span = Span { size: 3, stride: 1, dilation: 1, pad: [1, 1] };

/// Convolutions (one matrix read twice, grouped, transposed in groups) and a linear layer, each with a norm behind;
/// a norm behind an activation; one whose input is read elsewhere.
fn network() -> Model {
    let mut graph = Graph::default();
    let x = graph.input("x", Kind::Float, vec![Dim::Batch, Dim::Fixed(4), Dim::Fixed(5), Dim::Fixed(6)]);
    let mut net = Net { graph, weights: WeightStore::default() };
    let weight = net.weight("shared", &[4, 4, 3, 3], 0.0);
    let conv = Conv { weight, bias: None, outputs: 4, window: vec![SPAN; 2], groups: 1 };
    let a = net.push("a", conv.clone(), &[x]);
    let a = net.norm("a norm", 4, a);
    let b = net.push("b", conv.clone(), &[a]);
    let b = net.norm("b norm", 4, b);
    let relu = net.push("relu", Activation::Relu, &[b]);
    let c = net.norm("behind relu", 4, relu);
    let (weight, bias) = (net.weight("grouped", &[8, 2, 3, 3], 0.0), Some(net.weight("grouped.bias", &[8], 0.5)));
    let d = net.push("d", Conv { weight, bias, outputs: 8, groups: 2, ..conv }, &[c]);
    let d = net.norm("d norm", 8, d);
    let weight = net.weight("transposed", &[8, 3, 3, 3], 0.0);
    let op = ConvTranspose { weight, bias: None, outputs: 6, window: vec![SPAN; 2], extra: vec![0; 2], groups: 2 };
    let e = net.push("e", op.clone(), &[d]);
    let normed = net.norm("e norm", 6, e);
    let f = net.norm("e again", 6, e);
    let f = net.push("sum", Add, &[normed, f]);
    let weight = net.weight("up", &[6, 1, 3, 3], 0.0);
    let f = net.push("f", ConvTranspose { weight, outputs: 2, ..op }, &[f]);
    let f = net.norm("f norm", 2, f);
    let f = net.push("flat", Reshape { shape: vec![Dim::Batch, Dim::Fixed(60)] }, &[f]);
    let weight = net.weight("head", &[7, 60], 0.0);
    let y = net.push("y", Linear { weight, bias: None }, &[f]);
    let y = net.norm("y norm", 7, y);
    net.graph.output(y);
    Model { body: Body::Network { graph: net.graph }, weights: net.weights }
}

fn run(model: &Model) -> Vec<f32> {
    let graph = model.graph().expect("a network");
    let mut executor = Executor::<f32>::new(graph, &model.weights, Options::default()).expect("runs");
    let x = Tensor::new(vec![3, 4, 5, 6], testkit::values("x", 360, 1.0 / 64.0)).expect("fits");
    let made = executor.run(vec![Data::from(x)]).expect("runs");
    made[0].float().expect("numbers").data().to_vec()
}

#[test]
fn folded_networks_compute_the_same() {
    let mut model = network();
    let before = run(&model);
    let folded = fold(&model).expect("readable");
    let into: Vec<&str> = folded.into.iter().map(|(norm, _)| norm.as_str()).collect();
    assert_eq!(into, ["a norm", "b norm", "d norm", "f norm", "y norm"]);
    let stay: Vec<&str> = folded.stay.iter().map(|(norm, _)| norm.as_str()).collect();
    assert_eq!(stay, ["behind relu", "e norm", "e again"]);
    assert!(folded.stay[0].1.contains("no convolution") && folded.stay[1].1.contains("something else"));
    model.apply(folded.patch).expect("sound");
    let norms = model.graph().expect("a network").nodes().iter().filter(|n| matches!(n.op, Op::BatchNorm(_))).count();
    assert_eq!(norms, 3);
    let largest = before.iter().fold(0f32, |m, x| m.max(x.abs()));
    testkit::assert_close(&run(&model), &before, 1e-5 * largest);
}
