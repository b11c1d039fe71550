//! ONNX files: what is read is written back field for field, and hostile ones are errors that name what is wrong.

use formats::onnx::proto::*;
use formats::onnx::{Bytes, DataType, Layout, Location, Onnx, Problem, parse, write};
use prost::Message;
use std::fs;
use std::path::Path;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |n: &i64| Dimension { value: Some(DimensionValue::Value(*n)), denotation: None };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let value = Some(TypeValue::Tensor(TensorType { elem_type: Some(1), shape }));
    ValueInfoProto {
        name: text(name),
        r#type: Some(TypeProto { value, denotation: text("IMAGE") }),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect();
    NodeProto { op_type: text(op), input: names(inputs), output: names(outputs), ..Default::default() }
}

fn floats(name: &str, numbers: &[f32]) -> TensorProto {
    let raw = numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    let (dims, raw_data) = (vec![numbers.len() as i64], Some(raw.into()));
    TensorProto { name: text(name), data_type: Some(DataType::Float as i32), dims, raw_data, ..Default::default() }
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: text(key), value: text(value) }
}

/// `y = x + w` twice over.
fn model() -> ModelProto {
    let graph = GraphProto {
        node: vec![node("Add", &["x", "w"], &["a"]), node("Add", &["a", "w"], &["y"])],
        initializer: vec![floats("w", &[1.0, 2.0])],
        input: vec![value("x", &[2])],
        output: vec![value("y", &[2])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: text(""), version: Some(17) }];
    ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() }
}

fn problem(model: &ModelProto) -> String {
    parse(model.encode_to_vec().into()).map(drop).expect_err("it is broken").to_string()
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("there is one")
}

#[test]
fn everything_survives() {
    let mut whole = model();
    whole.metadata_props = vec![entry("author", "someone")];
    whole.configuration = vec![DeviceConfigurationProto { name: text("two"), num_devices: Some(2), device: vec![] }];
    whole.training_info = vec![TrainingInfoProto { algorithm: Some(GraphProto::default()), ..Default::default() }];
    whole.functions =
        vec![FunctionProto { name: text("f"), node: vec![node("Neg", &["p"], &["q"])], ..Default::default() }];
    let spec = ShardingSpecProto { tensor_name: text("w"), device: vec![0, 1], ..Default::default() };
    let body = AttributeProto { name: text("body"), r#type: Some(5), g: Some(Box::default()), ..Default::default() };
    let first = &mut graph(&mut whole).node[0];
    first.device_configurations =
        vec![NodeDeviceConfigurationProto { sharding_spec: vec![spec], ..Default::default() }];
    first.attribute = vec![body, AttributeProto { ints: vec![1, -1], floats: vec![0.5], ..Default::default() }];
    first.metadata_props = vec![entry("stage", "1")];
    let sparse = SparseTensorProto { values: Some(floats("s", &[3.0])), dims: vec![9], ..Default::default() };
    graph(&mut whole).sparse_initializer = vec![sparse];
    graph(&mut whole).quantization_annotation = vec![TensorAnnotation { tensor_name: text("w"), ..Default::default() }];

    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (folder.path().join("one.onnx"), folder.path().join("two.onnx"));
    fs::write(&one, whole.encode_to_vec()).expect("written");
    let opened = Onnx::open(&one).expect("opens");
    let again = opened.with_graph(opened.graph().clone()).expect("whole");
    assert_eq!(again, whole);
    assert_eq!(write(&two, again, opened.layout()).expect("written"), std::slice::from_ref(&two));
    assert_eq!(fs::read(&two).expect("read"), fs::read(&one).expect("read"));
    assert!(write(&two, whole, Layout::Inline).is_err(), "nothing is overwritten");
}

#[test]
fn numbers_of_every_field() {
    let of = |tensor: TensorProto| tensor.inline_bytes().expect("bytes").to_vec();
    let base = |dtype: DataType, n| TensorProto { data_type: Some(dtype as i32), dims: vec![n], ..Default::default() };
    assert_eq!(of(TensorProto { int32_data: vec![-1, 2], ..base(DataType::Int8, 2) }), [255, 2]);
    assert_eq!(of(TensorProto { int32_data: vec![0x3c00], ..base(DataType::Float16, 1) }), [0, 0x3c]);
    assert_eq!(of(TensorProto { int32_data: vec![0x21, 3], ..base(DataType::Int4, 3) }), [0x21, 3]);
    assert_eq!(of(TensorProto { int64_data: vec![-2], ..base(DataType::Int64, 1) }), (-2i64).to_le_bytes());
    assert_eq!(of(TensorProto { double_data: vec![0.5], ..base(DataType::Double, 1) }), 0.5f64.to_le_bytes());
    let codes = formats::onnx::integers(DataType::Int4, &[0x9f, 7], 3).expect("whole numbers");
    assert_eq!(codes, [-1, -7, 7]);
}

#[test]
fn broken_graphs() {
    let broken = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = model();
        change(graph(&mut model));
        problem(&model)
    };
    assert!(broken(&|g| g.node[0].input[0] = "y".into()).contains("cycle"));
    assert!(broken(&|g| g.node[0].input[0] = "nothing".into()).contains("`nothing`, which nothing makes"));
    assert!(broken(&|g| g.node[1].output[0] = "a".into()).contains("a second time"));
    assert!(broken(&|g| g.initializer.push(floats("w", &[1.0]))).contains("initialiser is called `w` a second time"));
    assert!(broken(&|g| g.output[0].name = text("z")).contains("output `z`"));
    assert!(broken(&|g| g.initializer[0].dims = vec![3]).contains("needs 12 bytes, 8 are there"));
    assert!(broken(&|g| g.initializer[0].dims = vec![-2]).contains("impossible shape"));
    assert!(broken(&|g| g.initializer[0].dims = vec![i64::MAX, i64::MAX]).contains("impossible shape"));
    assert!(broken(&|g| g.initializer[0].data_type = Some(99)).contains("unknown element type 99"));
    assert!(problem(&ModelProto { graph: None, ..model() }).contains("no graph"));
    assert!(problem(&ModelProto { opset_import: vec![], ..model() }).contains("version"));
}

#[test]
fn broken_bytes() {
    let bytes = model().encode_to_vec();
    for end in 0..bytes.len() {
        assert!(parse(Bytes::copy_from_slice(&bytes[..end])).is_err(), "cut at {end}");
    }
    // A graph in a graph in a graph …
    let mut deep = AttributeProto::default();
    for _ in 0..200 {
        let node = NodeProto { attribute: vec![deep], ..node("If", &[], &["y"]) };
        deep = AttributeProto {
            g: Some(Box::new(GraphProto { node: vec![node], ..Default::default() })),
            ..Default::default()
        };
    }
    let mut model = model();
    graph(&mut model).node[0].attribute = vec![deep];
    assert!(matches!(parse(model.encode_to_vec().into()), Err(Problem::Protobuf(_))));
}

fn external(location: &Location) -> ModelProto {
    let mut model = model();
    let tensor = &mut graph(&mut model).initializer[0];
    (tensor.raw_data, tensor.data_location, tensor.external_data) = (None, Some(1), location.entries());
    model
}

#[test]
fn external_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("model");
    fs::create_dir(&inside).expect("made");
    fs::write(inside.join("w.bin"), [[0u8; 8], [1; 8]].concat()).expect("written");
    fs::write(folder.path().join("secret.bin"), [7u8; 8]).expect("written");
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("secret.bin"), inside.join("link.bin")).expect("linked");
    let open = |file: &str, offset, length| {
        let path = inside.join("model.onnx");
        fs::write(&path, external(&Location { file: file.into(), offset, length }).encode_to_vec()).expect("written");
        Onnx::open(&path)
    };
    let opened = open("w.bin", 8, Some(8)).expect("opens");
    assert_eq!(opened.bytes(&opened.graph().initializer[0]).expect("bytes"), [1u8; 8][..]);
    assert_eq!(opened.layout(), Layout::Beside);

    let problem = |file: &str, offset, length| open(file, offset, length).expect_err("refused").to_string();
    let absolute = folder.path().join("secret.bin").display().to_string();
    for outside in ["../secret.bin", &absolute, "link.bin", ""] {
        assert!(problem(outside, 0, None).contains("not inside the model's folder"), "{outside}");
    }
    assert!(problem("none.bin", 0, None).contains("cannot be read"));
    assert!(problem("w.bin", 12, None).contains("has 16 bytes"));
    assert!(problem("w.bin", u64::MAX, Some(8)).contains("has 16 bytes"));
    assert!(problem("w.bin", 0, Some(4)).contains("needs 8 bytes, 4 are there"));
}

#[test]
fn tensors_beside_the_model() {
    let mut large = model();
    graph(&mut large).initializer = vec![floats("w", &[1.5; 2]), floats("unused", &[0.25; 1000])];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.onnx");
    let files = write(&path, large.clone(), Layout::Beside).expect("written");
    assert_eq!(files, [path.clone(), Path::new(&format!("{}.data", path.display())).to_owned()]);
    let opened = Onnx::open(&path).expect("opens");
    assert!(!opened.graph().initializer[0].is_external() && opened.graph().initializer[1].is_external());
    assert_eq!(opened.with_graph(opened.graph().clone()).expect("whole"), large);
}
