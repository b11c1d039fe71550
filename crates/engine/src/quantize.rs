//! Choosing the codes of a plan's weights: at once where nothing needs to be known, else block by block over
//! calibration text, each block kept as soon as it is done.

use crate::checkpoint::{Checkpoint, Done, Kept, Record};
use crate::importance::importance;
use crate::{Calibration, EngineError, Importance, Options, Progress, Unit};
use codec::Part;
use graph::{Buffer, Model, Patch, Source, WeightId};
use import::Imported;
use passes::quantize::refine::{self, Refined};
use passes::quantize::round;
use passes::quantize::sequential::{self, Job, Sequential, SequentialError, Solved};
use passes::quantize::solver::{Way, way};
use passes::transform::rotate::rotate;
use plan::{Fitted, Note, Plan, Transform};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A model whose weights are encoded, and what came up.
pub(crate) struct Quantized {
    pub model: Model,
    /// What its weights should be: the source's, transformed where that was asked for.
    pub target: Model,
    pub notes: Vec<Note>,
    pub checkpoint: Option<Checkpoint>,
    /// How codes were chosen where calibration text had a say, by name of the weight.
    pub fitted: BTreeMap<String, Fitted>,
}

/// Encodes the weights of a plan. Those that need no text are encoded when they are read.
pub(crate) fn quantize(
    imported: &Imported,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Quantized, EngineError> {
    let transforms = &plan.recipe.transforms;
    if options.imatrix.is_some() && !transforms.is_empty() {
        return Err(EngineError::ImatrixAndTransforms);
    }
    let (target, mut notes) = rotated(&imported.model, transforms, options.seed)?;
    let Jobs { rows, matrices: jobs } = Jobs::of(&target, plan);
    let mut model = target.clone();
    let importance = options.imatrix.map(|file| importance(imported, file)).transpose()?.unwrap_or_default();
    encode_rows(&mut model, &rows, &importance)?;
    notes.extend(importance.notes);
    if plan.recipe.calibration.refine && (jobs.is_empty() || options.calibration.is_none()) {
        return Err(EngineError::NothingToRefine);
    }
    let learns = transforms.iter().find(|t| t.calibrates());
    let calibration = match (options.calibration, jobs.first(), learns) {
        (_, None, None) => {
            return Ok(Quantized { model, target, notes, checkpoint: None, fitted: BTreeMap::new() });
        }
        (Some(calibration), ..) => calibration,
        (None, Some(job), _) => return Err(EngineError::NoCalibration { method: job.method }),
        (None, None, Some(transform)) => return Err(EngineError::NoText { transform: *transform }),
    };
    let hash = hash(imported, plan, calibration, options.seed);
    let checkpoint = Checkpoint::open(out, &hash, options.replace)?;
    let spill = calibration.learning(&imported.model, options).spill.then(|| checkpoint.folder());
    let mode = plan.recipe.calibration.mode;
    let experts = plan.recipe.calibration.experts;
    let settings = sequential::Options { spill, limit: options.statistics(), mode, experts, transforms };
    let walk = Sequential::new(&target, model, &jobs, &calibration.windows, settings)?;
    let mut run = Walk { walk, source: &target, jobs: &jobs, checkpoint: &checkpoint, notes, fitted: BTreeMap::new() };
    run.all(progress)?;
    if plan.recipe.calibration.refine {
        run.refine(&calibration.windows, progress)?;
    }
    let (model, notes, fitted) = (run.walk.model().clone(), run.notes, run.fitted);
    let target = run.walk.target().clone();
    Ok(Quantized { model, target, notes, checkpoint: Some(checkpoint), fitted })
}

/// The model rotated, where that is asked for, and what was left as it is.
fn rotated(model: &Model, transforms: &[Transform], seed: u64) -> Result<(Model, Vec<Note>), EngineError> {
    if !transforms.contains(&Transform::Rotate) {
        return Ok((model.clone(), Vec::new()));
    }
    let (model, notes) = rotate(model, seed)?;
    Ok((model, notes.into_iter().map(|what| Note { weight: None, what }).collect()))
}

/// Gives weights their encodings, lazily; the model is checked before and after.
pub(crate) fn encode_rows(model: &mut Model, jobs: &[Job], importance: &Importance) -> Result<(), EngineError> {
    const PASS: &str = "quantize/round";
    model.check().map_err(|source| EngineError::Unsound { pass: PASS, when: "before", source })?;
    let columns = |id: &WeightId| importance.of.get(id).map(Vec::as_slice);
    let encode = |patch: Patch, job: &Job| match way(job.method) {
        Way::Rows(by) => patch.and(round::apply_by(by, model, job.weight, job.encoding, columns(&job.weight))),
        Way::Matrix(_) => patch,
    };
    let patch = jobs.iter().fold(Patch::default(), encode);
    model.apply(patch).map_err(|source| EngineError::Unsound { pass: PASS, when: "after", source })
}

/// The weights of a plan.
pub(crate) struct Jobs {
    /// Those that are encoded row by row, when they are read.
    pub rows: Vec<Job>,
    /// Those that need calibration text.
    pub matrices: Vec<Job>,
}

impl Jobs {
    pub fn of(model: &Model, plan: &Plan) -> Jobs {
        let job = |t: &plan::PlannedTensor| {
            Some(Job { weight: model.weights.find(&t.name)?, encoding: t.to, method: t.method })
        };
        let (matrices, rows) = plan.tensors.iter().filter_map(job).partition(|job| job.method.calibrates());
        Jobs { rows, matrices }
    }
}

/// A walk through the model, run of nodes by run of nodes.
struct Walk<'a> {
    walk: Sequential<'a>,
    source: &'a Model,
    jobs: &'a [Job],
    checkpoint: &'a Checkpoint,
    notes: Vec<Note>,
    fitted: BTreeMap<String, Fitted>,
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

    /// Learns the rounding of all matrices together.
    fn refine(&mut self, windows: &[Vec<u32>], progress: &dyn Progress) -> Result<(), EngineError> {
        let (source, model) = (self.walk.target().clone(), self.walk.model().clone());
        let graph = source.graph().ok_or(SequentialError::NoGraph)?;
        progress.begin("refine on divergence", refine::STEPS as u64, Unit::Steps);
        let done = &mut || progress.advance(1);
        let refined = refine::refine((&source, &model, graph), self.jobs, windows, refine::STEPS, done);
        progress.end();
        let Refined { parts, divergence: (before, after) } = refined?;
        let kept = if parts.is_empty() { ": not kept" } else { "" };
        let what = format!("refined: divergence on held-out calibration text {before:.3e}, then {after:.3e}{kept}");
        self.notes.push(Note { weight: None, what });
        for (job, parts) in parts {
            let weight = source.weights.get(job.weight);
            self.walk.install(&job, Arc::new(Buffer::new(&weight.name[..], weight.rows(), parts)))?;
        }
        Ok(())
    }

    /// Does a run of nodes, or takes it from the checkpoint, and goes on behind it.
    fn segment(&mut self, n: usize, segment: Range<usize>, progress: &dyn Progress) -> Result<(), EngineError> {
        let jobs = self.jobs_of(&segment);
        self.refuse(&segment, &jobs);
        if let Some(done) = self.load(n)? {
            self.walk.scale(&segment, &jobs, &done.scales)?;
            self.install(done.weights, &jobs)?;
            progress.advance(jobs.len() as u64);
            return Ok(self.walk.advance(segment)?);
        }
        let scales = self.walk.search(&segment, &jobs)?;
        self.walk.scale(&segment, &jobs, &scales)?;
        let mut solved: Vec<(Record, Vec<Part>)> = Vec::new();
        let source = self.source;
        self.walk.quantize(&segment, &jobs, &mut |weight: Solved| {
            let of = source.weights.get(weight.job.weight);
            solved.push((Record::of(&of.name, &weight), weight.parts.clone()));
            progress.advance(1);
            Ok::<Arc<dyn Source>, EngineError>(Arc::new(Buffer::new(&of.name[..], of.rows(), weight.parts)))
        })?;
        self.checkpoint.save(n, &scales, &solved)?;
        drop(solved);
        formats::memory::give_back();
        let kept = self.load(n)?.map(|done| done.weights).unwrap_or_default();
        self.install(kept, &jobs)
    }

    /// Puts weights of the checkpoint in place.
    fn install(&mut self, kept: Vec<Kept>, jobs: &[Job]) -> Result<(), EngineError> {
        for Kept { record, source } in kept {
            let notes = record.notes.iter().map(|what| Note { weight: Some(record.name.clone()), what: what.clone() });
            self.notes.extend(notes);
            self.fitted.insert(record.name.clone(), Fitted { method: record.method, tokens: record.tokens });
            let stray = format!("stray weight `{}`", record.name);
            let stray = || EngineError::Checkpoint { path: self.checkpoint.folder().into(), why: stray };
            let job = jobs.iter().find(|job| self.source.weights.get(job.weight).name == record.name);
            self.walk.install(job.ok_or_else(stray)?, source)?;
        }
        Ok(())
    }

    /// Notes the matrices that are not scaled though scales are wanted.
    fn refuse(&mut self, segment: &Range<usize>, jobs: &[Job]) {
        for (weight, why) in self.walk.refusals(segment, jobs) {
            let weight = Some(self.source.weights.get(weight).name.clone());
            self.notes.push(Note { weight, what: format!("its columns are not scaled: {why}") });
        }
    }

    fn load(&self, n: usize) -> Result<Option<Done>, EngineError> {
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

/// A hash of all that the encoded bytes depend on: source files, decisions, text, and what is drawn.
fn hash(imported: &Imported, plan: &Plan, calibration: &Calibration, seed: u64) -> String {
    let mut hasher = Sha256::new();
    for file in &imported.files {
        let changed = std::fs::metadata(file).and_then(|m| Ok((m.len(), m.modified()?))).ok();
        hasher.update(format!("{} {changed:?}\n", file.display()));
    }
    for t in &plan.tensors {
        hasher.update(format!("{} {} {}\n", t.name, plan::encoding_name(&t.to), t.method));
    }
    hasher.update(format!("{:?} {:?} {seed}\n", plan.recipe.steps, plan.recipe.transforms));
    for window in &calibration.windows {
        window.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    }
    let spec = &plan.recipe.calibration;
    hasher.update(format!("{:?} {:?} {}", spec.mode, spec.experts, env!("CARGO_PKG_VERSION")));
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
