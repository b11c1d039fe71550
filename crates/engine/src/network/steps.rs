//! The steps of a recipe: each changes a network and says what it did. A new one is a function here and an arm of [`run`].

use super::{prune, recover};
use crate::training::Lesson;
use crate::{EngineError, Options, Progress, Unit};
use calib::{InBatches, Samples};
use exec::Examples;
use graph::{Model, WeightId};
use import::Imported;
use passes::prune::{PruneError, sparse};
use passes::quantize::network::{self, QuantizeError};
use plan::{
    Counters, GroupEntry, Note, QuantizeSpec, RangeEntry, SensitivityEntry, SparseBy, SparseSpec, Step, StepEntry,
    TrainingSpec, Zeros,
};
use std::path::Path;
use train::{MaskBy, Masking};

/// What a step works with beside its network and specification.
pub(crate) struct Context<'a> {
    /// The source, as it was before any step: what recovery learns from, what differences are measured against.
    pub original: &'a Model,
    /// What a step may run the network on.
    pub data: Option<&'a dyn Samples>,
    /// What a network learns from again.
    pub examples: Option<&'a dyn Examples>,
    /// What is held out.
    pub valid: Option<&'a dyn Examples>,
    /// Calibration text of a decoder, in windows; none where there is none.
    pub windows: &'a [Vec<u32>],
    /// Seed of everything drawn.
    pub seed: u64,
    /// Where the artifact will be; checkpoints stand beside it.
    pub target: &'a Path,
    /// Hears how far it is.
    pub progress: &'a dyn Progress,
}

impl<'a> Context<'a> {
    pub fn new(
        imported: &'a Imported,
        options: &'a Options<'a>,
        progress: &'a dyn Progress,
        target: &'a Path,
    ) -> Context<'a> {
        Context {
            original: &imported.model,
            data: options.data,
            examples: options.examples,
            valid: options.valid,
            windows: options.calibration.map_or(&[], |c| &c.windows[..]),
            seed: options.seed,
            target,
            progress,
        }
    }
}

/// What a step says it did.
#[derive(Default)]
pub(crate) struct Done {
    /// What a reader must know.
    pub notes: Vec<Note>,
    /// What it measured.
    pub figures: Vec<(String, f64)>,
    /// Prune groups, where it took channels out.
    pub groups: Vec<GroupEntry>,
    /// Values that it put on grids.
    pub ranges: Vec<RangeEntry>,
    /// What layers cost when they alone are rounded.
    pub sensitivity: Vec<SensitivityEntry>,
}

impl Done {
    /// The record of a step.
    pub fn entry(self, name: &str, after: Counters, seconds: f64) -> StepEntry {
        let Done { notes, figures, groups, ranges, sensitivity } = self;
        StepEntry { name: name.into(), after, notes, figures, groups, ranges, sensitivity, seconds }
    }
}

/// Does one step.
pub(crate) fn run(model: &mut Model, step: &Step, context: &Context<'_>) -> Result<Done, EngineError> {
    match step {
        Step::Prune(spec) => prune::prune(model, spec, context),
        Step::Sparsify(spec) => sparsify(model, spec, context),
        Step::Quantize(spec) => quantize(model, spec, context),
        Step::Recover(spec) => recover::recover(model, spec, context),
    }
}

fn sparsify(model: &mut Model, spec: &SparseSpec, context: &Context<'_>) -> Result<Done, EngineError> {
    let failed = |source: PruneError| EngineError::Pass { pass: "sparsify", source: source.into() };
    let (matrices, learned) = match &spec.recover {
        Some(lesson) => {
            let matrices = sparse::meant(model, spec).map_err(failed)?;
            let learned = learn_zeros(model, spec, &matrices, lesson, context)?;
            (matrices, learned)
        }
        None => {
            context.progress.begin("sparsify", 0, Unit::Weights);
            let made = sparse::sparsify(model, spec, context.windows, &|done| context.progress.advance(done));
            context.progress.end();
            let made = made.map_err(failed)?;
            *model = made.model;
            (made.matrices, Done::default())
        }
    };
    let share = sparse::share(model, &matrices).map_err(failed)?;
    let stored = match model.decoder() {
        Some(_) => "they are stored all the same, so nothing is smaller: only a runtime with sparse kernels gains",
        None => {
            "a weight is stored sparse where that is smaller, from two thirds of zeros on; what runs is as large as before"
        }
    };
    let what = format!("{:.1} % of the numbers of {} matrices are zero; {stored}", 100.0 * share, matrices.len());
    let figures = [("share of zeros".to_owned(), share), ("matrices".to_owned(), matrices.len() as f64)];
    Ok(Done {
        notes: [Note { weight: None, what }].into_iter().chain(learned.notes).collect(),
        figures: figures.into_iter().chain(learned.figures).collect(),
        ..Done::default()
    })
}

/// Zeros that come while the network learns.
fn learn_zeros(
    model: &mut Model,
    spec: &SparseSpec,
    matrices: &[WeightId],
    lesson: &TrainingSpec,
    context: &Context<'_>,
) -> Result<Done, EngineError> {
    let by = if spec.by == SparseBy::Movement { MaskBy::Movement } else { MaskBy::Magnitude };
    // Recipes refuse patterns here.
    let Zeros::Share(zeros) = spec.zeros else { return Ok(Done::default()) };
    let masking = Some(Masking { weights: matrices.to_vec(), zeros, by });
    recover::learn(model, lesson, context, |lesson| Lesson { masking, ..lesson })
}

fn quantize(model: &mut Model, spec: &QuantizeSpec, context: &Context<'_>) -> Result<Done, EngineError> {
    let failed = |source: QuantizeError| EngineError::Pass { pass: "quantize", source: source.into() };
    if spec.dynamic {
        let made = network::dynamic(model, spec).map_err(failed)?;
        *model = made.model;
        let notes = made.notes.into_iter().map(|what| Note { weight: None, what }).collect();
        return Ok(Done { notes, ..Done::default() });
    }
    let data = context.data.ok_or(EngineError::NoData { step: "quantize" })?;
    let graph = model.graph().filter(|_| spec.max_drop.is_some());
    let held_out = match (context.valid, graph) {
        (Some(valid), Some(graph)) => Some(InBatches::new(valid, graph)?),
        _ => None,
    };
    let held_out = held_out.as_ref().map(|h| h as &dyn Samples);
    let made = network::verified(model, data, held_out, spec).map_err(failed)?;
    *model = made.model;
    let fusion = network::fusion(model);
    let slow = fusion.between_codes().map(|(node, why, fix)| format!("`{}` stays in float: {why} ({fix})", node.node));
    let note = |what| Note { weight: None, what };
    let figures = vec![
        ("nodes on codes".into(), fusion.nodes.len() as f64 - fusion.in_float().count() as f64),
        ("in float between them".into(), fusion.between_codes().count() as f64),
    ];
    let notes = made.notes.into_iter().chain(slow).map(note).collect();
    Ok(Done { notes, figures, ranges: made.ranges, sensitivity: made.sensitivity, ..Done::default() })
}
