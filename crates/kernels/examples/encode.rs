//! Time of the block encoders, one thread: `cargo run --release -p kernels --example encode`.
//!
//! Prints ns of CPU time per weight of the reference in `codec` and of `kernels::encode`, without and with importance, on a million
//! weights about N(0, 0.02²). `golden/ggml/make.py GGML_DIR --time` prints the same for ggml's own encoders.

#![allow(clippy::print_stdout, reason = "prints its result")]

use codec::{BlockFormat, Dtype};
use kernels::encode::{encode_rows, widen};
use std::hint::black_box;

const COLS: usize = 1024;

fn best_of(runs: usize, weights: usize, mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = cpu_seconds();
        f();
        cpu_seconds() - start
    };
    (0..runs).map(time).fold(f64::INFINITY, f64::min) / weights as f64 * 1e9
}

/// CPU time of this process: steadier than the clock on a machine with other work.
fn cpu_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

fn main() {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let x: Vec<f32> = (0..COLS * COLS).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 0.035).collect();
    let importance: Vec<f32> = (0..COLS).map(|_| (uniform() + 0.5).powi(2)).collect();
    println!("{:8} {:>10} {:>10} {:>10} {:>10}", "ns/w", "reference", "fast", "ref. imp.", "fast imp.");
    for format in BlockFormat::ALL {
        let mut out = vec![0; format.row_bytes(x.len()).expect("a multiple of every block")];
        let mut row = vec![0; format.row_bytes(COLS).expect("a multiple of every block")];
        let mut times = Vec::new();
        for importance in [None, Some(&*importance)] {
            times.push(best_of(2, x.len(), || {
                x.chunks_exact(COLS).for_each(|x| format.codec().encode_row(black_box(x), importance, &mut row));
            }));
            times.push(best_of(5, x.len(), || {
                encode_rows(format, COLS, black_box(&x), importance, &mut out).expect("small numbers");
            }));
        }
        println!("{:8} {:10.2} {:10.2} {:10.2} {:10.2}", format.name(), times[0], times[1], times[2], times[3]);
    }
    for dtype in [Dtype::BF16, Dtype::F16] {
        let (bytes, mut out) = (vec![0x3c; x.len() * 2], vec![0.0; x.len()]);
        println!("{:8} {:21.2}", dtype.name(), best_of(5, x.len(), || widen(dtype, black_box(&bytes), &mut out)));
    }
}
