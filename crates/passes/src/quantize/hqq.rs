//! # HQQ: half-quadratic quantization
//!
//! **What it does.** Chooses scales and zero points without data: it looks for those under which the errors of the
//! weights are few and large rather than many and small (the sum of `|w − ŵ|^P`, `P < 1`, is least). In turn errors are
//! shrunk towards zero to `e`, and scales chosen for `w − e`: the few numbers that fit badly stop pulling at the scale.
//!
//! **When to use.** Where there is no calibration text, below five bits. With text, error feedback is better.
//!
//! **What it costs.** Some tens of searches of scales, so about that many times what rounding costs. Memory: a few rows.
//!
//! **What it needs.** Nothing but the weights.
//!
//! **Paper.** Badri, Shaji: Half-Quadratic Quantization of Large Machine Learning Models, 2023
//! (<https://mobiusml.github.io/hqq_blog/>); `P` and the schedule of `β` are theirs.
//!
//! **Differences.** Theirs moves the zero point under a fixed scale; here the encoding itself chooses both for `w − e`,
//! and stretches them by least squares, so that the method works where there is no zero point, and in block formats, whose
//! scales have scales. Of all rounds the best by the objective is kept, per span.

use super::round;
use codec::{CodecError, DraftRow, Encoding, Matrix, Part};

/// The exponent `P` of the objective.
const POWER: f32 = 0.7;
/// Where `β`, the weight of the quadratic half, begins, in units of the span's root mean square.
const BETA: f32 = 10.0;
/// Its growth per round.
const GROWTH: f32 = 1.01;
/// Rounds.
const ROUNDS: usize = 20;

/// Encodes rows, each span by itself.
pub fn encode(encoding: &Encoding, matrix: Matrix<'_>, importance: Option<&[f32]>) -> Result<Vec<Part>, CodecError> {
    round::encode_spans(encoding, matrix, importance, fit)
}

/// Chooses scales and codes of the `n`-th span, which begins at column `start`.
fn fit(row: &mut DraftRow<'_>, n: usize, start: usize, x: &[f32]) {
    row.fit(n, x, None);
    let mut best = (objective(row, n, x), row.scales(n));
    let unit = (x.iter().map(|x| x * x).sum::<f32>() / x.len().max(1) as f32).sqrt().max(f32::MIN_POSITIVE);
    let mut beta = BETA;
    for _ in 0..ROUNDS {
        let values = row.values(n, x);
        let target: Vec<f32> =
            x.iter().zip(values).map(|(x, value)| x - unit * shrink((x - value) / unit, beta)).collect();
        row.fit(n, &target, None);
        // Some encoders only look at the largest number, which always fits.
        row.stretch_to(n, &target, &row.values(n, &target));
        let objective = objective(row, n, x);
        if objective < best.0 {
            best = (objective, row.scales(n));
        }
        beta *= GROWTH;
    }
    row.restore(n, &best.1);
    for (i, x) in x.iter().enumerate() {
        row.round(start + i, *x);
    }
}

/// The generalized soft threshold: `sign(e) · max(|e| − |e|^(P − 1) / β, 0)`.
fn shrink(e: f32, beta: f32) -> f32 {
    let size = e.abs();
    if size == 0.0 { 0.0 } else { e.signum() * (size - size.powf(POWER - 1.0) / beta).max(0.0) }
}

/// The sum of `|w − ŵ|^P` of a span.
fn objective(row: &DraftRow<'_>, n: usize, x: &[f32]) -> f32 {
    x.iter().zip(row.values(n, x)).map(|(x, value)| (x - value).abs().powf(POWER)).sum()
}
