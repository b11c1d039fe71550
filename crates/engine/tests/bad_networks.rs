//! Promise: a network that is broken, or a budget that cannot be met, ends in an error that names what is wrong, or in a report of what
//! stayed as it was; what stood where the artifact should go still stands there.

use engine::{Images, Options};
use formats::images::Preprocess;
use formats::onnx::proto::{ModelProto, TensorProto};
use formats::onnx::{DataType, Layout};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The network that comes with the program.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits.onnx")
}

/// A copy of it, changed.
fn changed(folder: &Path, change: impl FnOnce(&mut ModelProto)) -> PathBuf {
    let opened = formats::onnx::Onnx::open(&shipped()).expect("the shipped network");
    let mut model = opened.with_graph(opened.graph().clone()).expect("whole");
    change(&mut model);
    let path = folder.join("net.onnx");
    let _ = fs::remove_file(&path);
    formats::onnx::write(&path, model, Layout::Inline).expect("written");
    path
}

/// The first kernel that is larger than a point.
fn kernel(model: &mut ModelProto) -> &mut TensorProto {
    let graph = model.graph.as_mut().expect("a graph");
    let found = graph.initializer.iter_mut().find(|t| t.dims.len() == 4 && t.dims[3] > 1);
    found.expect("a kernel")
}

/// Samples of digits, 16 random ones, all of class 3.
fn samples(folder: &Path, model: &graph::Model) -> Images {
    let (x, y) = (folder.join("d_x_16x1x28x28_u8.bin"), folder.join("d_y_16_u8.bin"));
    let pixels = testkit::values("digits", 16 * 784, 1.0);
    fs::write(&x, pixels.iter().map(|p| p.abs() as u8).collect::<Vec<_>>()).expect("samples");
    fs::write(y, [3; 16]).expect("labels");
    Images::open(&[x], model.graph().expect("a graph"), &Preprocess::default()).expect("fits")
}

/// What compressing says, or the notes of what it did; the file at the target is looked after.
fn outcome(folder: &Path, net: &Path, steps: &str) -> Result<Vec<String>, String> {
    let out = folder.join("out.onnx");
    fs::write(&out, b"was here before").expect("written");
    let imported = import::open(net).map_err(|e| e.to_string())?;
    let data = imported.model.graph().map(|_| samples(folder, &imported.model));
    let data = data.as_ref();
    let options = Options {
        replace: true,
        threads: Some(2),
        data: data.map(|d| d as &dyn engine::Samples),
        examples: data.map(|d| d as &dyn exec::Examples),
        ..Options::default()
    };
    let recipe = plan::Recipe::parse(steps).expect("a recipe");
    let plan = engine::plan(&imported, &recipe, &options).map_err(|e| e.to_string())?;
    match engine::compress(&imported, &plan, &out, &options, &engine::Quiet) {
        Ok(made) => Ok(made.journal.notes.into_iter().map(|n| format!("{:?} {}", n.weight, n.what)).collect()),
        Err(error) => {
            assert_eq!(fs::read(&out).expect("still there"), b"was here before", "{error}");
            let left = fs::read_dir(folder).expect("a folder").flatten().map(|e| e.file_name());
            assert!(!left.into_iter().any(|n| n.to_string_lossy().starts_with(".partial")), "{error}");
            Err(error.to_string())
        }
    }
}

fn refused(folder: &Path, net: &Path, steps: &str) -> String {
    outcome(folder, net, steps).expect_err(steps)
}

#[test]
fn weights_that_are_no_numbers() {
    let folder = TempDir::new().expect("a folder");
    let net = changed(folder.path(), |model| {
        let tensor = kernel(model);
        let mut bytes = tensor.raw_data.clone().expect("raw").to_vec();
        bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
        tensor.raw_data = Some(bytes.into());
    });
    for steps in ["prune = { macs = 0.5 }", "quantize = {}", "quantize = { dynamic = true }"] {
        let why = refused(folder.path(), &net, &format!("[[step]]\n{steps}\n"));
        assert!(why.contains("not finite") || why.contains("NaN"), "{steps}: {why}");
    }
}

#[test]
fn weights_of_other_types_and_sizes_stay_as_they_are() {
    let folder = TempDir::new().expect("a folder");
    let integers = changed(folder.path(), |model| {
        let tensor = kernel(model);
        let count = tensor.dims.iter().product::<i64>() as usize;
        tensor.data_type = Some(DataType::Int8 as i32);
        tensor.raw_data = Some(vec![1; count].into());
    });
    let imported = import::open(&integers).expect("opens");
    assert!(imported.notes.iter().any(|n| n.contains("not fractions")), "{:?}", imported.notes);
    let empty = changed(folder.path(), |model| {
        let tensor = kernel(model);
        tensor.dims[0] = 0;
        tensor.raw_data = Some(vec![].into());
    });
    let imported = import::open(&empty).expect("opens");
    assert!(imported.notes.iter().any(|n| n.contains("dimension of zero")), "{:?}", imported.notes);
    // What is behind an operator that nobody looks into cannot be looked into either.
    let why = refused(folder.path(), &empty, "[[step]]\nquantize = {}\n");
    assert!(!why.is_empty());
}

#[test]
fn budgets_that_cannot_be_met() {
    let folder = TempDir::new().expect("a folder");
    let net = shipped();
    for (step, says) in [
        ("prune = { bytes = 100 }", "cannot be met"),
        ("prune = { latency = \"10ns\" }", "nanoseconds cannot be met"),
        ("quantize = { budget = 1e-9 }", "was asked for"),
        ("quantize = { max-drop = -100.0 }", "points of accuracy"),
    ] {
        let why = refused(folder.path(), &net, &format!("[[step]]\n{step}\n"));
        assert!(why.contains(says), "{step}: {why}");
    }
}

#[test]
fn files_that_are_damaged() {
    let folder = TempDir::new().expect("a folder");
    let whole = fs::read(shipped()).expect("the shipped network");
    let net = folder.path().join("cut.onnx");
    for end in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&net, &whole[..end]).expect("written");
        let why = refused(folder.path(), &net, "[[step]]\nprune = { macs = 0.5 }\n");
        assert!(why.contains("cut.onnx"), "{end}: {why}");
    }
}

#[test]
fn samples_that_do_not_fit() {
    let folder = TempDir::new().expect("a folder");
    let imported = import::open(&shipped()).expect("opens");
    let path = folder.path().join("d_x_2x3x32x32_u8.bin");
    fs::write(&path, vec![0; 2 * 3072]).expect("samples");
    let open = Images::open(&[path], imported.model.graph().expect("a graph"), &Preprocess::default());
    let why = open.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(why.contains("[3, 32, 32]") || why.contains("28"), "{why}");
}
