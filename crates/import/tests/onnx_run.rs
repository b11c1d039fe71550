//! Networks run as onnxruntime runs them: `golden/onnx-run`, relative to the largest number of each output.

use exec::{Data, Executor, Options, Tensor};
use graph::{Graph, Kind, Size};
use std::path::Path;

/// What differs from onnxruntime by rounding alone.
const TOLERANCE: f64 = 1e-5;

/// The inputs that `make.py` gave, by name.
fn inputs(graph: &Graph, samples: usize) -> Vec<Data> {
    let size = Size { batch: samples, tokens: 1 };
    let input = |id: &graph::ValueId| {
        let value = &graph.values()[id.0];
        assert_eq!(value.kind, Kind::Float, "{}", value.name);
        let shape: Vec<usize> = value.shape.iter().map(|dim| size.of(*dim)).collect();
        let data = testkit::values(&value.name, shape.iter().product(), 1.0 / 64.0);
        Data::from(Tensor::new(shape, data).expect("the count fits"))
    };
    graph.inputs().iter().map(input).collect()
}

fn run(path: &Path, samples: usize) -> Vec<Data> {
    let opened = import::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let graph = opened.model.graph().unwrap_or_else(|| panic!("{}: no graph", path.display()));
    let mut executor = Executor::new(graph, &opened.model.weights, Options::default()).expect("runs");
    executor.run(inputs(graph, samples)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn networks_run_as_in_onnxruntime() {
    let golden = testkit::golden_dir("onnx-run");
    let Some(data) = testkit::data_dir() else { return };
    let nets = std::fs::read_to_string(golden.join("nets.txt")).expect("golden/onnx-run/nets.txt");
    for line in nets.lines() {
        let [name, path, samples, outputs @ ..] = &line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("line `{line}` of nets.txt");
        };
        let bytes = std::fs::read(golden.join(format!("{name}.f32"))).expect("golden numbers");
        let mut want = bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        let made = run(&data.join(path), samples.parse().expect("a count"));
        assert_eq!(made.len(), outputs.len(), "{name}: outputs");
        for (made, output) in made.iter().zip(outputs) {
            let (shape, step) = output.split_once('/').expect("shape/step");
            let shape: Vec<usize> = shape.split('x').map(|n| n.parse().expect("a length")).collect();
            assert_eq!(made.shape(), shape, "{name}");
            let made = made.float().expect("numbers").data().iter().step_by(step.parse().expect("a step"));
            let pairs: Vec<(f64, f64)> = made.map(|x| f64::from(*x)).zip(&mut want).collect();
            let largest = pairs.iter().fold(0.0f64, |largest, (_, want)| largest.max(want.abs()));
            let gap = pairs.iter().fold(0.0f64, |gap, (made, want)| gap.max((made - want).abs()));
            assert!(gap <= TOLERANCE * largest, "{name}: {gap:e} beside {largest:e}");
        }
    }
}
