//! # Drift correction
//!
//! **What it does.** The compressed model's layers read inputs `X̂` that earlier layers have damaged. The matrix that
//! best turns them into what the original's layer made of its own inputs `X` is not `W` but
//! `W + W·(X − X̂)ᵀX̂·(X̂ᵀX̂ + λI)⁻¹`, and it is this that a solver is then given.
//!
//! **When to use.** With every solver that knows a Hessian; at few bits the drift it makes good is large.
//!
//! **What it costs.** A second square per input, `2·rows·cols²` multiply–adds per matrix, one Cholesky decomposition.
//!
//! **Paper.** The closed form is ordinary least squares; the idea is that of GPTAQ (Li et al., arXiv 2504.02692).
//!
//! **Differences.** Solved once, before rounding, instead of in every step of it. The step is shortened by `STRENGTH`,
//! and damped, because the drift is known only from the calibration text.

use super::factor::{cholesky, solve};
use calib::Inputs;
use kernels::{MatMut, MatRef, Write, matmul};

/// Share of the mean of the Hessian's diagonal that is added to it.
const DAMPING: f32 = 0.03;
/// Share of the correction that is made.
const STRENGTH: f32 = 1.0;

/// Adds the correction to a matrix `[out, in]` in place; leaves it where nothing is known of drift, or nothing can be
/// solved.
pub(crate) fn correct(weight: &mut [f32], inputs: &Inputs) {
    let (Some(hessian), Some(drift)) = (inputs.hessian(), inputs.drift()) else { return };
    let n = inputs.width();
    let mut damped = hessian.to_vec();
    let mean = (0..n).map(|j| hessian[j * n + j]).sum::<f32>() / n.max(1) as f32;
    (0..n).for_each(|j| damped[j * n + j] += DAMPING * mean.max(f32::MIN_POSITIVE));
    if cholesky(&mut damped, n).is_none() {
        return;
    }
    // T = D·H⁻¹, so Tᵀ = H⁻¹·Dᵀ: the columns of Dᵀ are the rows of D.
    let mut step = drift.to_vec();
    solve(&damped, &mut step, n);
    drop(damped);
    if step.iter().any(|v| !v.is_finite()) {
        return;
    }
    let rows = weight.len() / n.max(1);
    let original = weight.to_vec();
    let step = MatRef::new(&step, n, n);
    matmul(STRENGTH, MatRef::new(&original, rows, n), step, MatMut::new(weight, rows, n), Write::Add);
}
