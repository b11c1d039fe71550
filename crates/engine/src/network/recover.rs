//! Recovery: what a step left of a network learns again, from labelled samples and from the network as it was.

use super::steps::{Context, Done};
use crate::training::{Lesson, TrainingError, TrainingEvent, fit};
use crate::{EngineError, Unit};
use graph::Model;
use plan::{Note, TrainingSpec};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// What checkpoints of recovery are called behind the artifact's name.
const RECORD: &str = ".recover-";

/// Trains a network that steps have changed.
pub(super) fn recover(model: &mut Model, spec: &TrainingSpec, context: &Context<'_>) -> Result<Done, EngineError> {
    learn(model, spec, context, |lesson| lesson)
}

/// Trains a network; `change` makes a lesson of its own of recovery's.
pub(super) fn learn(
    model: &mut Model,
    spec: &TrainingSpec,
    context: &Context<'_>,
    change: impl FnOnce(Lesson<'_>) -> Lesson<'_>,
) -> Result<Done, EngineError> {
    let samples = context.examples.ok_or(EngineError::NoData { step: "recover" })?;
    let mut spec = spec.clone();
    spec.seed = spec.seed.wrapping_add(context.seed);
    let (valid, teacher) = (context.valid, Some(context.original));
    let lesson = change(Lesson { spec: &spec, samples, valid, teacher, fading: None, masking: None, record: None });
    let record = record(model, &lesson, context.target)?;
    let lesson = Lesson { record: Some(&record), ..lesson };
    let (mut first, mut begun) = (None, false);
    let learned = fit(model, &lesson, &mut |event| match event {
        TrainingEvent::Learned { report, right, steps } => {
            if !std::mem::replace(&mut begun, true) {
                context.progress.begin("recover", steps as u64, Unit::Steps);
                context.progress.advance(report.step as u64 - 1);
            }
            context.progress.say(&format!("loss {:.3}, {:.0} % right", report.loss, 100.0 * right));
            context.progress.advance(1);
            first.get_or_insert(report.loss);
        }
        TrainingEvent::Measured(step, share) => context.progress.say(&format!("step {step}: {share}")),
        TrainingEvent::Stage(_) | TrainingEvent::Step(..) | TrainingEvent::Evaluated(..) => {}
    });
    context.progress.end();
    let learned = learned?;
    let mut figures = vec![("steps".to_owned(), learned.steps as f64)];
    figures.extend(first.map(|loss| ("first loss".to_owned(), loss)));
    figures.extend(first.map(|_| ("last loss".to_owned(), learned.loss)));
    figures.extend(learned.accuracy.map(|share| ("accuracy".to_owned(), share.value())));
    let what = format!("recovered on {} samples of {}, seed {}", samples.len(), samples.name(), spec.seed);
    let held = (learned.zeros_held > 0).then(|| format!("{} zeros of sparse matrices stayed zero", learned.zeros_held));
    let notes = [what].into_iter().chain(held).map(|what| Note { weight: None, what }).collect();
    Ok(Done { notes, figures, ..Done::default() })
}

/// Estimates the statistics of batch norms anew, where a specification asks for that.
pub(super) fn measure_norms(model: &mut Model, spec: &TrainingSpec, context: &Context<'_>) -> Result<(), EngineError> {
    if let (Some(samples), true) = (context.examples, spec.statistics > 0) {
        train::reestimate(model, samples, spec.batch, spec.statistics).map_err(TrainingError::from)?;
    }
    Ok(())
}

/// The folder of this recovery's checkpoints: another network or another lesson has another.
fn record(model: &Model, lesson: &Lesson<'_>, target: &Path) -> Result<PathBuf, EngineError> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(lesson.spec).unwrap_or_default());
    if let Some(fading) = &lesson.fading {
        hash.update(fading.most.to_le_bytes());
    }
    if let Some(masking) = &lesson.masking {
        hash.update(format!("{masking:?}"));
    }
    for (_, weight) in model.weights.iter() {
        hash.update(weight.name.as_bytes());
        weight.read()?.iter().for_each(|x| hash.update(x.to_le_bytes()));
    }
    let digest: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    let mut name = target.as_os_str().to_owned();
    name.push(format!("{RECORD}{digest}"));
    Ok(PathBuf::from(name))
}

/// Removes the checkpoints beside an artifact that is done.
pub(super) fn remove_records(target: &Path) -> Result<(), EngineError> {
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let error = |source| formats::atomic::WriteError::Io { path: target.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(error)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}{RECORD}")) {
            std::fs::remove_dir_all(entry.path()).map_err(error)?;
        }
    }
    Ok(())
}
