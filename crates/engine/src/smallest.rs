//! The smallest artifact whose measured divergence keeps a bound: plans by predicted losses, carried out, measured from
//! the written bytes, and made anew with what the measurement says of the prediction.
//!
//! Losses that add up in a prediction are damped or amplified by one factor in the model as a whole, which changes
//! little between neighbouring budgets: each trial asks for the predicted loss at which its predecessor's factor would
//! give just the bound. Losses known to keep it and to miss it bracket the next.

use crate::compress::{Finished, Run};
use crate::{EngineError, Outcome, Planner, Progress, pool};
use plan::{Goal, Note, Plan, Violation};
use std::path::Path;

/// Artifacts that are made, at most.
const TRIALS: usize = 6;
/// A divergence of so much of the bound is near enough.
const NEAR: f64 = 0.95;
/// Trials aim a little below the bound.
const AIM: f64 = 0.985;

/// Carries out plans until the artifact is as small as `most` nats of measured divergence allow, and keeps that one.
pub fn smallest(
    planner: &Planner<'_>,
    most: f64,
    out: &Path,
    progress: &dyn Progress,
) -> Result<(Plan, Outcome), EngineError> {
    pool(planner.options())?.install(|| search(planner, most, out, progress))
}

fn search(
    planner: &Planner<'_>,
    most: f64,
    out: &Path,
    progress: &dyn Progress,
) -> Result<(Plan, Outcome), EngineError> {
    let (mut best, mut missed): (Option<(Plan, Finished)>, Option<(Plan, Finished)>) = (None, None);
    let (mut keeps, mut misses) = (None::<f64>, None::<f64>);
    let (mut asked, mut notes) = (most, Vec::new());
    for trial in 0..TRIALS {
        let plan = planner.plan_for(Goal::Divergence(asked))?;
        if [&best, &missed].into_iter().flatten().any(|(tried, _)| tried.tensors == plan.tensors) {
            break;
        }
        let mut made = Run::new(planner.imported(), &plan, out, planner.options(), progress)?.finish()?;
        made.forget_checkpoint()?;
        let measured = divergence(&made)?;
        notes.push(note(trial + 1, &plan, &made, measured));
        let kept = measured <= most;
        let near = kept && measured >= NEAR * most;
        // The bracket tightens from both sides.
        match kept {
            true => (keeps, best) = (Some(keeps.map_or(asked, |k| k.max(asked))), better(best, (plan, made))),
            false => (misses, missed) = (Some(misses.map_or(asked, |m| m.min(asked))), Some((plan, made))),
        }
        if near {
            break;
        }
        asked = next(asked * AIM * most / measured.max(f64::MIN_POSITIVE), keeps, misses);
    }
    let (mut plan, mut made) = best.or(missed).ok_or(EngineError::Plan(plan::PlanError::NoSensitivity))?;
    made.journal.notes.extend(notes);
    plan.recipe.goal = Goal::Divergence(most);
    let measured = divergence(&made)?;
    if measured > most {
        made.violations.push(Violation { bound: "max-kld".into(), required: most, measured });
    }
    Ok((plan, made.settle()?))
}

/// The smaller of two artifacts.
fn better(best: Option<(Plan, Finished)>, new: (Plan, Finished)) -> Option<(Plan, Finished)> {
    let bytes = |(_, made): &(Plan, Finished)| made.journal.proof.bytes;
    Some(match best {
        Some(best) if bytes(&best) <= bytes(&new) => best,
        _ => new,
    })
}

/// The loss to ask for, inside of what is known.
fn next(wanted: f64, keeps: Option<f64>, misses: Option<f64>) -> f64 {
    match (keeps, misses) {
        (Some(low), Some(high)) if !(low < wanted && wanted < high) => (low * high).sqrt(),
        _ => wanted,
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
    use super::next;

    #[test]
    fn the_next_trial_lies_in_the_bracket() {
        assert_eq!(next(3.0, Some(1.0), None), 3.0);
        assert_eq!(next(3.0, Some(1.0), Some(4.0)), 3.0);
        assert_eq!(next(5.0, Some(1.0), Some(4.0)), 2.0);
        assert_eq!(next(0.5, Some(1.0), Some(4.0)), 2.0);
    }
}
