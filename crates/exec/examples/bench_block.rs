//! Times the interpreter: `cargo run --release -p exec --example bench_block -- WHAT [THREADS]`.
//!
//! | what | work |
//! |---|---|
//! | `block` | forward of one SmolLM-135M decoder block, 8 × 512 tokens |
//! | `step` | training step of 6 layers × 288, vocabulary 4096, 8 × 256 tokens, AdamW |
//! | `step-recompute` | the same with recomputation by block |
//! | `small`, `smol` | perplexity of a 7 M (novels-7m shapes) and a 135 M Llama, windows of 512 |
//! | `small-bf16`, `smol-bf16` | the same with bf16 products |
//! | `decode` | 64 tokens, one at a time, of the 135 M Llama |
//!
//! Prints CPU and wall seconds of the best run, and peak memory. `bench/exec/torch_exec.py` does the same in PyTorch.

#[path = "common/clock.rs"]
mod clock;
#[path = "../tests/common/mod.rs"]
mod common;

use clock::{cpu, peak};
use common::Decoder;
use exec::{Compute, Executor, Grads, Options, Recompute, Residency, Sampling, Values};
use kernels::AdamW;
use std::time::Instant;

const SMOL: Decoder = Decoder {
    vocab: 49152,
    hidden: 576,
    layers: 30,
    heads: 9,
    kv_heads: 3,
    head_dim: 64,
    ffn: 1536,
    tied: true,
    rich: false,
    moe: false,
    fused: false,
};
const SMALL: Decoder = Decoder { vocab: 4096, hidden: 256, layers: 8, heads: 4, kv_heads: 2, ffn: 768, ..SMOL };
const STUDENT: Decoder =
    Decoder { vocab: 4096, hidden: 288, layers: 6, heads: 6, kv_heads: 6, head_dim: 48, ffn: 768, ..SMOL };

/// Runs once to warm up, then prints the best of several runs.
#[allow(clippy::print_stdout)]
fn time(name: &str, tokens: usize, runs: usize, mut run: impl FnMut()) {
    let before = peak();
    run();
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..runs {
        let (start, wall) = (cpu(), Instant::now());
        run();
        best = (best.0.min(cpu() - start), best.1.min(wall.elapsed().as_secs_f64()));
    }
    println!(
        "{name:<16} cpu {:>9.4} s  wall {:>9.4} s  {:>9.1} tokens/s  peak {:>7.1} MiB (before: {before:.1})",
        best.0,
        best.1,
        tokens as f64 / best.1,
        peak()
    );
}

fn executor(decoder: Decoder, compute: Compute) -> Executor {
    let (graph, weights) = decoder.build();
    Executor::new(&graph, &weights, Options { compute, residency: Residency::All }).expect("a language model")
}

fn block() {
    let mut executor = executor(Decoder { layers: 1, vocab: 16, ..SMOL }, Compute::F32);
    let range = executor.graph().blocks()[0].nodes.clone();
    let input = *executor.inputs_of(&range).first().expect("a block reads something");
    let x = testkit::values("x", 8 * 512 * 576, 1.0 / 64.0);
    let x = exec::Data::from(exec::Tensor::new(vec![8, 512, 576], x).expect("the count fits"));
    time("block", 8 * 512, 10, || {
        let out = executor.run_range(range.clone(), Values::from([(input, x.clone())])).expect("runs");
        executor.recycle(out);
    });
}

fn step(recompute: Recompute) {
    let mut executor = executor(STUDENT, Compute::F32);
    let ids = common::ids(4096, 8, 256);
    let targets = common::ids(4096, 8, 257).into_data();
    let mut grads = Grads::default();
    let mut moments = std::collections::BTreeMap::new();
    let settings = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, grad_scale: 1.0 };
    let mut at = 0;
    time("step", 8 * 256, 8, || {
        at += 1;
        grads.zero();
        let weight = 1.0 / 2048.0;
        executor.loss_and_grads(&ids, &targets[..2048], weight, recompute, &mut grads).expect("trains");
        for (id, grad) in grads.iter() {
            let w = executor.weights_mut().full_mut(id).expect("f32");
            let (m, v) = moments.entry(id).or_insert_with(|| (vec![0.0; w.len()], vec![0.0; w.len()]));
            kernels::adamw(&settings, at, w, grad, m, v);
        }
    });
}

fn perplexity(name: &str, decoder: Decoder, batch: usize, compute: Compute) {
    let mut executor = executor(decoder, compute);
    let ids = common::ids(decoder.vocab, batch, 512);
    let targets = common::ids(decoder.vocab, batch, 512).into_data();
    let mut losses = vec![0.0; targets.len()];
    time(name, batch * 512, 3, || {
        let see = &mut |rows: std::ops::Range<usize>, logits: &[f32]| {
            kernels::cross_entropy(logits, &targets[rows.clone()], decoder.vocab, &mut losses[rows]);
        };
        executor.forward_logits(&ids, see).expect("runs");
    });
}

fn decode() {
    let mut executor = executor(SMOL, Compute::F32);
    time("decode", 64, 3, || {
        exec::generate(&mut executor, &[1], 64, Sampling::Greedy, &mut |_| true).expect("runs");
    });
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "block".into());
    let threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| match what.as_str() {
        "step" => step(Recompute::Nothing),
        "step-recompute" => step(Recompute::Blocks),
        "small" => perplexity("small", SMALL, 16, Compute::F32),
        "small-bf16" => perplexity("small-bf16", SMALL, 16, Compute::Bf16),
        "smol" => perplexity("smol", SMOL, 4, Compute::F32),
        "smol-bf16" => perplexity("smol-bf16", SMOL, 4, Compute::Bf16),
        "decode" => decode(),
        _ => block(),
    });
}
