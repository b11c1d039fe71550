//! The smallest artifact whose measured divergence keeps a bound: plans by predicted losses, carried out, measured from
//! the written bytes, and made anew with what the measurement says of the prediction.
//!
//! Losses that add up in a prediction are damped or amplified by one factor in the model as a whole, which changes
//! little between neighbouring budgets: each trial asks for the predicted loss at which its predecessor's factor would
//! give just the bound. Losses known to keep it and to miss it bracket the next.

use crate::compress::{Finished, Run};
use crate::{EngineError, Outcome, Planner, Progress, pool};
use plan::{Goal, Note, Plan, PlanError, Violation};
use std::path::Path;

/// Artifacts that are made, at most.
const TRIALS: usize = 6;
/// A divergence of so much of the bound is near enough.
const NEAR: f64 = 0.95;
/// Trials aim a little below the bound.
const AIM: f64 = 0.985;

/// Carries out plans until the artifact is as small as `most` nats of measured divergence allow, and keeps that one.
pub fn smallest(planner: &Planner<'_>, most: f64, out: &Path, progress: &dyn Progress) -> Result<Outcome, EngineError> {
    pool(planner.options())?.install(|| search(planner, most, out, progress))
}

fn search(planner: &Planner<'_>, most: f64, out: &Path, progress: &dyn Progress) -> Result<Outcome, EngineError> {
    let (mut search, mut asked, mut notes) = (Search::default(), most, Vec::new());
    for trial in 1..=TRIALS {
        let plan = planner.plan_for(Goal::Divergence(asked))?;
        if search.tried(&plan) {
            break;
        }
        let mut made = Run::new(planner.imported(), &plan, out, planner.options(), progress)?.finish()?;
        made.forget_checkpoint()?;
        let measured = divergence(&made)?;
        notes.push(note(trial, &plan, &made, measured));
        search.take(asked, measured <= most, made);
        if (NEAR * most..=most).contains(&measured) {
            break;
        }
        asked = search.next(asked * AIM * most / measured.max(f64::MIN_POSITIVE));
    }
    let mut made = search.found().ok_or(EngineError::Plan(PlanError::NoSensitivity))?;
    made.journal.notes.extend(notes);
    made.plan.recipe.goal = Goal::Divergence(most);
    let measured = divergence(&made)?;
    if measured > most {
        made.violations.push(Violation { bound: "max-kld".into(), required: most, measured });
    }
    made.settle()
}

/// What trials have shown so far.
#[derive(Default)]
struct Search {
    /// The largest loss asked for that kept the bound, and the smallest that did not.
    keeps: Option<f64>,
    misses: Option<f64>,
    /// The smallest artifact that kept it, and the last that did not.
    best: Option<Finished>,
    missed: Option<Finished>,
}

impl Search {
    fn tried(&self, plan: &Plan) -> bool {
        [&self.best, &self.missed].into_iter().flatten().any(|tried| tried.plan.tensors == plan.tensors)
    }

    fn take(&mut self, asked: f64, kept: bool, made: Finished) {
        let bytes = |made: &Finished| made.journal.proof.bytes;
        if !kept {
            self.misses = Some(self.misses.map_or(asked, |loss| loss.min(asked)));
            self.missed = Some(made);
            return;
        }
        self.keeps = Some(self.keeps.map_or(asked, |loss| loss.max(asked)));
        if self.best.as_ref().is_none_or(|best| bytes(&made) < bytes(best)) {
            self.best = Some(made);
        }
    }

    /// The loss to ask for, inside of what is known.
    fn next(&self, wanted: f64) -> f64 {
        match (self.keeps, self.misses) {
            (Some(low), Some(high)) if !(low < wanted && wanted < high) => (low * high).sqrt(),
            _ => wanted,
        }
    }

    /// The artifact to keep; one that missed the bound where none kept it.
    fn found(self) -> Option<Finished> {
        self.best.or(self.missed)
    }
}

fn divergence(made: &Finished) -> Result<f64, EngineError> {
    let why = || EngineError::CannotGate { why: "there is no text to evaluate on".into() };
    made.journal.proof.quality.as_ref().map(|q| q.kld.mean.value).ok_or_else(why)
}

fn note(trial: usize, plan: &Plan, made: &Finished, measured: f64) -> Note {
    let predicted = plan.spent.map_or(0.0, |spent| spent.loss);
    let bytes = made.journal.proof.bytes;
    Note {
        weight: None,
        what: format!("trial {trial}: {bytes} bytes, divergence {measured:.6} (losses predicted: {predicted:.6})"),
    }
}

#[cfg(test)]
mod tests {
    use super::Search;

    #[test]
    fn the_next_trial_lies_in_the_bracket() {
        let next = |wanted, keeps, misses| Search { keeps, misses, ..Search::default() }.next(wanted);
        assert_eq!(next(3.0, Some(1.0), None), 3.0);
        assert_eq!(next(3.0, Some(1.0), Some(4.0)), 3.0);
        assert_eq!(next(5.0, Some(1.0), Some(4.0)), 2.0);
        assert_eq!(next(0.5, Some(1.0), Some(4.0)), 2.0);
    }
}
