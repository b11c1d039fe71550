//! Rates of the kernels on one thread, row for row comparable with `bench/kernels/torch_kernels.py`.
//!
//! `cargo run --release -p kernels --example bench_kernels [name part]`; prints `name  GFLOP/s  ms` (best of several runs,
//! CPU time of this thread).

#![allow(clippy::print_stdout)]

use half::bf16;
use kernels::*;

/// The shapes `[tokens, outputs, inputs]` of SmolLM-135M and of a small decoder, and two reference sizes.
const SHAPES: [(usize, usize, usize); 10] = [
    (4096, 576, 576),
    (4096, 192, 576),
    (4096, 1536, 576),
    (4096, 576, 1536),
    (2048, 768, 768),
    (2048, 288, 288),
    (2048, 768, 288),
    (2048, 288, 768),
    (2048, 4096, 288),
    (512, 4096, 4096),
];

/// CPU seconds of this thread.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The best time of repeated runs, in seconds.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let begin = cpu_seconds();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < 3 || cpu_seconds() - begin < 0.7 {
        let start = cpu_seconds();
        run();
        best = best.min(cpu_seconds() - start);
        runs += 1;
    }
    best
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Prints rows whose name contains what was asked for.
struct Bench {
    only: String,
}

impl Bench {
    fn row(&self, name: &str, flops: usize, run: impl FnMut()) {
        if name.contains(&self.only) {
            let seconds = best(run);
            println!("{name:<44}{:>10.1} GFLOP/s{:>10.2} ms", flops as f64 / seconds / 1e9, seconds * 1e3);
        }
    }

    fn products(&self) {
        for (m, n, k) in SHAPES {
            let (x, w, mut y) = (noise(m * k), noise(n * k), vec![0.0; m * n]);
            self.row(&format!("f32 linear {m}x{n}x{k}"), 2 * m * n * k, || linear(&x, &w, None, &mut y, k, n));
        }
        for (m, n, k) in SHAPES {
            let (x, w, mut y) = (noise(m * k), weight(n * k), vec![0.0; m * n]);
            let w = PackedBf16::pack(&w, n, k);
            self.row(&format!("bf16 linear {m}x{n}x{k}"), 2 * m * n * k, || linear_bf16(&x, &w, None, &mut y));
        }
        for (m, n, k) in [SHAPES[0], SHAPES[4], SHAPES[5], SHAPES[6]] {
            let (x, w, dy) = (noise(m * k), noise(n * k), noise(m * n));
            let (mut dx, mut dw) = (vec![0.0; m * k], vec![0.0; n * k]);
            self.row(&format!("f32 grad input {m}x{n}x{k}"), 2 * m * n * k, || {
                linear_grad_input(&dy, &w, &mut dx, k, n, Write::Set)
            });
            self.row(&format!("f32 grad weight {m}x{n}x{k}"), 2 * m * n * k, || {
                linear_grad_weight(&dy, &x, &mut dw, k, n, Write::Set)
            });
        }
        for m in [1, 4, 8] {
            let (x, w, mut y) = (noise(m * 4096), weight(4096 * 4096), vec![0.0; m * 4096]);
            let w = PackedBf16::pack(&w, 4096, 4096);
            self.row(&format!("bf16 linear {m}x4096x4096"), (2 * m) << 24, || linear_bf16(&x, &w, None, &mut y));
        }
        let (x, w, mut y) = (noise(4096), noise(4096 * 4096), vec![0.0; 4096]);
        self.row("f32 linear 1x4096x4096", 2 << 24, || linear(&x, &w, None, &mut y, 4096, 4096));
        let w = weight(4096 * 4096);
        self.row("bf16 pack 4096x4096 (GB/s)", 4 << 24, || drop(PackedBf16::pack(&w, 4096, 4096)));
    }

    /// `[batch, channels, filters, groups, size, kernel, stride]`: ResNet-20's, ResNet-18's, MobileNet's.
    fn convolutions(&self) {
        for [batch, channels, filters, groups, size, kernel, stride] in [
            [64, 3, 16, 1, 32, 3, 1],
            [64, 16, 16, 1, 32, 3, 1],
            [64, 32, 32, 1, 16, 3, 1],
            [64, 64, 64, 1, 8, 3, 1],
            [64, 32, 64, 1, 16, 3, 2],
            [1, 64, 64, 1, 56, 3, 1],
            [1, 512, 512, 1, 7, 3, 1],
            [8, 96, 24, 1, 56, 1, 1],
            [8, 144, 144, 144, 56, 3, 1],
        ] {
            let pads = [[kernel / 2; 2]; 2];
            let (input, kernel, stride) = ([size; 2], [kernel; 2], [stride; 2]);
            let shape = Conv { batch, channels, filters, groups, input, kernel, stride, dilation: [1; 2], pads };
            let positions: usize = shape.output().iter().product();
            let (mut x, mut w) = (noise(batch * channels * size * size), noise(shape.weights()));
            let mut y = vec![0.0; batch * filters * positions];
            let flops = 2 * batch * positions * shape.weights();
            let name = format!("{batch}x{channels}x{size} to {filters}/{groups}, {}/{}", kernel[0], stride[0]);
            self.row(&format!("f32 conv {name}"), flops, || conv(&shape, &x, &w, None, &mut y));
            self.row(&format!("f32 conv grad input {name}"), flops, || {
                conv_grad_input(&shape, &y, &w, None, &mut x, Write::Set)
            });
            self.row(&format!("f32 conv grad weight {name}"), flops, || {
                conv_grad_weight(&shape, &y, &x, &mut w, Write::Set)
            });
        }
    }

    fn channel_norms(&self) {
        for (channels, area) in [(16, 1024), (32, 256), (64, 64)] {
            let shape = Channels { batch: 64, channels, area };
            let (x, w, b) = (noise(64 * channels * area), noise(channels), noise(channels));
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
            let affine = Affine { weight: &w, bias: &b };
            let moments = channel_moments(&shape, &x);
            let (bytes, name) = (4 * x.len(), format!("64x{channels}x{area} (GB/s)"));
            self.row(&format!("f32 moments {name}"), bytes, || drop(channel_moments(&shape, &x)));
            self.row(&format!("f32 batch norm {name}"), 2 * bytes, || {
                batch_norm(&shape, &x, &affine, &moments, 1e-5, &mut y)
            });
            self.row(&format!("f32 batch norm grad {name}"), 5 * bytes, || {
                let grads = NormGrads { dx: Some((&mut dx, Write::Set)), dw: &mut dw, db: &mut db };
                batch_norm_grad(&shape, &x, &affine, &moments, 1e-5, true, &y, grads)
            });
            self.row(&format!("f32 add {name}"), 3 * bytes, || add_assign(&mut y, &x));
            self.row(&format!("f32 relu {name}"), 2 * bytes, || rectify(&mut y));
        }
    }

    fn attention(&self) {
        for (b, t, hq, hkv, d) in [(8, 512, 9, 3, 64), (8, 256, 6, 6, 48), (1, 2048, 9, 3, 64)] {
            let rule = Attention { kv_heads: hkv, ..Attention::causal(b, t, hq, d) };
            let flops = 2 * b * hq * t * t * d;
            let (q, k, v) = (noise(rule.query_len()), noise(rule.key_len()), noise(rule.key_len()));
            let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; rule.lse_len()]);
            let name = format!("{b}x{t} heads {hq}/{hkv}x{d}");
            self.row(&format!("f32 attention {name}"), flops, || {
                attention(&rule, &q, &k, &v, &mut out, Some(&mut lse))
            });
            let dout = noise(q.len());
            let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
            self.row(&format!("f32 attention grad {name}"), flops * 5 / 2, || {
                let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
                attention_grad(&rule, saved, &dout, &mut dq, &mut dk, &mut dv)
            });
        }
        let rule = Attention { queries: 1, kv_heads: 3, ..Attention::causal(1, 2048, 9, 64) };
        let (q, k, v) = (noise(rule.query_len()), noise(rule.key_len()), noise(rule.key_len()));
        let mut out = vec![0.0; q.len()];
        self.row("f32 attention decode 1 of 2048 heads 9/3x64", 4 * 2048 * 9 * 64, || {
            attention(&rule, &q, &k, &v, &mut out, None)
        });
    }

    fn elementwise(&self) {
        let (gate, up, dy) = (noise(4096 * 1536), noise(4096 * 1536), noise(4096 * 1536));
        let (mut y, mut z) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
        let bytes = 4 * gate.len();
        self.row("f32 swiglu 4096x1536 (GB/s)", 3 * bytes, || gated(Activation::Silu, &gate, &up, &mut y));
        self.row("f32 geglu tanh 4096x1536 (GB/s)", 3 * bytes, || gated(Activation::GeluTanh, &gate, &up, &mut y));
        self.row("f32 swiglu grad 4096x1536 (GB/s)", 5 * bytes, || {
            gated_grad(Activation::Silu, &gate, &up, &dy, &mut y, &mut z)
        });
        let (x, w, mut y, mut r) = (noise(4096 * 576), noise(576), vec![0.0; 4096 * 576], vec![0.0; 4096]);
        self.row("f32 rmsnorm 4096x576 (GB/s)", 8 * x.len(), || rms_norm(&x, &w, 0.0, 1e-5, &mut y, &mut r));
        let (dy, mut dx, mut dw) = (noise(x.len()), vec![0.0; x.len()], vec![0.0; 576]);
        self.row("f32 rmsnorm grad 4096x576 (GB/s)", 12 * x.len(), || {
            rms_norm_grad(&x, &w, 0.0, &r, &dy, &mut dx, Some(&mut dw), Write::Set)
        });
        let (cos, sin) = rope_tables::<f32>(0..512, &[0.5; 32], 1.0);
        let shape = RopeShape { heads: 9, head_dim: 64, rotary_dim: 64 };
        self.row("f32 rope 4096x576 (GB/s)", 8 * x.len(), || rope(&mut y, shape, &cos, &sin, Rotation::Forward));
        let (logits, mut grad, mut losses) = (noise(2048 * 4096), vec![0.0; 2048 * 4096], vec![0.0; 2048]);
        let targets: Vec<u32> = (0..2048).collect();
        self.row("f32 cross entropy 2048x4096 (GB/s)", 4 * logits.len(), || {
            cross_entropy(&logits, &targets, 4096, &mut losses)
        });
        self.row("f32 cross entropy + grad 2048x4096 (GB/s)", 8 * logits.len(), || {
            grad.copy_from_slice(&logits);
            cross_entropy_grad(&mut grad, &targets, 4096, 1.0, &mut losses)
        });
        let (mut m, mut v) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
        let settings = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, grad_scale: 1.0 };
        self.row("f32 adamw 8M (GB/s)", 28 * logits.len(), || adamw(&settings, 1, &mut grad, &logits, &mut m, &mut v));
    }
}

fn weight(len: usize) -> Vec<bf16> {
    noise(len).into_iter().map(bf16::from_f32).collect()
}

fn main() {
    let bench = Bench { only: std::env::args().nth(1).unwrap_or_default() };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    let choice = bf16_path();
    println!("bf16 path: {:?} ({}), one thread", choice.path, choice.reason);
    pool.install(|| {
        bench.products();
        bench.convolutions();
        bench.channel_norms();
        bench.attention();
        bench.elementwise();
    });
}
