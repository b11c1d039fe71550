//! # AWQ: scales that protect what matters
//!
//! **What it does.** Multiplies the columns of matrices by `s = rms(x)^α`, and divides what they read by it, so that the
//! columns whose inputs are large are rounded more finely than the others. α, and whether the mean size of the weights
//! is divided out (`s = rms(x)^α / mean|w|^(1−α)`), are searched: each candidate is really encoded, by the encoding and
//! the method that will be used, and its error is that of the layer's output, `tr((Ŵ−W)·H·(Ŵ−W)ᵀ)`. No scaling is one of
//! the candidates, so the error never grows.
//!
//! **When to use.** Before any method below eight bits; most with groups of 64 and more, and with `search`.
//!
//! **What it costs.** Two times twenty encodings of some rows of each matrix, with the method chosen: for `gptq` that is
//! a factorization of the Hessian for each. One more run of the model over the text.
//!
//! **What it needs.** `XᵀX` of the inputs.
//!
//! **Numbers.** `bench/README.md`.
//!
//! **Paper.** Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han: AWQ, MLSys 2024 (arXiv 2306.00978); dividing out the
//! weights is AutoAWQ's `duo_scaling`.
//!
//! **Differences.** The error comes from the Hessian, not from running the layer again. The mean square stands for the mean magnitude.
//! At most `ROWS` rows of a matrix are tried. Clipping is not a second search: methods search it as they choose scales.

use super::{Reader, Scaling};
use crate::partners::Fold;
use crate::quantize::solver::{Problem, SolveError, solver};
use calib::{Depth, Inputs};
use codec::{Encoding, Matrix};
use kernels::{MatMut, MatRef, Write, matmul};
use plan::Method;

/// See the module.
pub struct Awq;

/// Values of α between 0 and 1.
const STEPS: u8 = 20;
/// Rows of a matrix that candidates are tried on.
const ROWS: usize = 128;
/// Scales lie within so many times of each other's middle, up and down.
const SPREAD: f32 = 1e4;

impl Scaling for Awq {
    fn needs(&self) -> Depth {
        Depth::Hessian
    }

    fn scale(&self, fold: &Fold, readers: &[Reader], inputs: &Inputs) -> Result<Vec<f32>, SolveError> {
        let none = vec![1.0; inputs.width()];
        let trials = trials(readers)?;
        let error =
            |scale: &[f32]| trials.iter().try_fold(0.0, |sum, t| Ok::<_, SolveError>(sum + t.error(scale, inputs)?));
        if inputs.tokens() == 0 || inputs.not_finite().is_some() {
            return Ok(none);
        }
        let mut best = (error(&none)?, none);
        for scale in candidates(fold, &trials, inputs) {
            let error = error(&scale)?;
            if error < best.0 {
                best = (error, scale);
            }
        }
        Ok(best.1)
    }
}

/// Rows of the matrices that will be encoded in the same way.
struct Trial {
    name: String,
    encoding: Encoding,
    method: Method,
    cols: usize,
    data: Vec<f32>,
}

/// Rows at even distances from all readers.
fn trials(readers: &[Reader]) -> Result<Vec<Trial>, SolveError> {
    let mut trials: Vec<Trial> = Vec::new();
    for Reader { weight, encoding, method } in readers {
        let (rows, cols) = (weight.rows(), weight.cols());
        let all = weight.read()?;
        let taken = rows.min(ROWS);
        let data = (0..taken).flat_map(|i| &all[i * rows / taken * cols..][..cols]).copied();
        match trials.iter_mut().find(|t| t.encoding == *encoding && t.method == *method) {
            Some(trial) => trial.data.extend(data),
            None => {
                let data = data.collect();
                trials.push(Trial { name: weight.name.clone(), encoding: *encoding, method: *method, cols, data });
            }
        }
    }
    Ok(trials)
}

/// Scales to try: two families, each with every α.
fn candidates(fold: &Fold, trials: &[Trial], inputs: &Inputs) -> Vec<Vec<f32>> {
    let mut x: Vec<f32> = inputs.importance().iter().map(|x| x.sqrt()).collect();
    let mut w = vec![0f32; x.len()];
    for row in trials.iter().flat_map(|t| t.data.chunks_exact(t.cols.max(1))) {
        let mean = row.iter().map(|v| v.abs()).sum::<f32>() / row.len().max(1) as f32;
        w.iter_mut().zip(row).for_each(|(sum, v)| *sum += v.abs() / mean.max(f32::MIN_POSITIVE));
    }
    fold.share(&mut x, f32::max);
    fold.share(&mut w, f32::max);
    let at = |alpha: f32, beta: f32| middled(x.iter().zip(&w).map(|(x, w)| x.powf(alpha) / w.powf(beta)).collect());
    let steps = (0..=STEPS).map(|i| f32::from(i) / f32::from(STEPS));
    steps.flat_map(|alpha| [at(alpha, 0.0), at(alpha, 1.0 - alpha)]).collect()
}

/// Scales around one, none of them extreme; those that are no positive numbers become one.
fn middled(mut scale: Vec<f32>) -> Vec<f32> {
    let good = |s: &f32| s.is_finite() && *s > 0.0;
    let (least, most) =
        scale.iter().filter(|s| good(s)).fold((f32::INFINITY, 0f32), |(a, b), s| (a.min(*s), b.max(*s)));
    let middle = least.sqrt() * most.sqrt();
    scale.iter_mut().for_each(|s| *s = if good(s) { (*s / middle).clamp(1.0 / SPREAD, SPREAD) } else { 1.0 });
    scale
}

impl Trial {
    /// The error of the output when columns are scaled so before they are encoded.
    fn error(&self, scale: &[f32], inputs: &Inputs) -> Result<f64, SolveError> {
        let inputs = inputs.divided(scale);
        let data: Vec<f32> = self.data.iter().zip(scale.iter().cycle()).map(|(w, s)| w * s).collect();
        let (rows, cols) = (data.len() / self.cols.max(1), self.cols);
        let matrix = Matrix { rows, cols, data: &data };
        let problem = Problem { name: &self.name, matrix, encoding: self.encoding, inputs: Some(&inputs), whole: None };
        let parts = match solver(self.method) {
            Some(solver) => solver.solve(&problem)?.parts,
            None => self.encoding.encode(matrix, None).map_err(|e| problem.codec(e))?,
        };
        let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
        let mut lost = self.encoding.decode(rows, cols, find).map_err(|e| problem.codec(e))?;
        lost.iter_mut().zip(&data).for_each(|(q, w)| *q -= w);
        Ok(inputs.hessian().map_or(0.0, |hessian| quadratic(&lost, hessian, cols)))
    }
}

/// `tr(E·H·Eᵀ)`.
fn quadratic(error: &[f32], hessian: &[f32], cols: usize) -> f64 {
    let rows = error.len() / cols.max(1);
    let mut product = vec![0.0; error.len()];
    let out = MatMut::new(&mut product, rows, cols);
    matmul(1.0, MatRef::new(error, rows, cols), MatRef::new(hessian, cols, cols), out, Write::Set);
    product.iter().zip(error).map(|(p, e)| f64::from(p * e)).sum()
}
