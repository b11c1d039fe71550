//! # Coordinate descent on codes and scales
//!
//! **What it does.** Starts from [GPTQ](super::gptq)'s codes and lowers the squared error of the layer's output further.
//! One number after the other goes to the value that is best while all others stay; then the scales of each span are
//! stretched to their least-squares optimum under the Hessian, the codes staying; and again.
//!
//! **When to use.** Where a file's quality is worth more than the time it takes to make.
//!
//! **What it costs.** Beside GPTQ, `rows · cols²` multiply–adds for the gradient, and about as much per round for numbers
//! that move and scales. Memory: the damped Hessian, the error and its gradient.
//!
//! **What it needs.** What GPTQ needs.
//!
//! **Papers.** Behdin et al.: QuantEase (arXiv 2309.01885); Nair, Suggala: CDQuant (arXiv 2406.17542).
//!
//! **Differences.** Columns are visited in their order, rows apart from each other. Scales are stretched too, in block
//! formats by their `f16` scales alone. No step is taken that does not lower the damped error, so the result is never
//! worse than GPTQ's by it.

use super::gptq::Gptq;
use super::solver::{Problem, Solution, SolveError, Solver};
use calib::Inputs;
use codec::{Draft, DraftRow};
use kernels::{MatMut, MatRef, Write, matmul, scale};
use plan::Method;
use rayon::prelude::*;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descent {
    gptq: Gptq,
}

/// Rounds at most.
const ROUNDS: usize = 8;
/// Rows of a task.
const ROWS: usize = 32;

impl Solver for Descent {
    fn scratch(&self, rows: usize, cols: usize) -> u64 {
        let tasks = (rayon::current_num_threads() * ROWS * cols * 12) as u64;
        self.gptq.scratch(rows, cols).max(4 * (cols * cols) as u64 + tasks)
    }

    fn solve(&self, problem: &Problem<'_>) -> Result<Solution, SolveError> {
        solve(&self.gptq, problem, Method::Descent)
    }
}

/// Error feedback, and descent from there.
pub(super) fn solve(gptq: &Gptq, problem: &Problem<'_>, method: Method) -> Result<Solution, SolveError> {
    let inputs = problem.known(method)?;
    let (mut draft, notes) = gptq.draft(problem)?;
    let hessian = damped(inputs, gptq.damping).ok_or_else(|| problem.none(method))?;
    descend(&mut draft, problem.matrix.data, &hessian);
    Ok(Solution { parts: draft.finish().map_err(|e| problem.codec(e))?, notes })
}

/// The Hessian with `damping` times its mean diagonal added to the diagonal.
fn damped(inputs: &Inputs, damping: f32) -> Option<Vec<f32>> {
    let (mut hessian, n) = (inputs.hessian()?.to_vec(), inputs.width());
    let mean = (0..n).map(|j| f64::from(hessian[j * n + j])).sum::<f64>() / n.max(1) as f64;
    let added = (damping * mean as f32).max(f32::MIN_POSITIVE);
    (0..n).for_each(|j| hessian[j * n + j] += added);
    Some(hessian)
}

/// Lowers the error of a draft whose scales and codes are chosen. `x`: the matrix, `hessian`: positive on its diagonal.
fn descend(draft: &mut Draft, x: &[f32], hessian: &[f32]) {
    let span = draft.span();
    let mut rows = draft.rows();
    let cols = rows.first_mut().map_or(1, |row| row.codes().len()).max(1);
    rows.par_chunks_mut(ROWS).zip(x.par_chunks(ROWS * cols)).for_each(|(rows, x)| {
        let mut values: Vec<f32> = rows.iter_mut().flat_map(values).collect();
        let error: Vec<f32> = values.iter().zip(x).map(|(value, x)| value - x).collect();
        let mut gradient = vec![0.0; error.len()];
        let (error, hessian_of) = (MatRef::new(&error, rows.len(), cols), MatRef::new(hessian, cols, cols));
        matmul(1.0, error, hessian_of, MatMut::new(&mut gradient, rows.len(), cols), Write::Set);
        let states = values.chunks_exact_mut(cols).zip(gradient.chunks_exact_mut(cols));
        for (row, (values, gradient)) in rows.iter_mut().zip(states) {
            let mut state = State { row, values, gradient, hessian, span };
            let _rounds = (0..ROUNDS).take_while(|_| state.move_codes() | state.stretch_scales()).count();
        }
    });
}

fn values(row: &mut DraftRow<'_>) -> Vec<f32> {
    let codes = row.codes().to_vec();
    codes.iter().enumerate().map(|(j, code)| row.value(j, *code)).collect()
}

/// A row on its way down.
struct State<'a, 'b> {
    row: &'a mut DraftRow<'b>,
    /// What its codes stand for.
    values: &'a mut [f32],
    /// Half the gradient of its error, `H · (values − x)`.
    gradient: &'a mut [f32],
    hessian: &'a [f32],
    span: usize,
}

impl State<'_, '_> {
    /// Moves every number once to where its error is least; says whether any moved.
    fn move_codes(&mut self) -> bool {
        let n = self.values.len();
        let mut moved = false;
        for j in 0..n {
            let along = &self.hessian[j * n..][..n];
            let (code, value) = self.row.nearest(j, self.values[j] - self.gradient[j] / along[j]);
            let step = value - self.values[j];
            if step * (2.0 * self.gradient[j] + step * along[j]) < 0.0 {
                self.row.codes()[j] = code;
                self.values[j] = value;
                scale(step, along, self.gradient, Write::Add);
                moved = true;
            }
        }
        moved
    }

    /// Stretches the scales of every span to where the error is least; says whether any changed.
    fn stretch_scales(&mut self) -> bool {
        let (n, span) = (self.values.len(), self.span);
        (0..n.div_ceil(span)).fold(false, |changed, s| changed | self.stretch(s, s * span..n.min((s + 1) * span)))
    }

    fn stretch(&mut self, s: usize, columns: std::ops::Range<usize>) -> bool {
        let slope = dot(&self.values[columns.clone()], &self.gradient[columns.clone()]);
        let bend = self.bend(&self.values[columns.clone()], columns.start);
        let kept = self.row.scales(s);
        if bend.is_nan() || bend <= 0.0 || !self.row.stretch(s, 1.0 - slope / bend) {
            return false;
        }
        let codes = self.row.codes()[columns.clone()].to_vec();
        let at = |(i, code): (usize, &u8)| self.row.value(columns.start + i, *code);
        let stretched: Vec<f32> = codes.iter().enumerate().map(at).collect();
        let steps: Vec<f32> = stretched.iter().zip(&self.values[columns.clone()]).map(|(new, old)| new - old).collect();
        let change = 2.0 * dot(&steps, &self.gradient[columns.clone()]) + self.bend(&steps, columns.start);
        if change.is_nan() || change >= 0.0 {
            self.row.restore(s, &kept);
            return false;
        }
        let n = self.values.len();
        for (step, j) in steps.iter().zip(columns.clone()) {
            scale(*step, &self.hessian[j * n..][..n], self.gradient, Write::Add);
        }
        self.values[columns].copy_from_slice(&stretched);
        true
    }

    /// `v · H · v` over the columns from `start` on.
    fn bend(&self, v: &[f32], start: usize) -> f32 {
        let n = self.values.len();
        let row = |(i, x): (usize, &f32)| x * dot(v, &self.hessian[(start + i) * n + start..][..v.len()]);
        v.iter().enumerate().map(row).sum()
    }
}

/// The sum of products, in eight running sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (heads, tails) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = heads.remainder().iter().zip(tails.remainder()).map(|(a, b)| a * b).sum();
    let add = |mut sums: [f32; 8], (a, b): (&[f32], &[f32])| {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
        sums
    };
    heads.zip(tails).fold([0.0; 8], add).iter().sum::<f32>() + rest
}
