//! Networks from ONNX files: what operators of every version become, what stays opaque, and what is put back.

use formats::onnx::proto::*;
use formats::onnx::{DataType, Layout};
use graph::ops::{Activation, DynamicQuant, FakeQuant, Opaque};
use graph::{Body, Dim, Graph, Grid, Levels, Op, Patch, Place, Role, Weight};
use import::Imported;
use std::path::Path;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

enum Axis {
    Fixed(i64),
    Open(&'static str),
}
use Axis::{Fixed, Open};

fn value(name: &str, dims: &[Axis]) -> ValueInfoProto {
    let value = |axis: &Axis| match axis {
        Fixed(n) => DimensionValue::Value(*n),
        Open(name) => DimensionValue::Param((*name).to_owned()),
    };
    let dim = dims.iter().map(|axis| Dimension { value: Some(value(axis)), denotation: None }).collect();
    let tensor = TensorType { elem_type: Some(1), shape: Some(TensorShapeProto { dim }) };
    let value = Some(TypeValue::Tensor(tensor));
    ValueInfoProto { name: text(name), r#type: Some(TypeProto { value, denotation: None }), ..Default::default() }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect();
    NodeProto { op_type: text(op), input: names(inputs), output: names(outputs), attribute, ..Default::default() }
}

fn tensor(name: &str, dtype: DataType, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    let (name, data_type) = (text(name), Some(dtype as i32));
    TensorProto { name, data_type, dims: dims.to_vec(), raw_data: Some(bytes.into()), ..Default::default() }
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>() as usize;
    let numbers = testkit::values(name, count, 1.0 / 64.0);
    tensor(name, DataType::Float, dims, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn ints(name: &str, list: &[i64]) -> TensorProto {
    tensor(name, DataType::Int64, &[list.len() as i64], list.iter().flat_map(|n| n.to_le_bytes()).collect())
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: text(name), i: Some(i), r#type: Some(2), ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: text(name), f: Some(f), r#type: Some(1), ..Default::default() }
}

fn list(name: &str, list: &[i64]) -> AttributeProto {
    AttributeProto { name: text(name), ints: list.to_vec(), r#type: Some(7), ..Default::default() }
}

/// `x` [n, 4, 6, 6] to `y`.
fn network(opset: i64, node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let input = vec![value("x", &[Open("n"), Fixed(4), Fixed(6), Fixed(6)])];
    let graph = GraphProto { node, initializer, input, output: vec![value("y", &[])], ..Default::default() };
    let opset_import = vec![OperatorSetIdProto { domain: text(""), version: Some(opset) }];
    ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() }
}

fn open(model: ModelProto) -> Imported {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.onnx");
    formats::onnx::write(&path, model, Layout::Inline).expect("written");
    import::open(&path).unwrap_or_else(|e| panic!("{e}"))
}

fn graph(opened: &Imported) -> &Graph {
    opened.model.graph().unwrap_or_else(|| panic!("no graph"))
}

fn only(model: ModelProto) -> Op {
    let opened = open(model);
    match graph(&opened).nodes() {
        [node] => node.op.clone(),
        nodes => panic!("{} nodes", nodes.len()),
    }
}

fn shape(opened: &Imported, name: &str) -> Vec<Dim> {
    let value = graph(opened).values().iter().find(|v| v.name == name).unwrap_or_else(|| panic!("no `{name}`"));
    value.shape.clone()
}

#[test]
fn attributes_became_inputs() {
    let clip = Op::Activation(Activation::Clip(0.0, 6.0));
    let old = node("Clip", &["x"], &["y"], vec![float("min", 0.0), float("max", 6.0)]);
    assert_eq!(only(network(7, vec![old], vec![])), clip);
    let scalar = |name, x: f32| tensor(name, DataType::Float, &[], x.to_le_bytes().to_vec());
    let new = node("Clip", &["x", "low", "high"], &["y"], vec![]);
    assert_eq!(only(network(13, vec![new], vec![scalar("low", 0.0), scalar("high", 6.0)])), clip);

    let old = node("ReduceMean", &["x"], &["y"], vec![list("axes", &[-1, 2]), int("keepdims", 0)]);
    let new = node("ReduceMean", &["x", "axes"], &["y"], vec![int("keepdims", 0)]);
    assert_eq!(only(network(13, vec![old], vec![])), only(network(18, vec![new], vec![ints("axes", &[2, 3])])));
    let old = node("Split", &["x"], &["y", "z"], vec![int("axis", 1), list("split", &[1, 3])]);
    let new = node("Split", &["x", "sizes"], &["y", "z"], vec![int("axis", 1)]);
    assert_eq!(only(network(11, vec![old], vec![])), only(network(13, vec![new], vec![ints("sizes", &[1, 3])])));
    let old = node("Pad", &["x"], &["y"], vec![list("pads", &[0, 0, 1, 1, 0, 0, 2, 2])]);
    let new = node("Pad", &["x", "pads", "", "axes"], &["y"], vec![]);
    let tensors = vec![ints("pads", &[1, 1, 2, 2]), ints("axes", &[2, 3])];
    assert_eq!(only(network(9, vec![old], vec![])), only(network(18, vec![new], tensors)));
    let old = node("Slice", &["x"], &["y"], vec![list("starts", &[0]), list("ends", &[-1]), list("axes", &[3])]);
    let new = node("Slice", &["x", "s", "e", "a"], &["y"], vec![]);
    let tensors = vec![ints("s", &[0]), ints("e", &[5]), ints("a", &[-1])];
    assert_eq!(only(network(9, vec![old], vec![])), only(network(13, vec![new], tensors)));
}

#[test]
fn shape_arithmetic_is_folded() {
    let nodes = vec![
        node("Shape", &["x"], &["s"], vec![]),
        node("Gather", &["s", "zero"], &["n"], vec![]),
        node("Gather", &["s", "one"], &["c"], vec![]),
        node("Div", &["c", "two"], &["half"], vec![]),
        node("Concat", &["n", "two", "half", "rest"], &["target"], vec![int("axis", 0)]),
        node("Reshape", &["x", "target"], &["r"], vec![]),
        node("Transpose", &["r"], &["t"], vec![list("perm", &[0, 2, 1, 3])]),
        node("Reshape", &["t", "same"], &["y"], vec![]),
    ];
    let tensors = vec![
        ints("zero", &[0]),
        ints("one", &[1]),
        ints("two", &[2]),
        ints("rest", &[-1]),
        ints("same", &[0, -1, 6, 6]),
    ];
    let opened = open(network(13, nodes, tensors));
    assert_eq!(graph(&opened).nodes().len(), 3);
    assert_eq!(shape(&opened, "r"), [Dim::Batch, Dim::Fixed(2), Dim::Fixed(2), Dim::Fixed(36)]);
    assert_eq!(shape(&opened, "y"), [Dim::Batch, Dim::Fixed(4), Dim::Fixed(6), Dim::Fixed(6)]);
}

#[test]
fn unknown_operators_are_carried_along() {
    let branch = |name: &str| GraphProto {
        node: vec![node("Neg", &["c"], &[name], vec![])],
        output: vec![value(name, &[])],
        ..Default::default()
    };
    let body =
        |name, g| AttributeProto { name: text(name), g: Some(Box::new(g)), r#type: Some(5), ..Default::default() };
    let branches = vec![body("then_branch", branch("p")), body("else_branch", branch("q"))];
    let condition = tensor("b", DataType::Bool, &[], vec![1]);
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"], vec![]),
        node("If", &["b"], &["i"], branches),
        node("Relu", &["i"], &["y"], vec![]),
    ];
    let opened = open(network(13, nodes, vec![floats("w", &[5, 4, 1, 1]), condition]));
    let [conv, carried, relu] = graph(&opened).nodes() else { panic!("three nodes") };
    assert_eq!(carried.inputs, conv.outputs, "what its bodies read is an input");
    assert!(carried.op.spec().axes(&graph(&opened).input_types(carried)).frozen.len() >= 4);
    let Op::Opaque(Opaque { name, reason, .. }) = &relu.op else { panic!("{relu:?}") };
    assert!(name == "Relu" && reason.contains("cannot look into"), "{reason}");
    assert_eq!(opened.notes.len(), 2, "{:?}", opened.notes);
}

#[test]
fn no_graph_and_why() {
    let reason = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = network(13, vec![node("Relu", &["x"], &["y"], vec![])], vec![floats("w", &[2, 2])]);
        change(&mut model);
        match open(model).model.body {
            Body::Unknown { reason } => reason,
            _ => panic!("a graph"),
        }
    };
    let input =
        |axes: Vec<Axis>| move |m: &mut ModelProto| m.graph.as_mut().expect("there").input = vec![value("x", &axes)];
    assert!(
        reason(&input(vec![Open("n"), Fixed(3), Open("height")]))
            .contains("`x`: the length of axis 2 (`height`) is open")
    );
    assert!(reason(&input(vec![Fixed(1), Fixed(0)])).contains("axis 1 has length zero"));
    assert!(reason(&|m| m.opset_import[0].version = Some(6)).contains("version 6, older than 7"));
}

#[test]
fn odd_nodes_stay_opaque() {
    let why = |node: NodeProto, tensors| match only(network(13, vec![node], tensors)) {
        Op::Opaque(op) => op.reason,
        op => panic!("{op:?}"),
    };
    let conv = |shape: &[i64]| (node("Conv", &["x", "w"], &["y"], vec![]), vec![floats("w", shape)]);
    let (node_, tensors) = conv(&[5, 3, 1, 1]);
    assert!(why(node_, tensors).contains("has shape [5, 3, 1, 1], expected [5, 4, 1, 1]"));
    let (node_, tensors) = conv(&[5, 4, 9, 9]);
    assert!(why(node_, tensors).contains("do not fit"));
    let zero = node("Conv", &["x", "w"], &["y"], vec![list("strides", &[0, 1])]);
    assert!(why(zero, vec![floats("w", &[5, 4, 1, 1])]).contains("is zero"));
    let reshape = node("Reshape", &["x", "s"], &["y"], vec![]);
    assert!(why(reshape, vec![ints("s", &[12, -1])]).contains("batch"));
    let foreign = NodeProto { domain: text("com.example"), ..node("Relu", &["x"], &["y"], vec![]) };
    assert!(why(foreign, vec![]).contains("not known"));
}

/// Conv, batch norm, Relu, and a product with an `[in, out]` matrix.
fn small() -> ModelProto {
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"], vec![]),
        node("BatchNormalization", &["c", "g", "b", "m", "v"], &["n"], vec![]),
        node("Relu", &["n"], &["r"], vec![]),
        node("GlobalAveragePool", &["r"], &["p"], vec![]),
        node("Flatten", &["p"], &["f"], vec![]),
        node("MatMul", &["f", "head"], &["y"], vec![]),
    ];
    let vectors = ["g", "b", "m", "v"].map(|name| floats(name, &[5]));
    let tensors = [vec![floats("w", &[5, 4, 1, 1]), floats("head", &[5, 3])], vectors.to_vec()].concat();
    network(13, nodes, tensors)
}

fn rewritten(opened: &Imported) -> Imported {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("again.onnx");
    let network = opened.network.as_deref().expect("from ONNX");
    export::onnx::write(&opened.model, network, &path).unwrap_or_else(|e| panic!("{e}"));
    import::open(&path).unwrap_or_else(|e| panic!("{e}"))
}

/// The outputs of a network of three classes on five samples.
fn outputs(opened: &Imported) -> Vec<f32> {
    let x = exec::Tensor::new(vec![5, 4, 6, 6], testkit::values("x", 720, 1.0 / 64.0)).expect("fits");
    let mut executor =
        exec::Executor::<f32>::new(graph(opened), &opened.model.weights, exec::Options::default()).expect("runs");
    executor.run(vec![x.into()]).expect("runs")[0].float().expect("numbers").data().to_vec()
}

#[test]
fn products_of_integers_come_back() {
    let mut opened = open(small());
    let before = outputs(&opened);
    let model = &mut opened.model;
    let mut patch = Patch::default();
    for (name, node) in [("w", "Conv"), ("head", "Linear")] {
        let id = model.weights.find(name).expect("a weight");
        let weight = model.weights.get(id);
        let codes = testkit::values(name, weight.elements(), 1.0);
        let numbers: Vec<f32> = codes.iter().map(|x| (x * 0.25).round().clamp(-127.0, 127.0) * 0.01).collect();
        let made = Weight::from_f32(name, weight.place, weight.shape.clone(), &numbers).expect("fits");
        let rows = weight.shape[0];
        let grid = Grid { scale: vec![0.01; rows], zero: vec![0; rows], axis: Some(0), levels: Levels::I8 };
        let graph = model.graph().expect("a graph");
        let at = graph.nodes().iter().find(|n| n.op.name() == node).expect("a product");
        patch = patch.encode(model, id, made.encoding, made.source).grid(id, grid).insert(
            at.inputs[0],
            &format!("{name}_in_run"),
            DynamicQuant,
            Some(&[&at.name]),
        );
    }
    model.apply(patch).expect("applies");
    let made = outputs(&opened);
    assert!(testkit::max_abs_difference(&made, &before).0 > 0.0);
    let again = rewritten(&opened);
    let proto = again.network.as_deref().expect("from ONNX").file.graph().clone();
    let count = |op: &str| proto.node.iter().filter(|n| n.op_type.as_deref() == Some(op)).count();
    assert_eq!(["DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "Conv", "MatMul"].map(count), [2, 1, 1, 0, 0]);
    assert!(
        testkit::max_abs_difference(&outputs(&again), &made).0 < 1e-5 * made.iter().fold(0.0f32, |m, x| m.max(x.abs()))
    );
    // A scale that goes anywhere else is looked into by nobody.
    let mut shown = proto;
    let scale = shown.node.iter().find(|n| n.op_type.as_deref() == Some("DynamicQuantizeLinear")).expect("there");
    shown.output.push(value(&scale.output[1].clone(), &[]));
    let model = ModelProto { graph: Some(shown), ..small() };
    assert!(
        graph(&open(model))
            .nodes()
            .iter()
            .any(|n| matches!(&n.op, Op::Opaque(op) if op.reason.contains("read by more")))
    );
}

#[test]
fn mostly_zeros_are_stored_sparse() {
    let conv = || network(13, vec![node("Conv", &["x", "w"], &["y"], vec![])], vec![floats("w", &[16, 4, 3, 3])]);
    let mut opened = open(conv());
    let model = &mut opened.model;
    let id = model.weights.find("w").expect("a weight");
    let weight = model.weights.get(id).clone();
    let numbers = weight.read().expect("reads");
    let kept: Vec<f32> = numbers.iter().enumerate().map(|(i, x)| if i % 9 == 4 { *x } else { 0.0 }).collect();
    let made = Weight::from_f32("w", weight.place, weight.shape.clone(), &kept).expect("fits");
    model.apply(Patch::default().encode(model, id, made.encoding, made.source)).expect("applies");
    let again = rewritten(&opened);
    let proto = again.network.as_deref().expect("from ONNX").file.graph().clone();
    let ([], [sparse]) = (&proto.initializer[..], &proto.sparse_initializer[..]) else { panic!("{proto:?}") };
    let held = kept.iter().filter(|x| **x != 0.0).count() as i64;
    assert_eq!((&sparse.dims[..], sparse.values.as_ref().map(|v| v.dims[0])), (&[16, 4, 3, 3][..], Some(held)));
    let read = |opened: &Imported| {
        let id = opened.model.weights.find("w").expect("a weight");
        opened.model.weights.get(id).read().expect("reads")
    };
    assert_eq!(read(&again), kept);
    // Written again it stays as it is; whole again it is no longer sparse.
    assert_eq!(rewritten(&again).network.as_deref().expect("from ONNX").file.graph(), &proto);
    let mut whole = again;
    let id = whole.model.weights.find("w").expect("a weight");
    let patch = Patch::default().encode(&whole.model, id, weight.encoding, weight.source.clone());
    whole.model.apply(patch).expect("applies");
    let whole = rewritten(&whole);
    assert_eq!(read(&whole), numbers);
    assert!(whole.network.as_deref().expect("from ONNX").file.graph().sparse_initializer.is_empty());
    // Indices by axis; and indices beyond the end, behind which nothing is looked into.
    let with = |dims: &[i64], indices: &[i64]| {
        let (mut graph, mut sparse) = (proto.clone(), proto.sparse_initializer[0].clone());
        sparse.values = Some(tensor("w", DataType::Float, &[1], 2f32.to_le_bytes().to_vec()));
        let bytes = indices.iter().flat_map(|n| n.to_le_bytes()).collect();
        sparse.indices = Some(tensor("", DataType::Int64, dims, bytes));
        graph.sparse_initializer = vec![sparse];
        open(ModelProto { graph: Some(graph), ..conv() })
    };
    assert_eq!(read(&with(&[1, 4], &[1, 0, 0, 2])).iter().position(|x| *x == 2.0), Some(36 + 2));
    for (dims, indices) in [(&[1][..], &[576][..]), (&[1], &[-1]), (&[1, 4], &[0, 4, 0, 0]), (&[2], &[1, 2])] {
        assert!(matches!(graph(&with(dims, indices)).nodes()[0].op, Op::Opaque(_)), "{indices:?}");
    }
}

#[test]
fn nothing_done_changes_nothing() {
    let opened = open(small());
    let again = rewritten(&opened);
    let protos = [&opened, &again].map(|o| o.network.as_deref().expect("from ONNX").file.graph().clone());
    assert_eq!(protos[0], protos[1]);
}

#[test]
fn edits_are_put_back() {
    let mut opened = open(small());
    let model = &mut opened.model;
    let head = model.weights.find("head").expect("a weight");
    assert_eq!(model.weights.get(head).shape, [3, 5], "[out, in]");
    let scale = Weight::from_f32("act_scale", Place::outer(Role::Other), vec![], &[0.5]).expect("fits");
    let relu = graph(&open(small())).values().iter().position(|v| v.name == "r").map(graph::ValueId).expect("there");
    let codes: Vec<f32> = (0..15).map(|i| (i as f32 - 7.0) * 0.25).collect();
    let weight = Weight::from_f32("head", Place::outer(Role::Other), vec![3, 5], &codes).expect("fits");
    let grid = Grid { scale: vec![0.25; 3], zero: vec![0; 3], axis: Some(0), levels: Levels::I8 };
    let mut patch = Patch::default();
    let scale = patch.add(model, scale);
    let quantize = FakeQuant { scale, zero: vec![3], axis: None, levels: Levels::U8 };
    let bn = graph_node(model, "BatchNorm");
    let patch = patch
        .bypass(&bn)
        .insert(relu, "quantized", quantize.clone(), None)
        .encode(model, head, weight.encoding, weight.source.clone())
        .grid(head, grid.clone());
    model.apply(patch).expect("applies");

    let again = rewritten(&opened);
    let names: Vec<_> = graph(&again).nodes().iter().map(|n| n.op.name()).collect();
    assert_eq!(names, ["Conv", "Activation", "FakeQuant", "Reduce", "Reshape", "Linear"]);
    assert!(graph(&again).values().iter().any(|v| v.name == "n"), "the convolution now makes what the norm made");
    let Op::FakeQuant(read) = &graph(&again).nodes()[2].op else { panic!("{names:?}") };
    assert_eq!((&read.zero, read.levels), (&quantize.zero, quantize.levels));
    let head = again.model.weights.find("head").expect("a weight");
    assert_eq!(again.model.weights.get(head).read().expect("reads"), codes);
    assert_eq!(again.model.weights.grid(head).map(|g| (**g).clone()), Some(grid));
    let stored = again.network.as_deref().expect("from ONNX").file.graph();
    assert!(
        stored.initializer.iter().all(|t| !["g", "b", "m", "v", "head"].contains(&t.label())),
        "what nothing reads is gone"
    );
}

#[test]
fn codes_lift_older_operators() {
    let nodes = |clip: &str| {
        vec![
            node("Conv", &["x", "w"], &["c"], vec![]),
            node(clip, &["c"], &["k"], vec![float("min", 0.0), float("max", 6.0)]),
            node("ReduceSum", &["k"], &["y"], vec![list("axes", &[2, 3])]),
        ]
    };
    let on_codes = |clip: &str| {
        let mut opened = open(network(9, nodes(clip), vec![floats("w", &[2, 4, 3, 3])]));
        let weight = opened.model.weights.find("w").expect("is there");
        // The numbers are multiples of 1/64.
        let grid = Grid { scale: vec![1.0 / 64.0; 2], zero: vec![0; 2], axis: Some(0), levels: Levels::I8 };
        opened.model.weights.set_grid(weight, grid);
        opened
    };
    let opened = on_codes("Clip");
    let again = rewritten(&opened);
    assert_eq!(again.network.as_ref().and_then(|n| n.file.opset("")), Some(13));
    let ops = |opened: &Imported| graph(opened).nodes().iter().map(|n| n.op.clone()).collect::<Vec<_>>();
    assert_eq!(ops(&again), ops(&opened));
    let [id, old] = [&again, &opened].map(|o| o.model.weights.find("w").expect("is there"));
    assert_eq!(again.model.weights.grid(id), opened.model.weights.grid(old));
    let (new, old) = (again.model.weights.get(id).read(), opened.model.weights.get(old).read());
    assert_eq!(new.expect("reads"), old.expect("reads"));

    let opened = on_codes("Mystery");
    let folder = tempfile::tempdir().expect("a folder");
    let network = opened.network.as_deref().expect("a network");
    let error = export::onnx::write(&opened.model, network, &folder.path().join("net.onnx")).expect_err("is refused");
    assert!(error.to_string().contains("Mystery") && error.to_string().contains("13"), "{error}");
}

fn graph_node(model: &graph::Model, op: &str) -> String {
    let nodes = model.graph().expect("a graph").nodes();
    nodes.iter().find(|n| n.op.name() == op).map(|n| n.name.clone()).expect("there")
}

#[test]
fn real_networks_have_no_opaque_nodes() {
    let Some(data) = testkit::data_dir() else { return };
    let nets = [
        "resnet_cifar10/resnet20",
        "resnet_cifar10/resnet56",
        "mlperf_tiny/resnet8_cifar10",
        "mlperf_tiny/dscnn_kws",
        "mlperf_tiny/mobilenetv1_025_vww96",
        "mlperf_tiny/ad_autoencoder",
        "mnist_cnn_burn/mnist",
        "squeezenet/squeezenet1_1_fp32",
        "onnx_small/FastestDet",
        "onnx_small/ultraface_rfb_320",
    ];
    for net in nets {
        let opened = import::open(&data.join(Path::new(net).with_extension("onnx"))).unwrap_or_else(|e| panic!("{e}"));
        assert!(opened.notes.is_empty(), "{net}: {:?}", opened.notes);
    }
}
