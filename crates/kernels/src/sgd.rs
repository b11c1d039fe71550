//! One step of stochastic gradient descent with momentum (Sutskever et al. 2013), as PyTorch: `g ← g + λ·w`, `v ← μ·v + g`,
//! `w ← w − lr·v`, or with Nesterov's momentum `w ← w − lr·(g + μ·v)`.

use crate::parallel::map_tasks;
use crate::real::Real;
use crate::simd::vectorised;

/// The settings of SGD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay μ of the velocity.
    pub momentum: f64,
    /// λ, added to the gradient; 0 for norms and biases where that is wanted.
    pub weight_decay: f64,
    /// Whether the step looks ahead.
    pub nesterov: bool,
    /// What every gradient is multiplied by first: the clipping factor, else 1.
    pub grad_scale: f64,
}

vectorised! {
    fn update_here<R: Real>(settings: Sgd, w: &mut [R], grad: &[R], v: &mut [R]) {
        let [lr, momentum, decay, scale] =
            [settings.lr, settings.momentum, settings.weight_decay, settings.grad_scale].map(R::from_f64);
        for ((w, &g), v) in w.iter_mut().zip(grad).zip(v) {
            let g = decay.mul_add(*w, g * scale);
            *v = momentum.mul_add(*v, g);
            let step = if settings.nesterov { momentum.mul_add(*v, g) } else { *v };
            *w -= lr * step;
        }
    }
}

/// Updates `w` and its velocity `v` in place.
///
/// # Panics
/// When the lengths differ.
pub fn sgd<R: Real>(settings: &Sgd, w: &mut [R], grad: &[R], v: &mut [R]) {
    assert!([grad.len(), v.len()] == [w.len(); 2], "SGD of unlike lengths");
    const CHUNK: usize = 1 << 15;
    let items = w.chunks_mut(CHUNK).zip(grad.chunks(CHUNK)).zip(v.chunks_mut(CHUNK)).collect();
    map_tasks(items, |((w, grad), v)| update_here(*settings, w, grad, v));
}
