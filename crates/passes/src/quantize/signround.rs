//! # Learned rounding
//!
//! **What it does.** When all matrices of a block have codes ([descent](super::descent) chose them), every number may
//! still go to the value on the other side of what it was. Which of the two it takes is learned: the block runs over
//! calibration text as the compressed model feeds it, its outputs are compared with those of the original, and gradients
//! move every number along the way from one value to the other; past the middle it changes sides. Every token counts
//! alike: its error is taken relative to the power of its row, which is how the norms behind will see it.
//!
//! **When to use.** Where a file's quality is worth minutes per block: it is the only method here that sees through
//! attention, activations and norms.
//!
//! **What it costs.** `STEPS` batches of 1,024 tokens forward and backward per block, beside descent. Memory: the block
//! in f32 with its gradients, two values, two codes and a position per number, the activations of a batch, and what goes
//! into the block kept a second time.
//!
//! **What it needs.** Calibration text, and the original beside the compressed model.
//!
//! **Paper.** Cheng et al.: Optimize Weight Rounding via Signed Gradient Descent (SignRound, arXiv 2309.05516), the
//! method of AutoRound.
//!
//! **Differences.** Begins at descent's codes instead of rounding; scales are descent's and stay. Steps are as long as
//! gradients are (relative to their mean in the matrix, cut) instead of all alike, which was better from
//! such a start. The result is kept only where it lowers the block's error on all of the text; where descent left little,
//! as in first blocks, it often does not, and the report says so.

use super::sequential::{SequentialError, Solved};
use super::sides::Sides;
use exec::{Data, Executor, Grads, Tensor, Values};
use graph::{Graph, Model, ValueId};
use rayon::prelude::*;
use std::ops::Range;

/// Batches that a block learns from.
const STEPS: usize = 200;
/// How far the first batch moves a number of mean slope, in steps of which `STEPS` lead from one value to the other.
const RATE: f32 = 0.25;

/// What goes into a block in a batch, and what should come out.
pub(super) struct Example {
    pub inputs: Values<f32>,
    pub wanted: Values<f32>,
}

/// Gives the examples of a block by number.
pub(super) type Examples<'a> = &'a mut dyn FnMut(usize) -> Result<Example, SequentialError>;

/// A block at work.
struct Block<'a> {
    executor: Executor<f32>,
    nodes: Range<usize>,
    matrices: Vec<Sides>,
    examples: Examples<'a>,
    count: usize,
}

/// Learns the codes of the matrices of a block again, in place. `source`: what they should be, `model`: what they are.
pub(super) fn learn(
    (source, model, graph): (&Model, &Model, &Graph),
    nodes: &Range<usize>,
    solved: &mut [Solved],
    count: usize,
    examples: Examples<'_>,
) -> Result<(), SequentialError> {
    let matrices = solved.iter().map(|s| Sides::open(source, s.job, &s.parts)).collect::<Result<Vec<_>, _>>()?;
    let mut executor =
        Executor::new(graph, &model.weights, exec::Options::default()).map_err(calib::LaneError::from)?;
    executor.train_only(|id| matrices.iter().any(|m| m.job.weight == id));
    let mut block = Block { executor, nodes: nodes.clone(), matrices, examples, count };
    let before = block.error()?;
    block.descend()?;
    let after = block.error()?;
    let note =
        format!("learned rounding: relative squared error of the block's outputs {before:.3e}, then {after:.3e}");
    if let Some(first) = solved.first_mut() {
        first.notes.push(if after < before { note } else { format!("{note}: not kept") });
    }
    if after < before {
        for (matrix, solved) in block.matrices.into_iter().zip(solved) {
            solved.parts = matrix.finish(source)?;
        }
    }
    Ok(())
}

impl Block<'_> {
    /// Mean squared error of the outputs over all examples, relative to the power of each row.
    fn error(&mut self) -> Result<f64, SequentialError> {
        self.show()?;
        let (mut sum, mut elements) = (0.0, 0);
        for n in 0..self.count {
            let example = (self.examples)(n)?;
            let out = self.executor.run_range(self.nodes.clone(), example.inputs).map_err(calib::LaneError::from)?;
            for (_, error, power) in errors(&out, &example.wanted) {
                let rows = error.data().chunks_exact(error.width().max(1)).zip(&power);
                sum += rows.map(|(row, power)| kernels::sum_squares(row) / f64::from(*power)).sum::<f64>();
                elements += error.data().len();
            }
            self.executor.recycle(out);
        }
        Ok(sum / elements.max(1) as f64)
    }

    /// Moves every number against its gradient, ever less.
    fn descend(&mut self) -> Result<(), SequentialError> {
        let mut grads = Grads::default();
        for step in 0..STEPS {
            self.show()?;
            grads.zero();
            self.backward(step % self.count, &mut grads)?;
            let rate = RATE * (STEPS - step) as f32 / (STEPS * STEPS) as f32;
            for matrix in &mut self.matrices {
                if let Some(grad) = grads.get(matrix.job.weight) {
                    matrix.step(grad, rate);
                }
            }
        }
        Ok(())
    }

    fn backward(&mut self, n: usize, grads: &mut Grads<f32>) -> Result<(), SequentialError> {
        let example = (self.examples)(n)?;
        let run = self.executor.run_range_taped(self.nodes.clone(), example.inputs);
        let (out, tape) = run.map_err(calib::LaneError::from)?;
        let half = |(id, mut error, power): (ValueId, Tensor, Vec<f32>)| {
            let width = error.width().max(1);
            let rows = error.data_mut().chunks_exact_mut(width).zip(power);
            rows.for_each(|(row, power)| row.iter_mut().for_each(|e| *e /= power));
            (id, error)
        };
        let errors = errors(&out, &example.wanted).map(half).collect();
        self.executor.recycle(out);
        self.executor.backward_range(self.nodes.clone(), tape, errors, &[], grads).map_err(calib::LaneError::from)?;
        Ok(())
    }

    /// Gives the executor the numbers that are chosen now.
    fn show(&mut self) -> Result<(), SequentialError> {
        self.matrices.iter().try_for_each(|matrix| matrix.show(&mut self.executor)).map_err(calib::LaneError::from)?;
        Ok(())
    }
}

/// How far what came out is from what was wanted, and the mean square of each row of that.
fn errors<'a>(
    out: &'a Values<f32>,
    wanted: &'a Values<f32>,
) -> impl Iterator<Item = (ValueId, Tensor, Vec<f32>)> + use<'a> {
    out.iter().filter_map(|(id, out)| {
        let (out, wanted) = (out.float()?, wanted.get(id).and_then(Data::float)?);
        let difference = out.data().par_iter().zip(wanted.data()).map(|(a, b)| a - b).collect();
        let width = out.width().max(1);
        let power = |row: &[f32]| ((kernels::sum_squares(row) / width as f64) as f32).max(f32::MIN_POSITIVE);
        let powers = wanted.data().chunks_exact(width).map(power).collect();
        Some((*id, Tensor::new(out.shape().to_vec(), difference).ok()?, powers))
    })
}
