//! Zeros while a network learns: those of a sparse matrix stay, and more may come with every step.
//!
//! **What it does.** Where a tenth of a matrix is zero when training begins, its zeros stay; of one on a grid, half: rounding makes
//! zeros of its own. Under a [`Masking`] the share of zeros
//! grows with the steps; a number that is zero keeps what it was, runs as zero, does not learn, and may come back:
//!
//! | by | which go | score |
//! |---|---|---|
//! | `magnitude` | the smallest | `|w|` of the number, as it was before it went |
//! | `movement` | those that training moves towards zero | `Σ −w·∂L/∂w` over all steps so far |
//!
//! ```text
//! share(t) = zeros · (1 − (1 − t / 0.7 T)³) until 0.7 T, then zeros
//! ```
//!
//! The share is a pure function of the step, and the mask one of the share and the scores, so a resumed run goes on as the killed one.
//!
//! **When to use.** Where there are labelled samples: movement for a network that learns something new, magnitude for one that recovers
//! what it knew.
//! **What it costs.** A selection over every matrix at each step, and a copy of it; movement one more for the scores.
//! **Numbers.** `bench/recovery`.
//! **Paper.** Zhu and Gupta 2017, *To prune, or not to prune* (arXiv 1710.01878), for magnitude and the cubic; Sanh et al. 2020,
//! *Movement Pruning* (arXiv 2005.07683), hard movement.
//! **Differences from the paper.** Scores are sums of `−w·∂L/∂w`, not learned at a rate of their own: with gradient descent that is the
//! same order. Of magnitude, numbers that went may come back.

use crate::learner::{State, Unfit};
use crate::optimizer::Moments;
use exec::{Error, Executor, Grads};
use graph::{WeightId, WeightStore};

/// Which numbers become zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskBy {
    /// The smallest.
    Magnitude,
    /// Those that move towards zero.
    Movement,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Masking {
    /// Matrices, none of them on grids.
    pub weights: Vec<WeightId>,
    /// Share of each that is zero at the end.
    pub zeros: f64,
    /// Which.
    pub by: MaskBy,
}

/// Share of the steps over which zeros come; in the rest what is left settles.
const RAMP: f64 = 0.7;
/// A matrix of which at least this share is zero is sparse on purpose.
const SPARSE: f64 = 0.1;
/// The same of one on a grid.
const SPARSE_ON_GRID: f64 = 0.5;

impl Masking {
    /// The share of zeros after a step, counted from 1, of so many.
    pub fn share(&self, step: usize, steps: usize) -> f64 {
        let t = (step as f64 / (RAMP * steps.max(1) as f64)).min(1.0);
        self.zeros * (1.0 - (1.0 - t).powi(3))
    }
}

/// A matrix whose zeros change.
struct Masked {
    id: WeightId,
    name: String,
    /// Its numbers, those that run as zero too.
    exact: Vec<f32>,
    /// What movement sums.
    scores: Vec<f32>,
    kept: Vec<bool>,
}

/// All masks of a run.
#[derive(Default)]
pub(crate) struct Masks {
    masking: Option<(Masking, usize)>,
    masked: Vec<Masked>,
    /// Zeros that stay, by matrix.
    held: Vec<(WeightId, Vec<usize>)>,
}

impl Masks {
    /// Holds the zeros of a store's sparse matrices; under a masking more come over so many steps.
    pub fn of(executor: &mut Executor, store: &WeightStore, masking: Option<(Masking, usize)>) -> Result<Masks, Error> {
        let mut masks = Masks::default();
        for (id, weight) in store.iter().filter(|(_, weight)| weight.shape.len() > 1) {
            let numbers = executor.weights_mut().full_mut(id)?;
            if masking.as_ref().is_some_and(|(masking, _)| masking.weights.contains(&id)) {
                let (scores, kept) = (vec![0.0; numbers.len()], vec![true; numbers.len()]);
                masks.masked.push(Masked { id, name: weight.name.clone(), exact: numbers.to_vec(), scores, kept });
                continue;
            }
            let zeros: Vec<usize> = (0..numbers.len()).filter(|at| numbers[*at] == 0.0).collect();
            let least = if store.grid(id).is_some() { SPARSE_ON_GRID } else { SPARSE };
            if zeros.len() as f64 >= least * numbers.len() as f64 {
                masks.held.push((id, zeros));
            }
        }
        Ok(Masks { masking, ..masks })
    }

    /// How many zeros stay.
    pub fn held(&self) -> usize {
        self.held.iter().map(|(_, zeros)| zeros.len()).sum()
    }

    /// Before a step: scores move, and what is zero gets no gradient.
    pub fn before(&mut self, grads: &mut Grads) {
        for (id, zeros) in &self.held {
            grads.get_mut(*id).into_iter().for_each(|grad| zeros.iter().for_each(|at| grad[*at] = 0.0));
        }
        for masked in &mut self.masked {
            let Some(grad) = grads.get_mut(masked.id) else { continue };
            for (((grad, exact), score), kept) in
                grad.iter_mut().zip(&masked.exact).zip(&mut masked.scores).zip(&masked.kept)
            {
                *score -= *grad * exact;
                *grad = if *kept { *grad } else { 0.0 };
            }
        }
    }

    /// After a step: what learned is kept, zeros are chosen anew, and run as zeros.
    pub fn after(&mut self, executor: &mut Executor, step: usize) -> Result<(), Error> {
        for masked in &mut self.masked {
            let numbers = executor.weights_mut().full_mut(masked.id)?;
            let learned = masked.exact.iter_mut().zip(numbers).zip(&masked.kept).filter(|(_, kept)| **kept);
            learned.for_each(|((exact, number), _)| *exact = *number);
        }
        self.choose(executor, step)
    }

    fn choose(&mut self, executor: &mut Executor, step: usize) -> Result<(), Error> {
        let Some((masking, steps)) = &self.masking else { return Ok(()) };
        let share = masking.share(step, *steps);
        for masked in &mut self.masked {
            let gone = (masked.exact.len() as f64 * share).round() as usize;
            masked.kept = match masking.by {
                MaskBy::Magnitude => largest(&masked.exact, gone, f32::abs),
                MaskBy::Movement => largest(&masked.scores, gone, |score| score),
            };
            let numbers = executor.weights_mut().full_mut(masked.id)?;
            for ((number, exact), kept) in numbers.iter_mut().zip(&masked.exact).zip(&masked.kept) {
                *number = if *kept { *exact } else { 0.0 };
            }
        }
        Ok(())
    }

    /// The numbers of a matrix that change, those too that run as zero.
    pub fn exact(&self, id: WeightId) -> Option<&[f32]> {
        self.masked.iter().find(|m| m.id == id).map(|m| &m.exact[..])
    }

    /// Lines of a checkpoint: the scores.
    pub fn state(&self) -> impl Iterator<Item = State> + '_ {
        self.masked.iter().map(|m| State {
            name: score_name(&m.name),
            weight: m.scores.clone(),
            moments: Moments::default(),
        })
    }

    /// Takes a line of a checkpoint, if it is one of scores.
    pub fn restore(&mut self, line: &State) -> Result<bool, Unfit> {
        let Some(masked) = self.masked.iter_mut().find(|m| score_name(&m.name) == line.name) else { return Ok(false) };
        if line.weight.len() != masked.scores.len() {
            return Err(Unfit(format!("`{}` has other lengths", line.name)));
        }
        masked.scores.copy_from_slice(&line.weight);
        Ok(true)
    }

    /// After all lines were taken: the masks of a step.
    pub fn restored(&mut self, executor: &mut Executor, step: usize) -> Result<(), Error> {
        for masked in &mut self.masked {
            masked.exact.copy_from_slice(executor.weights_mut().full_mut(masked.id)?);
        }
        self.choose(executor, step)
    }
}

fn score_name(weight: &str) -> String {
    format!("{weight}, scores")
}

/// All but so many of the least; of equals the first go.
fn largest(numbers: &[f32], gone: usize, score: impl Fn(f32) -> f32) -> Vec<bool> {
    let mut kept = vec![true; numbers.len()];
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    if gone < order.len() {
        let by = |a: &usize, b: &usize| score(numbers[*a]).total_cmp(&score(numbers[*b])).then(a.cmp(b));
        order.select_nth_unstable_by(gone, by);
    }
    order.iter().take(gone).for_each(|at| kept[*at] = false);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_come_fast_at_first_and_stop() {
        let masking = Masking { weights: vec![], zeros: 0.8, by: MaskBy::Magnitude };
        let shares: Vec<f64> = (0..=10).map(|step| masking.share(step, 10)).collect();
        assert_eq!((shares[0], shares[7], shares[10]), (0.0, 0.8, 0.8));
        let grown: Vec<f64> = shares.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(grown.windows(2).all(|pair| pair[0] >= pair[1] - 1e-12), "{shares:?}");
    }

    #[test]
    fn masks_are_idempotent() {
        let mut numbers = vec![3.0, -1.0, 0.5, -2.0, 0.5];
        let kept = largest(&numbers, 2, f32::abs);
        assert_eq!(kept, [true, true, false, true, false]);
        numbers.iter_mut().zip(&kept).for_each(|(x, kept)| *x = if *kept { *x } else { 0.0 });
        assert_eq!(largest(&numbers, 2, f32::abs), kept);
        assert_eq!(largest(&numbers, 5, f32::abs), [false; 5]);
    }
}
