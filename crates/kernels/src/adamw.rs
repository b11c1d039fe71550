//! One AdamW step (Loshchilov and Hutter 2017), fused over parameter, gradient and both moments.
//!
//! `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `w ← w − lr·λ·w − lr·(m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + eps)`, as PyTorch.

use crate::parallel::map_tasks;
use crate::real::Real;
use crate::simd::vectorised;

/// The settings of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay λ; 0 for norms and biases.
    pub weight_decay: f64,
    /// What every gradient is multiplied by first: the clipping factor, else 1.
    pub grad_scale: f64,
}

/// [`AdamW`] at one step, as the factors of the inner loop.
#[derive(Clone, Copy)]
struct Factors<R> {
    keep: R,
    beta1: R,
    beta2: R,
    eps: R,
    step: R,
    root: R,
    grad: R,
}

vectorised! {
    fn update_here<R: Real>(f: Factors<R>, w: &mut [R], grad: &[R], m: &mut [R], v: &mut [R]) {
        for (((w, &g), m), v) in w.iter_mut().zip(grad).zip(m).zip(v) {
            let g = g * f.grad;
            *m = f.beta1.mul_add(*m - g, g);
            *v = f.beta2.mul_add(*v - g * g, g * g);
            *w = *w * f.keep - f.step * *m / (v.sqrt() * f.root + f.eps);
        }
    }
}

/// Updates `w` and the moments `m`, `v` in place; `step` counts from 1.
///
/// # Panics
/// When the lengths differ.
pub fn adamw<R: Real>(settings: &AdamW, step: u64, w: &mut [R], grad: &[R], m: &mut [R], v: &mut [R]) {
    assert!([grad.len(), m.len(), v.len()] == [w.len(); 3], "AdamW of unlike lengths");
    let t = step.max(1) as f64;
    let factors = Factors {
        keep: R::from_f64(1.0 - settings.lr * settings.weight_decay),
        beta1: R::from_f64(settings.beta1),
        beta2: R::from_f64(settings.beta2),
        eps: R::from_f64(settings.eps),
        step: R::from_f64(settings.lr / (1.0 - settings.beta1.powf(t))),
        root: R::from_f64(1.0 / (1.0 - settings.beta2.powf(t)).sqrt()),
        grad: R::from_f64(settings.grad_scale),
    };
    const CHUNK: usize = 1 << 15;
    let state = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
    let items = w.chunks_mut(CHUNK).zip(grad.chunks(CHUNK)).zip(state).collect();
    map_tasks(items, |((w, grad), (m, v))| update_here(factors, w, grad, m, v));
}
