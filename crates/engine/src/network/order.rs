//! Which step goes first: the steps of a recipe as they stand and the other way round, on held-out samples.
//!
//! Expected is that the weaker step goes first (the progressive intensity hypothesis); measured is what counts. A recovery
//! belongs to the step before it and moves with it.

use super::proof::accuracy;
use super::steps::{self, Context};
use crate::{EngineError, Options, Progress, pool};
use exec::Examples;
use graph::Model;
use import::Imported;
use plan::{Ordered, Ordering, Step, step_names};
use std::path::Path;

/// Measures both orders of two steps.
///
/// # Errors
/// Recipes of fewer or more than two steps (recoveries not counted), no held-out samples, and what cannot be run at all.
pub fn order(
    imported: &Imported,
    asked: &[Step],
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Ordering, EngineError> {
    let parts = parts(asked);
    let ([a, b], Some(valid)) = (&parts[..], options.valid) else {
        return Err(EngineError::Order { steps: parts.len(), valid: options.valid.is_some() });
    };
    pool(options)?.install(|| {
        let run = |steps: Vec<Step>| ordered(imported, steps, valid, options, progress);
        let alone = vec![run(a.clone())?.0, run(b.clone())?.0];
        let (first, one) = run([a.clone(), b.clone()].concat())?;
        let (second, other) = run([b.clone(), a.clone()].concat())?;
        let advantage = match (one, other) {
            // What the second order loses beside the first is what the first one gains.
            (Some(one), Some(other)) => accuracy(&one, &other, valid)?.against.and_then(|a| a.lost),
            _ => None,
        };
        Ok(Ordering { alone, orders: [first, second], advantage })
    })
}

/// Each step with the recoveries behind it.
fn parts(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut parts: Vec<Vec<Step>> = Vec::new();
    for step in steps {
        match (step, parts.last_mut()) {
            (Step::Recover(_), Some(last)) => last.push(step.clone()),
            _ => parts.push(vec![step.clone()]),
        }
    }
    parts
}

/// What steps leave of a network, in memory; a step that refuses is part of the answer.
fn ordered(
    imported: &Imported,
    steps: Vec<Step>,
    valid: &dyn Examples,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<(Ordered, Option<Model>), EngineError> {
    let names = step_names(&steps);
    let target = std::env::temp_dir().join(format!("tinier-order-{}-{names}", std::process::id()));
    let made = carried_out(imported, &steps, &target, options, progress);
    super::recover::remove_records(&target)?;
    match made {
        Ok(model) => {
            let accuracy = Some(accuracy(&imported.model, &model, valid)?);
            Ok((Ordered { steps: names, accuracy, refused: None }, Some(model)))
        }
        Err(error @ (EngineError::NoData { .. } | EngineError::Training(_))) => Err(error),
        Err(error) => Ok((Ordered { steps: names, accuracy: None, refused: Some(error.to_string()) }, None)),
    }
}

fn carried_out(
    imported: &Imported,
    steps: &[Step],
    target: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Model, EngineError> {
    let mut model = imported.model.clone();
    let context = Context::new(imported, options, progress, target);
    for step in steps {
        let unsound = |source| EngineError::Unsound { pass: step.name(), when: "after", source };
        steps::run(&mut model, step, &context)?;
        model.check().map_err(unsound)?;
    }
    Ok(model)
}
