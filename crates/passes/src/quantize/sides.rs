//! Matrices whose numbers may still go to the value on the other side of what they were, and learn which of the two.

use super::sequential::{Job, SequentialError};
use super::solver::SolveError;
use codec::{Draft, DraftRow, Part};
use exec::Executor;
use graph::Model;
use rayon::prelude::*;

/// Slopes, in mean slopes, beyond which numbers move no faster.
const STEEPEST: f32 = 4.0;

/// A matrix whose codes are learned.
pub(super) struct Sides {
    pub job: Job,
    draft: Draft,
    /// The two codes that each number can take, the chosen one first, and what they stand for.
    codes: [Vec<u8>; 2],
    values: [Vec<f32>; 2],
    /// How far each number is on its way from the first to the second.
    position: Vec<f32>,
}

impl Sides {
    /// `source`: what the matrix should be, `parts`: what it is.
    pub fn open(source: &Model, job: Job, parts: &[Part]) -> Result<Sides, SequentialError> {
        let weight = source.weights.get(job.weight);
        let (rows, cols) = (weight.rows(), weight.cols());
        let original = weight.read()?;
        weight.source.release(0..rows);
        let codec = |source| SolveError::Codec { weight: weight.name.clone(), source };
        let mut draft = Draft::open(job.encoding, rows, cols, parts).map_err(codec)?;
        let mut choices = vec![Choice::default(); rows * cols];
        let each = choices.par_chunks_mut(cols.max(1)).zip(original.par_chunks(cols.max(1)));
        draft.rows().into_par_iter().zip(each).for_each(|(mut row, (out, x))| {
            let codes = row.codes().to_vec();
            out.iter_mut().enumerate().for_each(|(j, out)| *out = Choice::of(&row, j, codes[j], x[j]));
        });
        let side = |n: usize| choices.iter().map(|c| c.codes[n]).collect();
        let value = |n: usize| choices.iter().map(|c| c.values[n]).collect();
        Ok(Sides {
            job,
            draft,
            codes: [side(0), side(1)],
            values: [value(0), value(1)],
            position: choices.iter().map(|c| c.position).collect(),
        })
    }

    /// Gives an executor the numbers that are chosen now.
    pub fn show(&self, executor: &mut Executor<f32>) -> Result<(), exec::Error> {
        let held = executor.weights_mut().full_mut(self.job.weight)?;
        held.par_iter_mut().enumerate().for_each(|(j, w)| *w = self.values[self.side(j)][j]);
        Ok(())
    }

    /// Which of its two values a number takes.
    fn side(&self, j: usize) -> usize {
        usize::from(self.position[j] > 0.5)
    }

    /// Moves every number against its gradient; `rate` moves one of mean slope by so much of the way.
    pub fn step(&mut self, grad: &[f32], rate: f32) {
        let [first, second] = &self.values;
        let slopes = || first.iter().zip(second).zip(grad).map(|((first, second), grad)| grad * (second - first));
        let mean = (slopes().map(|s| f64::from(s.abs())).sum::<f64>() / grad.len().max(1) as f64) as f32;
        if mean > 0.0 {
            let steps = slopes().map(|slope| rate * (slope / mean).clamp(-STEEPEST, STEEPEST));
            self.position.iter_mut().zip(steps).for_each(|(p, step)| *p = (*p - step).clamp(0.0, 1.0));
        }
    }

    /// The bytes with the sides that were chosen.
    pub fn finish(mut self, source: &Model) -> Result<Vec<Part>, SequentialError> {
        let chosen: Vec<u8> = (0..self.position.len()).map(|j| self.codes[self.side(j)][j]).collect();
        let name = &source.weights.get(self.job.weight).name;
        for (mut row, chosen) in
            self.draft.rows().into_iter().zip(chosen.chunks(source.weights.get(self.job.weight).cols()))
        {
            row.codes().copy_from_slice(chosen);
        }
        let codec = |source| SolveError::Codec { weight: name.clone(), source };
        Ok(self.draft.finish().map_err(codec)?)
    }
}

/// What a number can become.
#[derive(Clone, Copy, Default)]
struct Choice {
    codes: [u8; 2],
    values: [f32; 2],
    position: f32,
}

/// Doublings of the distance at which the next value is looked for.
const REACH: usize = 24;

impl Choice {
    /// The code it has, and the next one on the way to what it was.
    fn of(row: &DraftRow<'_>, col: usize, code: u8, x: f32) -> Choice {
        let value = row.value(col, code);
        let none = Choice { codes: [code; 2], values: [value; 2], position: 0.0 };
        let first = (value.abs().max(x.abs()) * 1e-3).max(f32::MIN_POSITIVE).copysign(x - value);
        let probes = (0..REACH).map(|n| row.nearest(col, value + first * (1 << n) as f32));
        let Some((other, far)) = probes.into_iter().find(|(_, far)| *far != value) else { return none };
        let position = ((x - value) / (far - value)).clamp(0.0, 0.49);
        Choice { codes: [code, other], values: [value, far], position }
    }
}
