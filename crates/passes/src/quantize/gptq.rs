//! # GPTQ: error feedback
//!
//! **What it does.** Rounds the columns of a matrix one after the other; the error of each is made good, as far as the
//! Hessian of the layer's squared output error allows, by the columns that are not yet rounded. The columns that matter
//! most come first; scales are searched beforehand, weighted by importance.
//!
//! **When to use.** Below eight bits, whenever there is calibration text: it is the best there is for its cost.
//!
//! **What it costs.** `rows · cols²` multiply–adds per matrix and one factorization of `cols³ / 2`; the model runs over
//! the text twice or thrice. Memory: two squares of `cols` beside the statistics.
//!
//! **What it needs.** `XᵀX` of the inputs, from a few thousand tokens on.
//!
//! **Paper.** Frantar, Ashkboos, Hoefler, Alistarh: GPTQ, ICLR 2023 (arXiv 2210.17323); the factor is read off one
//! Cholesky decomposition of the reversed Hessian.
//!
//! **Differences.** Columns whose inputs were always zero are rounded as they are, not zeroed. Damping grows tenfold,
//! and is reported, where a Hessian is not positive definite. Columns always come by falling importance, groups staying
//! where they are (the original's `act_order` with `static_groups`), in block formats too.

use super::factor::Factor;
use super::solver::{Problem, Solution, SolveError, Solver};
use codec::{Draft, DraftRow};
use kernels::{MatMut, MatRef, Write, matmul, scale};
use plan::Method;
use rayon::prelude::*;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Gptq {
    /// Share of the mean of the Hessian's diagonal that is added to it.
    pub damping: f32,
    /// How scales are chosen beforehand.
    pub fit: Fit,
}

/// Chooses the scales of a span of a row: its number, its first column, its numbers and their importance.
pub type Fit = fn(&mut DraftRow<'_>, usize, usize, &[f32], &[f32]);

impl Default for Gptq {
    fn default() -> Gptq {
        Gptq { damping: 0.01, fit: |row, n, _, x, importance| row.fit(n, x, Some(importance)) }
    }
}

/// Columns whose errors wait before they are passed on to all columns behind.
const LAZY: usize = 128;
/// Rows of a task.
const ROWS: usize = 32;

impl Solver for Gptq {
    fn scratch(&self, rows: usize, cols: usize) -> u64 {
        Factor::bytes(cols)
            + (rows * cols * 2) as u64
            + (rayon::current_num_threads() * ROWS * (cols + LAZY) * 4) as u64
    }

    fn solve(&self, problem: &Problem<'_>) -> Result<Solution, SolveError> {
        let (draft, notes) = self.draft(problem)?;
        Ok(Solution { parts: draft.finish().map_err(|e| problem.codec(e))?, notes })
    }
}

impl Gptq {
    /// Scales and codes of a matrix, still to be changed, and what a reader of the report must know.
    pub(super) fn draft(&self, problem: &Problem<'_>) -> Result<(Draft, Vec<String>), SolveError> {
        let inputs = problem.known(Method::Gptq)?;
        let singular = || SolveError::Singular { weight: problem.name.into() };
        let importance = inputs.importance();
        let factor = Factor::new(inputs, order(&importance), self.damping).ok_or_else(singular)?;
        let mut draft = Draft::new(problem.encoding, problem.matrix, problem.whole).map_err(|e| problem.codec(e))?;
        let walk = Walk { factor: &factor, importance: &importance, span: draft.span(), fit: self.fit };
        let cols = problem.matrix.cols.max(1);
        let tasks = problem.matrix.data.par_chunks(ROWS * cols);
        draft.rows().par_chunks_mut(ROWS).zip(tasks).for_each(|(rows, x)| walk.run(rows, x));
        Ok((draft, self.notes(&factor)))
    }

    fn notes(&self, factor: &Factor) -> Vec<String> {
        let damped = factor.damping != self.damping;
        let damped = damped.then(|| format!("the Hessian is nearly singular: damping raised to {}", factor.damping));
        let dead =
            (factor.dead > 0).then(|| format!("{} columns saw only zeros: rounded without feedback", factor.dead));
        damped.into_iter().chain(dead).collect()
    }
}

/// Columns in the order in which they are rounded: those whose errors matter most first.
fn order(importance: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..importance.len()).collect();
    order.sort_by(|a, b| importance[*b].total_cmp(&importance[*a]));
    order
}

/// What all rows share.
struct Walk<'a> {
    factor: &'a Factor,
    importance: &'a [f32],
    span: usize,
    fit: Fit,
}

impl Walk<'_> {
    /// Rounds some rows of the matrix, `x`.
    fn run(&self, rows: &mut [DraftRow<'_>], x: &[f32]) {
        let n = self.factor.order.len();
        self.fit(rows, x);
        let mut w: Vec<f32> = x.chunks_exact(n).flat_map(|x| self.factor.order.iter().map(|j| x[*j])).collect();
        let mut errors = vec![0.0; rows.len() * LAZY];
        for start in (0..n).step_by(LAZY) {
            let end = n.min(start + LAZY);
            for ((row, w), errors) in rows.iter_mut().zip(w.chunks_exact_mut(n)).zip(errors.chunks_exact_mut(LAZY)) {
                self.columns(row, w, start..end, errors);
            }
            self.pass_on(&mut w, &errors, start..end);
        }
    }

    /// Scales of all spans, from the numbers as they are.
    fn fit(&self, rows: &mut [DraftRow<'_>], x: &[f32]) {
        for (row, x) in rows.iter_mut().zip(x.chunks_exact(self.importance.len())) {
            let spans = x.chunks(self.span).zip(self.importance.chunks(self.span));
            spans.enumerate().for_each(|(n, (x, importance))| (self.fit)(row, n, n * self.span, x, importance));
        }
    }

    /// Rounds columns of one row; within them errors are passed on at once.
    fn columns(&self, row: &mut DraftRow<'_>, w: &mut [f32], columns: std::ops::Range<usize>, errors: &mut [f32]) {
        let first = columns.start;
        for j in columns.clone() {
            let value = row.round(self.factor.order[j], w[j]);
            let along = self.factor.row(j);
            let error = (w[j] - value) / along[0];
            errors[j - first] = error;
            let rest = &mut w[j + 1..columns.end];
            scale(-error, &along[1..][..rest.len()], rest, Write::Add);
        }
    }

    /// Passes the errors of some columns on to all behind them.
    fn pass_on(&self, w: &mut [f32], errors: &[f32], columns: std::ops::Range<usize>) {
        let n = self.factor.order.len();
        let (behind, rows) = (n - columns.end, w.len() / n);
        if behind == 0 {
            return;
        }
        let errors = MatRef::with_stride(errors, rows, columns.len(), LAZY);
        let along =
            MatRef::with_stride(&self.factor.upper[columns.start * n + columns.end..], columns.len(), behind, n);
        matmul(-1.0, errors, along, MatMut::with_stride(&mut w[columns.end..], rows, behind, n), Write::Add);
    }
}
