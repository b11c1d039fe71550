//! # PTQTP: two ternary planes
//!
//! **What it does.** Writes each group as `α·(3·T₁ + T₂)`, two planes of −1, 0 and 1 whose scales are tied: nine even
//! levels, −4 to 4. Topology (which of the nine) and scale (least squares) are chosen in turn until nothing moves. A
//! runtime with ternary kernels can multiply by the two planes without one multiplication.
//!
//! **When to use.** For such a runtime. In bytes the levels are stored as codes of four bits, so error feedback at int4,
//! which uses all sixteen, is better at the same size.
//!
//! **What it costs.** As much as searching scales; no data. Memory: a few rows.
//!
//! **What it needs.** An encoding of even, symmetric levels of four bits or more.
//!
//! **Numbers.** Relative error on normal weights in groups of 128: 0.167, between 3 bits (0.216) and 4 bits (0.101).
//!
//! **Paper.** PTQTP: Post-Training Quantization to Trit-Planes (arXiv 2509.16989).
//!
//! **Differences.** Scales are tied (`α₁ = 3α₂`), as no container holds two planes with scales of their own; free scales
//! were no better in an independent implementation. Tied, the ridge that theirs needs where planes coincide is not needed.

use super::round;
use codec::{CodecError, DraftRow, Encoding, Matrix, Part};

/// Rounds at most, as in the paper.
const ROUNDS: usize = 50;
/// The outermost level.
const OUTER: f32 = 4.0;

/// Encodes rows, each span by itself.
pub fn encode(encoding: &Encoding, matrix: Matrix<'_>, importance: Option<&[f32]>) -> Result<Vec<Part>, CodecError> {
    round::encode_spans(encoding, matrix, importance, fit)
}

/// Chooses scale and codes of the `n`-th span, which begins at column `start`.
fn fit(row: &mut DraftRow<'_>, n: usize, start: usize, x: &[f32]) {
    row.fit(n, x, None);
    let amax = x.iter().fold(0f32, |m, x| m.max(x.abs()));
    let step = step(row, start);
    if step > 0.0 && amax > 0.0 {
        row.stretch(n, amax / (OUTER * step));
    }
    let _rounds = (0..ROUNDS).take_while(|_| row.stretch_to(n, x, &row.values(n, &held(row, start, x)))).count();
    for (i, x) in held(row, start, x).into_iter().enumerate() {
        row.round(start + i, x);
    }
}

/// Distance between levels: from the value nearest to zero to the next code.
fn step(row: &DraftRow<'_>, col: usize) -> f32 {
    let (code, zero) = row.nearest(col, 0.0);
    (row.value(col, code.saturating_add(1)) - zero).abs()
}

/// The numbers, none of them beyond the nine levels.
fn held(row: &DraftRow<'_>, start: usize, x: &[f32]) -> Vec<f32> {
    let outer = OUTER * step(row, start);
    x.iter().map(|x| x.clamp(-outer, outer)).collect()
}
