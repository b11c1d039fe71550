//! What kernel tests share: repeatable numbers, comparisons, finite differences.

#![allow(dead_code)]

use kernels::Real;

/// A repeatable sample in [-1, 1).
pub fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub fn cast<R: Real>(x: &[f64]) -> Vec<R> {
    x.iter().map(|&x| R::from_f64(x)).collect()
}

pub fn close<R: Real>(what: &str, got: &[R], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let gap = (got.to_f64() - want).abs();
        assert!(gap <= bound * want.abs().max(1.0), "{what} at {i}: {got:?}, want {want}");
    }
}

/// Compares `grad` with central differences of `Σ weightᵢ·fᵢ(x)`.
pub fn check_grad(what: &str, x: &[f64], grad: &[f64], weight: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) {
    assert_eq!(x.len(), grad.len(), "{what}");
    let total = |x: &[f64]| f(x).iter().zip(weight).map(|(y, w)| y * w).sum::<f64>();
    let step = 1e-5;
    let stride = (x.len() / 97).max(1);
    for i in (0..x.len()).step_by(stride) {
        let mut moved = x.to_vec();
        moved[i] = x[i] + step;
        let above = total(&moved);
        moved[i] = x[i] - step;
        let slope = (above - total(&moved)) / (2.0 * step);
        assert!((slope - grad[i]).abs() <= 1e-7 * slope.abs().max(1.0), "{what} at {i}: {} but {slope}", grad[i]);
    }
}

/// Runs `work` on pools of one, two and three threads and asserts that the results are the same bytes.
pub fn same_at_any_thread_count(what: &str, work: impl Fn() -> Vec<f32> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(&work).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let alone = run(1);
    assert!(alone == run(2) && alone == run(3), "{what} depends on the number of threads");
}
