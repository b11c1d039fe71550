//! # Ternary quantization after training
//!
//! **What it does.** Gives every number one of −α, 0, α. Scales are fitted by turns (ITF: the nearest codes under a
//! scale, the least-squares scale under the codes), beginning at a threshold of three quarters of the mean magnitude;
//! then codes are chosen with error feedback, and scales and codes once more under the Hessian of the layer's output
//! (AGA: the scale that is best for the outputs, not for the weights).
//!
//! **When to use.** For models that must run at 1.7 or 2.1 bits per weight in a runtime of ternary kernels and cannot be
//! trained as such. What is lost is large, most in small models; at equal bytes Q2_K is usually better.
//!
//! **What it costs.** What [`descent`] costs.
//!
//! **What it needs.** Calibration text; TQ1_0 or TQ2_0 (other weights of the mix follow descent).
//!
//! **Paper.** PT²-LLM: Post-Training Ternarization for Large Language Models (ICLR 2026, arXiv 2510.03267).
//!
//! **Differences.** No offset `μ`: no container holds one. Columns are not reordered by similarity, since the formats fix
//! which of them share a scale; they are rounded in the order of importance. AGA goes on to codes and to a fixed point.

use super::gptq::Gptq;
use super::solver::{Problem, Solution, SolveError, Solver};
use super::{descent, solver};
use codec::DraftRow;
use plan::Method;

/// See the module.
pub struct Ternary(Gptq);

impl Default for Ternary {
    fn default() -> Ternary {
        Ternary(Gptq { fit, ..Gptq::default() })
    }
}

/// Rounds of fitting.
const ROUNDS: usize = 10;
/// Threshold below which a number begins as zero, in mean magnitudes.
const THRESHOLD: f32 = 0.75;

impl Solver for Ternary {
    fn scratch(&self, rows: usize, cols: usize) -> u64 {
        solver::solver(Method::Descent).map_or(0, |descent| descent.scratch(rows, cols))
    }

    fn solve(&self, problem: &Problem<'_>) -> Result<Solution, SolveError> {
        descent::solve(&self.0, problem, Method::Ternary)
    }
}

/// Fits the scale of the `n`-th span by turns.
fn fit(row: &mut DraftRow<'_>, n: usize, start: usize, x: &[f32], importance: &[f32]) {
    row.fit(n, x, Some(importance));
    let size = |x: &f32| x.abs();
    let threshold = THRESHOLD * x.iter().map(size).sum::<f32>() / x.len().max(1) as f32;
    let above: Vec<f32> = x.iter().map(size).filter(|x| *x > threshold).collect();
    let (first, now) = (above.iter().sum::<f32>() / above.len().max(1) as f32, row.nearest(start, f32::MAX).1);
    if first > 0.0 && now > 0.0 {
        row.stretch(n, first / now);
    }
    let _rounds = (0..ROUNDS).take_while(|_| row.stretch_to(n, x, &row.values(n, x))).count();
}
