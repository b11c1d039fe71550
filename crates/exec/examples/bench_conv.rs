//! Times a training step of ResNet-20 (He et al. 2015) on CIFAR shapes, batch 64: forward with live batch norm, cross-entropy,
//! backward, SGD with momentum and weight decay.
//!
//! `cargo run --release -p exec --example bench_conv -- [THREADS]` prints CPU and wall seconds of the best and the median run, and
//! peak memory; `bench/exec/torch_conv.py` does the same in PyTorch.

#[path = "common/clock.rs"]
mod clock;
#[path = "../tests/common/mod.rs"]
mod common;

use clock::{cpu, peak};
use common::Builder;
use exec::{BatchStatistics, Executor, Grads, Options, Tensor};
use graph::ops::{Activation, Add, BatchNorm, Conv, Reduce, ReduceKind, Span};
use graph::{Dim, Graph, Kind, ValueId, WeightStore};
use kernels::Sgd;
use std::collections::BTreeMap;
use std::time::Instant;

const BATCH: usize = 64;

fn conv(b: &mut Builder, name: &str, x: ValueId, [inputs, outputs, size, stride]: [usize; 4]) -> ValueId {
    let weight = b.weight(&format!("{name}.weight"), &[outputs, inputs, size, size], 0.0);
    let window = vec![Span { size, stride, dilation: 1, pad: [size / 2; 2] }; 2];
    let x = b.push(name, Conv { weight, bias: None, outputs, window, groups: 1 }, &[x]);
    let [scale, bias, mean, var] = [("scale", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)]
        .map(|(part, center)| b.weight(&format!("{name}.norm.{part}"), &[outputs], center));
    let norm = BatchNorm { scale, bias, mean, var, eps: 1e-5, momentum: 0.9 };
    b.push(&format!("{name}.norm"), norm, &[x])
}

fn block(b: &mut Builder, name: &str, x: ValueId, inputs: usize, outputs: usize) -> ValueId {
    let stride = outputs / inputs;
    let y = conv(b, &format!("{name}.1"), x, [inputs, outputs, 3, stride]);
    let y = b.push(&format!("{name}.1.relu"), Activation::Relu, &[y]);
    let y = conv(b, &format!("{name}.2"), y, [outputs, outputs, 3, 1]);
    let short = if stride > 1 { conv(b, &format!("{name}.short"), x, [inputs, outputs, 1, stride]) } else { x };
    let y = b.push(&format!("{name}.add"), Add, &[y, short]);
    b.push(&format!("{name}.relu"), Activation::Relu, &[y])
}

fn resnet20() -> (Graph, WeightStore) {
    let mut graph = Graph::default();
    let x = graph.input("x", Kind::Float, vec![Dim::Batch, Dim::Fixed(3), Dim::Fixed(32), Dim::Fixed(32)]);
    let mut b = Builder { graph, weights: WeightStore::default() };
    let x = conv(&mut b, "first", x, [3, 16, 3, 1]);
    let mut x = b.push("first.relu", Activation::Relu, &[x]);
    for (n, widths) in [[16, 16], [16, 16], [16, 16], [16, 32], [32, 32], [32, 32], [32, 64], [64, 64], [64, 64]]
        .into_iter()
        .enumerate()
    {
        x = block(&mut b, &format!("block {n}"), x, widths[0], widths[1]);
    }
    let x = b.push("mean", Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: false }, &[x]);
    let y = b.linear("head", x, 64, 10, true);
    b.finish(y)
}

/// One step; returns the mean loss.
fn step(
    executor: &mut Executor,
    x: &exec::Data,
    targets: &[u32],
    velocities: &mut BTreeMap<graph::WeightId, Vec<f32>>,
    grads: &mut Grads,
) -> f64 {
    let settings = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 1e-4, nesterov: false, grad_scale: 1.0 };
    grads.zero();
    let inputs = executor.inputs(vec![x.clone()]).expect("one input");
    let (values, tape) = executor.run_range_taped(executor.whole(), inputs).expect("runs");
    let output = executor.graph().outputs()[0];
    let mut logits = executor.outputs(&values).expect("one output")[0].float().expect("numbers").as_ref().clone();
    let mut losses = vec![0.0; BATCH];
    kernels::cross_entropy_grad(logits.data_mut(), targets, 10, 1.0 / BATCH as f32, &mut losses);
    executor.backward_range(executor.whole(), tape, [(output, logits)].into(), &[], grads).expect("runs");
    executor.recycle(values);
    for (id, grad) in grads.iter() {
        let w = executor.weights_mut().full_mut(id).expect("f32");
        kernels::sgd(&settings, w, grad, velocities.entry(id).or_insert_with(|| vec![0.0; grad.len()]));
    }
    losses.iter().sum::<f64>() / BATCH as f64
}

#[allow(clippy::print_stdout)]
fn bench() {
    let (graph, weights) = resnet20();
    let mut executor = Executor::<f32>::new(&graph, &weights, Options::default()).expect("runs");
    executor.set_batch_statistics(BatchStatistics::Live { momentum: None });
    let x = testkit::values("x", BATCH * 3072, 1.0 / 64.0);
    let x = exec::Data::from(Tensor::new(vec![BATCH, 3, 32, 32], x).expect("the count fits"));
    let targets = common::ids(10, 1, BATCH).into_data();
    let (mut velocities, mut grads, before) = (BTreeMap::new(), Grads::default(), peak());
    let (mut cpus, mut walls, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..23 {
        let (start, wall) = (cpu(), Instant::now());
        losses.push(step(&mut executor, &x, &targets, &mut velocities, &mut grads));
        cpus.push(cpu() - start);
        walls.push(wall.elapsed().as_secs_f64());
    }
    let [(best_cpu, cpu), (best_wall, wall)] = [cpus, walls].map(|mut times| {
        let times = &mut times[3..];
        times.sort_by(f64::total_cmp);
        (times[0], times[times.len() / 2])
    });
    println!(
        "resnet20 step    cpu best {best_cpu:.4} median {cpu:.4} s  wall best {best_wall:.4} median {wall:.4} s  \
         peak {:.1} MiB (before: {before:.1})  loss {:.3} to {:.3}",
        peak(),
        losses[0],
        losses[losses.len() - 1]
    );
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(bench);
}
