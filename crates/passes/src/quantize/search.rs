//! # Rounding under searched scales
//!
//! **What it does.** Searches the scales of every group for the least squared error of the layer's output, inputs taken
//! as independent: an error in a column weighs as much as the mean square of that column's inputs. Then every number
//! goes to the nearest value.
//!
//! **When to use.** Where calibration text is at hand but time or memory for a Hessian is not; it is what an importance
//! matrix does for llama.cpp's formats.
//!
//! **What it costs.** One run of the model over the text, and the search. Memory: one number per column.
//!
//! **Paper.** None; llama.cpp's importance matrix (<https://github.com/ggml-org/llama.cpp/pull/4861>).
//!
//! **Differences.** Packed formats are searched as well, by clipping their range.

use super::solver::{Problem, Solution, SolveError, Solver};
use codec::Draft;
use plan::Method;
use rayon::prelude::*;

/// See the module.
pub struct Search;

impl Solver for Search {
    fn scratch(&self, _: usize, cols: usize) -> u64 {
        4 * cols as u64
    }

    fn solve(&self, problem: &Problem<'_>) -> Result<Solution, SolveError> {
        let importance = problem.known(Method::Search)?.importance();
        let mut draft = Draft::new(problem.encoding, problem.matrix, problem.whole).map_err(|e| problem.codec(e))?;
        let (span, cols) = (draft.span(), problem.matrix.cols);
        let rows = problem.matrix.data.par_chunks_exact(cols.max(1));
        draft.rows().into_par_iter().zip(rows).for_each(|(mut row, x)| {
            for (n, (x, importance)) in x.chunks(span).zip(importance.chunks(span)).enumerate() {
                row.fit(n, x, Some(importance));
                x.iter().enumerate().for_each(|(i, x)| {
                    row.round(n * span + i, *x);
                });
            }
        });
        Ok(Solution { parts: draft.finish().map_err(|e| problem.codec(e))?, notes: Vec::new() })
    }
}
