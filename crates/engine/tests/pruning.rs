//! Promise: a pruned network is a smaller file that opens, computes what the pruned network computed and keeps its outputs; a
//! pruned decoder loads as a folder and as GGUF; what cannot be done leaves nothing behind.

mod common;

use engine::{EngineError, Options, Quiet};
use formats::onnx::proto::*;
use formats::onnx::{DataType, Layout};
use graph::Op;
use passes::prune::Freedom;
use plan::{Budget, Container, Goal, PruneSpec, Recipe, Step};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let value = |n: &i64| match n {
        0 => DimensionValue::Param("n".into()),
        n => DimensionValue::Value(*n),
    };
    let dim = dims.iter().map(|n| Dimension { value: Some(value(n)), denotation: None }).collect();
    let tensor = TensorType { elem_type: Some(1), shape: Some(TensorShapeProto { dim }) };
    let value = Some(TypeValue::Tensor(tensor));
    ValueInfoProto { name: text(name), r#type: Some(TypeProto { value, denotation: None }), ..Default::default() }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let input = inputs.iter().map(|n| (*n).to_owned()).collect();
    NodeProto {
        name: text(output),
        op_type: text(op),
        input,
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

fn list(name: &str, list: &[i64]) -> AttributeProto {
    AttributeProto { name: text(name), ints: list.to_vec(), r#type: Some(7), ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: text(name), i: Some(i), r#type: Some(2), ..Default::default() }
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let numbers = testkit::values(name, dims.iter().product::<i64>() as usize, 1.0 / 256.0);
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (name, data_type) = (text(name), Some(DataType::Float as i32));
    TensorProto { name, data_type, dims: dims.to_vec(), raw_data: Some(bytes.into()), ..Default::default() }
}

fn ints(name: &str, list: &[i64]) -> TensorProto {
    let bytes: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
    let (name, data_type, dims) = (text(name), Some(DataType::Int64 as i32), vec![list.len() as i64]);
    TensorProto { name, data_type, dims, raw_data: Some(bytes.into()), ..Default::default() }
}

/// Two convolutions whose sum is cut in halves, as exporters write it: half of what `Shape` says. One half goes through a third.
fn halves(extra: Vec<NodeProto>, output: &str) -> ModelProto {
    let conv = |inputs: &[&str], output: &str| node("Conv", inputs, output, vec![list("pads", &[1, 1, 1, 1])]);
    let mut nodes = vec![
        conv(&["x", "a.weight", "zeros"], "a"),
        conv(&["a", "b.weight", "zeros"], "b"),
        node("Add", &["a", "b"], "sum", vec![]),
        node("Relu", &["sum"], "relu", vec![]),
        node("Shape", &["relu"], "shape", vec![]),
        node("Gather", &["shape", "one"], "channels", vec![int("axis", 0)]),
        node("Div", &["channels", "two"], "half", vec![]),
        node("Slice", &["relu", "zero", "half", "one"], "left", vec![]),
        node("Slice", &["relu", "half", "channels", "one"], "right", vec![]),
        conv(&["right", "c.weight", "six"], "c"),
        node("Concat", &["left", "c"], "both", vec![int("axis", 1)]),
        node("GlobalAveragePool", &["both"], "mean", vec![]),
        node("Flatten", &["mean"], "flat", vec![int("axis", 1)]),
        node("Gemm", &["flat", "head.weight"], "classes", vec![int("transB", 1)]),
    ];
    nodes.extend(extra);
    let mut initializer = vec![ints("zero", &[0]), ints("one", &[1]), ints("two", &[2])];
    for (name, dims) in [
        ("a.weight", &[16, 3, 3, 3][..]),
        ("b.weight", &[16, 16, 3, 3]),
        ("c.weight", &[6, 8, 3, 3]),
        ("zeros", &[16]),
        ("six", &[6]),
        ("head.weight", &[10, 14]),
    ] {
        initializer.push(floats(name, dims));
    }
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![value("x", &[0, 3, 12, 12])],
        output: vec![value(output, &[])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: text(""), version: Some(13) }];
    ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() }
}

fn written(folder: &TempDir, model: ModelProto) -> PathBuf {
    let path = folder.path().join("net.onnx");
    formats::onnx::write(&path, model, Layout::Inline).expect("written");
    path
}

fn recipe(specs: &[PruneSpec]) -> Recipe {
    Recipe { steps: specs.iter().cloned().map(Step::Prune).collect(), ..Recipe::new(Goal::Keep) }
}

fn to(budget: &str) -> PruneSpec {
    PruneSpec::to(budget.parse::<Budget>().expect("a budget"))
}

fn compress(path: &Path, recipe: &Recipe, out: &Path) -> Result<engine::Outcome, EngineError> {
    let (imported, options) = (import::open(path)?, Options::default());
    let plan = engine::plan(&imported, recipe, &options)?;
    engine::compress(&imported, &plan, out, &options, &Quiet)
}

#[test]
fn a_network_becomes_a_smaller_file() {
    let folder = TempDir::new().expect("a folder");
    let (path, out) = (written(&folder, halves(vec![], "classes")), folder.path().join("out.onnx"));
    let done = compress(&path, &recipe(&[to("0.6"), to("channels=0.5")]), &out).unwrap_or_else(|e| panic!("{e}"));
    let network = done.journal.network.expect("it is one");
    assert_eq!(network.steps.len(), 2);
    assert!(network.steps[0].after.total_macs() as f64 <= 0.6 * network.before.total_macs() as f64);
    assert_eq!(network.steps[1].after, network.after, "the file is what the steps left");
    let difference = network.difference.expect("it runs");
    assert!(difference.written <= 1e-5 && difference.outputs[0].relative > 0.0);
    let reopened = import::open(&out).expect("opens");
    let graph = reopened.model.graph().expect("a graph");
    assert!(!graph.nodes().iter().any(|n| matches!(n.op, Op::Opaque(_))), "slices were computed from other lengths");
    assert!(done.journal.proof.bytes < std::fs::metadata(&path).expect("there").len());
    // The same again gives the same bytes, and an output that is there stays.
    let again = folder.path().join("again.onnx");
    compress(&path, &recipe(&[to("0.6"), to("channels=0.5")]), &again).expect("again");
    assert_eq!(std::fs::read(&out).expect("there"), std::fs::read(&again).expect("there"));
    assert!(compress(&path, &recipe(&[to("0.5")]), &out).is_err());
}

#[test]
fn unknown_operators_are_pruned_around() {
    let folder = TempDir::new().expect("a folder");
    let odd = vec![NodeProto { domain: text("odd"), ..node("Odd", &["classes"], "y", vec![]) }];
    let (path, out) = (written(&folder, halves(odd, "y")), folder.path().join("out.onnx"));
    let done = compress(&path, &recipe(&[to("channels=0.5")]), &out).unwrap_or_else(|e| panic!("{e}"));
    let network = done.journal.network.expect("it is one");
    assert!(network.difference.is_none() && network.after.parameters < network.before.parameters);
    assert!(done.journal.notes.iter().any(|n| n.what.contains("`y` (Opaque)")), "{:?}", done.journal.notes);
}

/// The body of a loop reads what stands outside of it: that stays, the rest goes, and the body is what it was.
#[test]
fn bodies_are_pruned_around() {
    let truth = |name: &str| TensorProto {
        raw_data: Some(vec![1].into()),
        ..TensorProto { name: text(name), data_type: Some(DataType::Bool as i32), ..Default::default() }
    };
    let body = GraphProto {
        node: vec![
            node("ReduceMean", &["flat"], "shift", vec![]),
            node("Add", &["state", "shift"], "next", vec![]),
            node("Identity", &["go"], "on", vec![]),
        ],
        input: ["turn", "go", "state"].map(|name| value(name, &[])).to_vec(),
        output: ["on", "next"].map(|name| value(name, &[])).to_vec(),
        ..Default::default()
    };
    let body = AttributeProto { name: text("body"), g: Some(Box::new(body)), r#type: Some(5), ..Default::default() };
    let mut net = halves(vec![node("Loop", &["turns", "true", "classes"], "y", vec![body.clone()])], "y");
    let graph = net.graph.as_mut().expect("a graph");
    graph.initializer.extend([ints("turns", &[2]), truth("true")]);
    let folder = TempDir::new().expect("a folder");
    let (path, out) = (written(&folder, net), folder.path().join("out.onnx"));
    let done = compress(&path, &recipe(&[to("channels=0.5")]), &out).unwrap_or_else(|e| panic!("{e}"));
    let network = done.journal.network.expect("it is one");
    assert!(network.after.parameters < network.before.parameters);
    assert!(
        done.journal.notes.iter().any(|n| n.what.contains("Loop") || n.what.contains("`y`")),
        "{:?}",
        done.journal.notes
    );
    let kept = formats::onnx::Onnx::open(&out).expect("opens");
    let of_loop = kept.graph().node.iter().find(|n| n.op_type.as_deref() == Some("Loop")).expect("it stays");
    assert_eq!(of_loop.attribute, [body], "as it was");
    let shape =
        |name: &str| kept.graph().initializer.iter().find(|t| t.name.as_deref() == Some(name)).map(|t| t.dims.clone());
    assert_eq!(shape("head.weight"), Some(vec![10, 14]), "what the body reads keeps its channels");
}

#[test]
fn what_cannot_be_leaves_nothing() {
    let folder = TempDir::new().expect("a folder");
    let (path, out) = (written(&folder, halves(vec![], "classes")), folder.path().join("out.onnx"));
    for budget in ["bytes=10", "macs=1.0"] {
        assert!(compress(&path, &recipe(&[to(budget)]), &out).is_err(), "{budget}");
    }
    assert!(compress(&path, &Recipe::new(Goal::Keep), &out).is_err(), "nothing asked for");
    assert!(compress(&path, &recipe(&[to("0.5")]), &path).is_err(), "its own source");
    let unnamed = compress(&path, &recipe(&[to("0.5")]), &folder.path().join("out")).expect_err("no .onnx");
    assert!(unnamed.to_string().contains(".onnx"), "{unnamed}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1, "the source alone");
}

#[test]
fn a_decoder_loses_heads_and_channels() {
    let folder = TempDir::new().expect("a folder");
    let source = folder.path().join("source");
    common::write_model(&source);
    for (container, name) in [(Container::Safetensors, "folder"), (Container::Gguf, "model.gguf")] {
        let mut recipe = recipe(&[to("channels=0.5")]);
        recipe.output.format = Some(container);
        let out = folder.path().join(name);
        let done = compress(&source, &recipe, &out).unwrap_or_else(|e| panic!("{e}"));
        let pruned = import::open(&out).expect("opens");
        let config = pruned.model.decoder().expect("a decoder");
        assert_eq!((config.heads, config.kv_heads, config.ffn, config.head_dim), (2, 1, 48, 16));
        let network = done.journal.network.expect("counted");
        assert!(network.after.parameters < network.before.parameters * 8 / 10);
    }
    let global = PruneSpec { across: plan::Allocation::Global, ..to("channels=0.7") };
    let error = compress(&source, &recipe(&[global]), &folder.path().join("uneven")).expect_err("uneven layers");
    assert!(error.to_string().contains("uniform"), "{error}");
}

/// The ten networks that `bench/onnx/export_torchvision.py` writes, where they are at hand: groups cover every layer but the last,
/// and the two on which other tools fail compute what they should.
#[test]
fn ten_networks() {
    let Some(folder) = testkit::networks_dir() else { return };
    let files = std::fs::read_dir(&folder).expect("there");
    let out = TempDir::new().expect("a folder");
    for path in files.filter_map(|f| Some(f.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let name = path.file_stem().expect("named").to_string_lossy().into_owned();
        let imported = import::open(&path).expect("opens");
        let found = passes::prune::groups::find(&imported.model, Freedom::default());
        assert!(found.frozen.iter().all(|f| f.why.contains("output of the network")), "{name}: {:?}", found.frozen);
        let gone = found.groups.iter().flat_map(|g| g.channels.iter().take(g.channels.len() / 2));
        let mut smaller = imported.model.clone();
        let patch = passes::prune::Removal::of(gone).patch(&imported.model).expect("plain");
        smaller.apply(patch).unwrap_or_else(|e| panic!("{name}: {e}"));
        if ["squeezenet1_1", "shufflenet_v2_x1_0"].contains(&&*name) {
            compress(&path, &recipe(&[to("channels=0.5")]), &out.path().join(format!("{name}.onnx")))
                .unwrap_or_else(|e| panic!("{e}"));
        }
    }
}
