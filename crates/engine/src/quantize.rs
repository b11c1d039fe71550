//! Choosing the codes of a plan's weights: at once where nothing needs to be known, else block by block over
//! calibration text, each block kept as soon as it is done.

use crate::checkpoint::{Checkpoint, Kept, Record};
use crate::importance::importance;
use crate::{Calibration, EngineError, Importance, Options, Progress, Unit};
use codec::Part;
use graph::{Buffer, Model, Patch, Source, WeightId};
use import::Imported;
use passes::quantize::round;
use passes::quantize::sequential::{self, Job, Sequential, Solved};
use plan::{Method, Note, Plan};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A model whose weights are encoded, and what came up.
pub(crate) struct Quantized {
    pub model: Model,
    pub notes: Vec<Note>,
    pub checkpoint: Option<Checkpoint>,
}

/// Encodes the weights of a plan. Those that need no text are encoded when they are read.
pub(crate) fn quantize(
    imported: &Imported,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Quantized, EngineError> {
    let jobs = jobs(&imported.model, plan);
    let rounded = plan.tensors.iter().filter(|t| t.method == Method::Round);
    let rounded = rounded.filter_map(|t| Some((imported.model.weights.find(&t.name)?, t.to)));
    let mut model = imported.model.clone();
    let importance = options.imatrix.map(|file| importance(imported, file)).transpose()?.unwrap_or_default();
    round_all(&mut model, &rounded.collect::<Vec<_>>(), &importance)?;
    if jobs.is_empty() {
        return Ok(Quantized { model, notes: importance.notes, checkpoint: None });
    }
    let calibration = options.calibration.ok_or(EngineError::NoCalibration { method: jobs[0].method })?;
    let checkpoint = Checkpoint::open(out, &hash(imported, plan, calibration), options.replace)?;
    let spill = calibration.learning(&imported.model, options).spill.then(|| checkpoint.folder());
    let settings = sequential::Options { spill, limit: options.statistics(), mode: plan.recipe.calibration.mode };
    let walk = Sequential::new(&imported.model, model, &calibration.windows, settings)?;
    let mut run = Walk { walk, source: &imported.model, jobs: &jobs, checkpoint: &checkpoint, notes: importance.notes };
    run.all(progress)?;
    let (model, notes) = (run.walk.model().clone(), run.notes);
    Ok(Quantized { model, notes, checkpoint: Some(checkpoint) })
}

/// Gives weights their encodings, lazily; the model is checked before and after.
pub(crate) fn round_all(
    model: &mut Model,
    decisions: &[(WeightId, codec::Encoding)],
    importance: &Importance,
) -> Result<(), EngineError> {
    const PASS: &str = "quantize/round";
    model.check().map_err(|source| EngineError::Unsound { pass: PASS, when: "before", source })?;
    let columns = |id: &WeightId| importance.of.get(id).map(Vec::as_slice);
    let round = |patch: Patch, (id, to): &(_, _)| patch.and(round::apply(model, *id, *to, columns(id)));
    let patch = decisions.iter().fold(Patch::default(), round);
    model.apply(patch).map_err(|source| EngineError::Unsound { pass: PASS, when: "after", source })
}

pub(crate) fn jobs(model: &Model, plan: &Plan) -> Vec<Job> {
    let calibrated = plan.tensors.iter().filter(|t| t.method.calibrates());
    let job =
        |t: &plan::PlannedTensor| Some(Job { weight: model.weights.find(&t.name)?, encoding: t.to, method: t.method });
    calibrated.filter_map(job).collect()
}

/// A walk through the model, run of nodes by run of nodes.
struct Walk<'a> {
    walk: Sequential<'a>,
    source: &'a Model,
    jobs: &'a [Job],
    checkpoint: &'a Checkpoint,
    notes: Vec<Note>,
}

impl Walk<'_> {
    fn all(&mut self, progress: &dyn Progress) -> Result<(), EngineError> {
        let segments = self.walk.segments();
        progress.begin("calibrate and quantize", self.jobs.len() as u64, Unit::Weights);
        let mut each = segments.into_iter().enumerate();
        let done = each.try_for_each(|(n, segment)| self.segment(n, segment, progress));
        progress.end();
        done
    }

    /// Does a run of nodes, or takes it from the checkpoint, and goes on behind it.
    fn segment(&mut self, n: usize, segment: Range<usize>, progress: &dyn Progress) -> Result<(), EngineError> {
        let jobs = self.jobs_of(&segment);
        if let Some(kept) = self.load(n)? {
            self.install(kept, &jobs)?;
            progress.advance(jobs.len() as u64);
            return Ok(self.walk.advance(segment)?);
        }
        let mut solved: Vec<(Record, Vec<Part>)> = Vec::new();
        let source = self.source;
        self.walk.quantize(&segment, &jobs, &mut |weight: Solved| {
            let of = source.weights.get(weight.job.weight);
            solved.push((Record::of(&of.name, &weight), weight.parts.clone()));
            progress.advance(1);
            Ok::<Arc<dyn Source>, EngineError>(Arc::new(Buffer::new(&of.name[..], of.rows(), weight.parts)))
        })?;
        self.checkpoint.save(n, &solved)?;
        let kept = self.load(n)?.unwrap_or_default();
        self.install(kept, &jobs)
    }

    /// Puts weights of the checkpoint in place.
    fn install(&mut self, kept: Vec<Kept>, jobs: &[Job]) -> Result<(), EngineError> {
        for Kept { record, source } in kept {
            let notes = record.notes.iter().map(|what| Note { weight: Some(record.name.clone()), what: what.clone() });
            self.notes.extend(notes);
            let stray = format!("stray weight `{}`", record.name);
            let stray = || EngineError::Checkpoint { path: self.checkpoint.folder().into(), why: stray };
            let job = jobs.iter().find(|job| self.source.weights.get(job.weight).name == record.name);
            self.walk.install(job.ok_or_else(stray)?, source)?;
        }
        Ok(())
    }

    fn load(&self, n: usize) -> Result<Option<Vec<Kept>>, EngineError> {
        let weights = &self.source.weights;
        self.checkpoint.load(n, |name| Some(weights.get(weights.find(name)?).clone()))
    }

    /// The jobs of a run of nodes; one whose weight several runs read belongs to the last, which multiplies by it.
    fn jobs_of(&self, segment: &Range<usize>) -> Vec<Job> {
        let nodes = self.source.graph().map_or(&[][..], |graph| &graph.nodes()[segment.clone()]);
        let factors: Vec<WeightId> = nodes.iter().flat_map(|n| n.op.spec().factors()).collect();
        self.jobs.iter().filter(|job| factors.contains(&job.weight)).copied().collect()
    }
}

/// A hash of all that the encoded bytes depend on: source files, decisions, text.
fn hash(imported: &Imported, plan: &Plan, calibration: &Calibration) -> String {
    let mut hasher = Sha256::new();
    for file in &imported.files {
        let changed = std::fs::metadata(file).and_then(|m| Ok((m.len(), m.modified()?))).ok();
        hasher.update(format!("{} {changed:?}\n", file.display()));
    }
    for t in &plan.tensors {
        hasher.update(format!("{} {} {}\n", t.name, plan::encoding_name(&t.to), t.method));
    }
    for window in &calibration.windows {
        window.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    }
    hasher.update(format!("{:?} {}", plan.recipe.calibration.mode, env!("CARGO_PKG_VERSION")));
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
