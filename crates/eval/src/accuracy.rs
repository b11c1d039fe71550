//! Accuracy of a network that names classes: how often the right one is its first, or among its first five; and beside a
//! reference, how often both name the same. The first output counts, `[batch, classes]`, whether logits or probabilities.

use crate::{EvalError, machine};
use exec::{Examples, Executor, Intake, Options};
use graph::{Graph, WeightStore};
use plan::{Accuracy, Against, Estimate, SampleConditions, Share};

/// Samples that are run together, where the network leaves that open.
const BATCH: usize = 50;

/// A network that gives each sample a row of scores.
pub struct Classifier {
    executor: Executor,
    intake: Intake,
    classes: usize,
}

impl Classifier {
    /// A graph with one input, and its weights.
    pub fn new(graph: &Graph, weights: &WeightStore, options: Options) -> Result<Classifier, EvalError> {
        let executor = Executor::new(graph, weights, options)?;
        let intake = Intake::of(graph)?;
        let output = graph.outputs().first().map(|v| &graph.values()[v.0]);
        let scores = output.and_then(|value| {
            let lengths = value.shape.get(1..)?.iter().map(|d| d.fixed()).collect::<Option<Vec<_>>>()?;
            let classes = lengths.iter().product::<usize>();
            // `[batch, classes]`, perhaps with axes of one behind.
            (lengths.first() == Some(&classes) && classes > 0).then_some(classes)
        });
        let nameless = || EvalError::NoClasses { output: output.map(|v| v.name.clone()).unwrap_or_default() };
        Ok(Classifier { executor, intake, classes: scores.ok_or_else(nameless)? })
    }

    /// Classes that it tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What it takes.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Scores of samples, a row for each.
    pub fn scores(&mut self, samples: &dyn Examples, indices: &[usize]) -> Result<Vec<f32>, EvalError> {
        let mut scores = Vec::with_capacity(indices.len() * self.classes);
        for part in indices.chunks(self.intake.batch.unwrap_or(BATCH)) {
            let made = self.executor.run(vec![self.intake.batch(samples, part)?])?;
            let rows = made.first().and_then(|data| data.float()).map(|t| t.data()).unwrap_or_default();
            scores.extend_from_slice(rows.get(..part.len() * self.classes).unwrap_or_default());
        }
        match scores.chunks(self.classes).position(|row| row.iter().any(|x| !x.is_finite())) {
            Some(at) => Err(EvalError::Scores { sample: indices.get(at).copied().unwrap_or(at) }),
            None => Ok(scores),
        }
    }
}

/// What one sample came to.
#[derive(Clone, Copy)]
struct Outcome {
    top1: bool,
    top5: bool,
    same: bool,
    reference: bool,
}

/// Accuracy of a network on its first `most` samples, beside a reference if there is one. `progress` hears how many were run.
pub fn accuracy(
    network: &mut Classifier,
    mut reference: Option<&mut Classifier>,
    samples: &dyn Examples,
    most: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Accuracy, EvalError> {
    let classes = network.classes;
    if let Some(reference) = reference.as_ref().filter(|r| r.classes != classes) {
        return Err(EvalError::Classes { reference: reference.classes, network: classes });
    }
    let labels = samples.labels();
    check_labels(samples, classes)?;
    if labels.is_none() && reference.is_none() {
        return Err(EvalError::NoLabels { data: samples.name() });
    }
    let all: Vec<usize> = (0..samples.len().min(most)).collect();
    let mut outcomes = Vec::with_capacity(all.len());
    for part in all.chunks(BATCH) {
        let scores = network.scores(samples, part)?;
        let of_reference = reference.as_mut().map(|r| r.scores(samples, part)).transpose()?;
        for (at, (index, row)) in part.iter().zip(scores.chunks(classes)).enumerate() {
            let theirs = of_reference.as_ref().map(|rows| &rows[at * classes..(at + 1) * classes]);
            outcomes.push(outcome(row, theirs, labels.and_then(|l| l.get(*index).copied())));
        }
        progress(part.len() as u64);
    }
    let conditions = SampleConditions {
        data: samples.name(),
        samples: all.len(),
        classes,
        threads: rayon::current_num_threads(),
        machine: machine(),
    };
    Ok(summary(&outcomes, labels.is_some(), reference.is_some(), conditions))
}

fn check_labels(samples: &dyn Examples, classes: usize) -> Result<(), EvalError> {
    let beyond = |label: &u32| *label as usize >= classes;
    match samples.labels().and_then(|labels| Some((labels.iter().position(beyond)?, labels))) {
        Some((index, labels)) => Err(EvalError::Label { data: samples.name(), index, label: labels[index], classes }),
        None => Ok(()),
    }
}

fn outcome(row: &[f32], reference: Option<&[f32]>, label: Option<u32>) -> Outcome {
    let rank = |row: &[f32], label: u32| match row.get(label as usize) {
        // Of equal scores the first class comes first.
        Some(own) => row.iter().enumerate().filter(|(i, x)| *x > own || (*x == own && *i < label as usize)).count(),
        None => usize::MAX,
    };
    let of = |row: &[f32]| label.map_or(usize::MAX, |label| rank(row, label));
    let first = |row: &[f32]| (0..row.len() as u32).find(|class| rank(row, *class) == 0);
    Outcome {
        top1: of(row) == 0,
        top5: of(row) < 5,
        same: reference.is_some_and(|theirs| first(theirs) == first(row)),
        reference: reference.is_some_and(|theirs| of(theirs) == 0),
    }
}

fn summary(outcomes: &[Outcome], labelled: bool, referred: bool, conditions: SampleConditions) -> Accuracy {
    let share = |hit: fn(&Outcome) -> bool| Share::new(outcomes.iter().filter(|o| hit(o)).count(), outcomes.len());
    let lost = || -> Estimate {
        crate::stats::mean(outcomes.iter().map(|o| f64::from(i8::from(o.reference) - i8::from(o.top1))))
    };
    let against = || Against {
        agreement: share(|o| o.same),
        top1: labelled.then(|| share(|o| o.reference)),
        lost: labelled.then(lost),
    };
    Accuracy {
        top1: labelled.then(|| share(|o| o.top1)),
        top5: (labelled && conditions.classes > 5).then(|| share(|o| o.top5)),
        against: referred.then(against),
        conditions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_follow_ranks() {
        let row = [0.5, 2.0, 2.0, -1.0, 3.0, 0.0, 0.0];
        let at = |label| outcome(&row, Some(&row), Some(label));
        assert!(at(4).top1 && at(4).same && at(4).reference);
        assert!(!at(2).top1 && at(0).top5 && at(5).top5 && !at(6).top5);
        let other = outcome(&row, Some(&[9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), Some(0));
        assert!(!other.same && other.reference && !other.top1);
    }

    #[test]
    fn intervals_are_wilsons() {
        let share = Share::new(180, 200);
        assert!((share.low - 0.850_7).abs() < 1e-3 && (share.high - 0.934_3).abs() < 1e-3, "{share}");
        let all = Share::new(200, 200);
        assert!(all.high == 1.0 && (all.low - 0.981_2).abs() < 1e-3, "{all}");
    }
}
