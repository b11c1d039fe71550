//! The loop of a network that learns: steps, an evaluation and a checkpoint after every epoch, batch norms measured anew at the end.

use super::{TrainingError, TrainingEvent, checkpoint};
use eval::Classifier;
use exec::{Examples, Options};
use graph::Model;
use plan::{OptimizerSpec, Share, TrainingSpec};
use std::path::Path;
use train::{Augment, Constants, Fading, Masking, NetworkSettings, NetworkTrainer, Rule, Schedule, Target};

/// Steps between checkpoints within an epoch.
const OFTEN: usize = 500;

/// What a network learns from.
pub struct Lesson<'a> {
    /// How.
    pub spec: &'a TrainingSpec,
    /// Learned from.
    pub samples: &'a dyn Examples,
    /// Held out.
    pub valid: Option<&'a dyn Examples>,
    /// The network whose answers are learned, too.
    pub teacher: Option<&'a Model>,
    /// What is to become small.
    pub fading: Option<Fading>,
    /// What is to become zero.
    pub masking: Option<Masking>,
    /// The folder of its checkpoints; a run that finds one goes on from there.
    pub record: Option<&'a Path>,
}

/// What learning came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Steps done.
    pub steps: usize,
    /// Loss of the last step.
    pub loss: f64,
    /// On what was held out.
    pub accuracy: Option<Share>,
    /// Zeros of sparse matrices that stayed.
    pub zeros_held: usize,
}

/// Trains a model in place.
///
/// # Errors
/// Samples that do not fit, a loss that is not finite, files that cannot be read or written.
pub fn fit(
    model: &mut Model,
    lesson: &Lesson<'_>,
    hear: &mut dyn FnMut(TrainingEvent<'_>),
) -> Result<Learned, TrainingError> {
    let spec = lesson.spec;
    if let Some(why) = spec.problem() {
        return Err(TrainingError::Spec(why));
    }
    let parts = |model: &Model| model.graph().cloned().map(|graph| (graph, model.weights.clone()));
    let no_graph = || TrainingError::Model("the network has no graph that could be trained".into());
    let (graph, weights) = parts(model).ok_or_else(no_graph)?;
    let teacher =
        lesson.teacher.filter(|_| spec.distill.is_some()).map(|t| parts(t).ok_or_else(no_graph)).transpose()?;
    let teacher = teacher.as_ref().map(|(graph, weights)| (graph, weights));
    let steps = spec.epochs * (lesson.samples.len() / spec.batch);
    let mut trainer = NetworkTrainer::new((&graph, &weights), teacher, lesson.samples, settings(lesson, steps))?;
    resume(&mut trainer, lesson)?;
    let mut learned = Learned { steps, loss: f64::NAN, accuracy: None, zeros_held: trainer.zeros_held() };
    while trainer.steps_done() < steps {
        let (report, right) = trainer.step(lesson.samples)?;
        if !report.loss.is_finite() {
            return Err(TrainingError::Diverged(report.step));
        }
        learned.loss = report.loss;
        hear(TrainingEvent::Learned { report, right, steps });
        let epoch = report.step.is_multiple_of(trainer.steps_of_epoch());
        if let (Some(record), true) = (lesson.record, epoch || report.step.is_multiple_of(OFTEN)) {
            checkpoint::save(record, report.step, &trainer.state()?)?;
        }
        if epoch && report.step < steps {
            let mut so_far = model.clone();
            so_far.apply(trainer.patch(model)?)?;
            measure(&so_far, lesson, report.step, hear)?;
        }
    }
    model.apply(trainer.patch(model)?)?;
    if spec.statistics > 0 {
        train::reestimate(model, lesson.samples, spec.batch, spec.statistics)?;
    }
    learned.accuracy = measure(model, lesson, steps, hear)?;
    Ok(learned)
}

fn resume(trainer: &mut NetworkTrainer, lesson: &Lesson<'_>) -> Result<(), TrainingError> {
    let Some(record) = lesson.record else { return Ok(()) };
    std::fs::create_dir_all(record).map_err(|e| TrainingError::io(record, e))?;
    let names: Vec<_> = trainer.state()?.into_iter().map(|line| line.name).collect();
    if let Some((step, state)) = checkpoint::latest(record, &names)? {
        trainer.restore(step, state)?;
    }
    Ok(())
}

fn measure(
    model: &Model,
    lesson: &Lesson<'_>,
    step: usize,
    hear: &mut dyn FnMut(TrainingEvent<'_>),
) -> Result<Option<Share>, TrainingError> {
    let (Some(valid), Some(graph)) = (lesson.valid, model.graph()) else { return Ok(None) };
    let mut network = Classifier::new(graph, &model.weights, Options::default())?;
    let found = eval::accuracy(&mut network, None, valid, usize::MAX, &mut |_| {})?;
    if let Some(share) = found.top1 {
        hear(TrainingEvent::Measured(step, share));
    }
    Ok(found.top1)
}

fn settings(lesson: &Lesson<'_>, steps: usize) -> NetworkSettings {
    let spec = lesson.spec;
    let distill = spec.distill.clone();
    let rule = match spec.optimizer {
        OptimizerSpec::Sgd { momentum, nesterov, weight_decay } => {
            Rule::Sgd { momentum, nesterov, weight_decay, clip: f64::INFINITY }
        }
        OptimizerSpec::AdamW { beta1, beta2, weight_decay } => {
            Rule::AdamW(Constants { beta1, beta2, weight_decay, clip: f64::INFINITY, ..Constants::default() })
        }
    };
    NetworkSettings {
        schedule: Schedule { peak: spec.rate, floor: spec.floor, warmup: spec.warmup, steps },
        batch: spec.batch,
        rule,
        augment: Augment { crop: spec.crop, flip: spec.flip },
        target: Target {
            smoothing: spec.smoothing,
            distill: distill.as_ref().map_or(0.0, |d| d.share),
            temperature: distill.as_ref().map_or(1.0, |d| d.temperature),
        },
        feature_weight: distill.as_ref().map_or(0.0, |d| d.feature_weight),
        features: distill.map_or(vec![], |d| d.features),
        fading: lesson.fading.clone(),
        masking: lesson.masking.clone(),
        learn_steps: spec.learn_steps,
        seed: spec.seed,
    }
}
