//! Runs a network on repeatable inputs and writes its outputs, for `bench/exec/onnx_run.py` to compare with onnxruntime's.
//!
//! `cargo run --release -p import --example run_onnx -- FILE FOLDER [SAMPLES]`: inputs are `testkit::values(name, count, 1/64)`; output `n`
//! goes to `FOLDER/n.f32`. Prints the time of the best of five runs (`RAYON_NUM_THREADS` sets the threads).

use exec::{Data, Executor, Options, Tensor};
use graph::Size;
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[allow(clippy::print_stdout)]
fn run(file: &Path, folder: &Path, samples: usize) -> Result<(), Failure> {
    let opened = import::open(file)?;
    let graph = opened.model.graph().ok_or("no graph")?;
    let mut executor = Executor::<f32>::new(graph, &opened.model.weights, Options::default())?;
    let size = Size { batch: samples, tokens: 1 };
    let mut inputs: Vec<Data> = Vec::new();
    for id in graph.inputs() {
        let value = &graph.values()[id.0];
        let shape: Vec<usize> = value.shape.iter().map(|dim| size.of(*dim)).collect();
        let data = testkit::values(&value.name, shape.iter().product(), 1.0 / 64.0);
        inputs.push(Tensor::new(shape, data)?.into());
    }
    let mut best = f64::INFINITY;
    for run in 0..5 {
        let start = Instant::now();
        let outputs = executor.run(inputs.clone())?;
        best = best.min(start.elapsed().as_secs_f64());
        for (n, output) in outputs.iter().enumerate().filter(|_| run == 0) {
            let numbers = output.float().ok_or("an output of indices")?.data().iter();
            std::fs::write(
                folder.join(format!("{n}.f32")),
                numbers.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
            )?;
        }
    }
    println!("{:.1} ms", best * 1e3);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, folder, rest @ ..] = &arguments[..] else { return Err("FILE FOLDER [SAMPLES]".into()) };
    let samples = rest.first().map_or(Ok(1), |n| n.parse())?;
    run(Path::new(file), Path::new(folder), samples)
}
