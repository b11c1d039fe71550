//! Carrying out a plan: encode, write, reopen, check, measure; only then does the artifact get its name.

use crate::checkpoint::Checkpoint;
use crate::planner::setting;
use crate::staging::Staging;
use crate::{Calibration, EngineError, Options, Progress, Unit, pool, proof, provenance, served};
use codec::Encoding;
use graph::{Body, Model};
use import::Imported;
use import::tokenizer::Tokenizer;
use plan::preset::{Facts, Mix, Preset};
use plan::{Container, CostModel, Fitted, Journal, Note, Plan, Provenance, Stage, Versus, Violation};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run that succeeded.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The plan that was carried out: behind steps, of what they left.
    pub plan: Plan,
    /// What was done, measured.
    pub journal: Journal,
    /// The artifact: a folder, a file, or the files of a split.
    pub files: Vec<PathBuf>,
}

/// Carries out a plan. The artifact appears at `out` when it is proven; else nothing does, but for one that is sound and
/// misses its bounds, which is kept in `<out>.rejected`.
pub fn compress(
    imported: &Imported,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome, EngineError> {
    if let Some(network) = &imported.network {
        return crate::network::compress(imported, network, plan, out, options, progress);
    }
    if !plan.recipe.steps.is_empty() {
        check_gates(imported, plan, options)?;
        return crate::pruning::compress(imported, plan, out, options, progress);
    }
    pool(options)?.install(|| Run::new(imported, plan, out, options, progress)?.finish()?.settle())
}

/// An artifact that was written and measured, and has no name yet.
pub(crate) struct Finished {
    pub plan: Plan,
    pub journal: Journal,
    pub violations: Vec<Violation>,
    staging: Staging,
    checkpoint: Option<Checkpoint>,
}

impl Finished {
    /// Gives the artifact its name where it keeps its bounds; else puts it aside.
    pub fn settle(self) -> Result<Outcome, EngineError> {
        if !self.violations.is_empty() {
            let rejected = self.staging.reject()?;
            let (plan, journal) = (Box::new(self.plan), Box::new(self.journal));
            return Err(EngineError::Gates { rejected, violations: self.violations, plan, journal });
        }
        let files = self.staging.commit()?;
        self.checkpoint.map_or(Ok(()), Checkpoint::remove)?;
        Ok(Outcome { plan: self.plan, journal: self.journal, files })
    }

    /// Removes the checkpoint: another run is to follow under the same name.
    pub fn forget_checkpoint(&mut self) -> Result<(), EngineError> {
        self.checkpoint.take().map_or(Ok(()), Checkpoint::remove)
    }
}

/// A run on its way: what was done so far.
pub(crate) struct Run<'a> {
    imported: &'a Imported,
    /// What the artifact is measured against.
    reference: &'a Model,
    plan: &'a Plan,
    options: &'a Options<'a>,
    progress: &'a dyn Progress,
    staging: Staging,
    tokenizer: Tokenizer,
    notes: Vec<Note>,
    stages: Vec<Stage>,
    checkpoint: Option<Checkpoint>,
    fitted: BTreeMap<String, Fitted>,
    /// What the artifact's weights should be.
    target: Model,
}

impl<'a> Run<'a> {
    /// Checks all that can be checked before any work.
    pub fn new(
        imported: &'a Imported,
        plan: &'a Plan,
        out: &Path,
        options: &'a Options<'a>,
        progress: &'a dyn Progress,
    ) -> Result<Run<'a>, EngineError> {
        let costs = CostModel::default();
        plan.clone().revise(&imported.model, &setting(imported, &plan.recipe, options, &costs))?;
        check_gates(imported, plan, options)?;
        served::check(plan, options)?;
        if let Some(limit) = options.max_memory.filter(|limit| plan.prediction.memory > *limit) {
            return Err(EngineError::Memory { needs: plan.prediction.memory, limit });
        }
        let sources: Vec<&Path> = imported.files.iter().map(PathBuf::as_path).chain([&*imported.path]).collect();
        let staging = Staging::open(out, &sources, options.replace)?;
        staging.check_space(plan.prediction.disk)?;
        let tokenizer = imported.tokenizer()?;
        let notes = first_notes(imported, plan);
        let target = imported.model.clone();
        let (stages, checkpoint, fitted) = (Vec::new(), None, BTreeMap::new());
        let reference = &imported.model;
        Ok(Run {
            imported,
            reference,
            plan,
            options,
            progress,
            staging,
            tokenizer,
            notes,
            stages,
            checkpoint,
            fitted,
            target,
        })
    }

    /// The artifact is measured against another model than the one it is made of.
    pub fn against(self, reference: &'a Model) -> Run<'a> {
        Run { reference, ..self }
    }

    /// Does all of it, but for giving the artifact its name.
    pub fn finish(mut self) -> Result<Finished, EngineError> {
        let model = self.timed("calibrate and quantize", Run::quantize)?;
        self.timed("encode and write", |run| run.write(&model))?;
        drop(model);
        let (proof, mut tensors) = self.timed("check and measure", Run::prove)?;
        tensors.iter_mut().for_each(|t| t.fitted = self.fitted.get(&t.name).copied());
        let (root, files) = (&self.imported.path, source_files(self.imported));
        let source = self.timed("hash source", |run| provenance::hashes(root, &files, run.progress))?;
        let violations = proof.quality.as_ref().map_or(Vec::new(), |q| self.plan.recipe.proof.violations(q));
        let predicted = &self.plan.prediction;
        let measured: f64 = self.stages.iter().map(|s| s.seconds).sum();
        let versus = |predicted: f64, measured: Option<f64>| Versus { predicted, measured };
        let journal = Journal {
            provenance: self.provenance(source),
            size: versus(predicted.artifact.0 as f64, Some(proof.bytes as f64)),
            memory: versus(predicted.memory.0 as f64, eval::peak_memory().map(|b| b as f64)),
            seconds: versus(predicted.seconds(), Some(measured)),
            calibration: self.options.calibration.filter(|_| !self.fitted.is_empty()).map(Calibration::record),
            tensors,
            notes: self.notes,
            stages: self.stages,
            proof,
            network: None,
        };
        let plan = self.plan.clone();
        Ok(Finished { plan, journal, violations, staging: self.staging, checkpoint: self.checkpoint })
    }

    fn provenance(&self, source: Vec<plan::FileHash>) -> Provenance {
        Provenance {
            tool: concat!("tinier ", env!("CARGO_PKG_VERSION")).into(),
            source,
            recipe: self.plan.recipe.to_toml(),
            seed: self.options.seed,
            threads: self.options.threads(),
            machine: eval::machine(),
        }
    }

    fn timed<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Run<'a>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let start = Instant::now();
        let done = work(self)?;
        formats::memory::give_back();
        self.stages.push(Stage { name: name.into(), seconds: start.elapsed().as_secs_f64() });
        Ok(done)
    }

    /// Chooses the codes of weights that learn from text; the others wait until they are written.
    fn quantize(&mut self) -> Result<Model, EngineError> {
        let quantized =
            crate::quantize::quantize(self.imported, self.plan, self.staging.target(), self.options, self.progress)?;
        self.notes.extend(quantized.notes);
        self.checkpoint = quantized.checkpoint;
        self.fitted = quantized.fitted;
        self.target = quantized.target;
        let mut model = quantized.model;
        self.notes.extend(served::serve(self.plan, &mut model, self.options.calibration, self.progress)?);
        Ok(model)
    }

    /// Writes the artifact. Weights that learn from no text are encoded when the exporter reads them.
    fn write(&mut self, model: &Model) -> Result<(), EngineError> {
        self.progress.begin("encode and write", self.plan.bytes_after(), Unit::Bytes);
        let written = self.export(model);
        self.progress.end();
        self.notes.extend(written?.notes.into_iter().map(|what| Note { weight: None, what }));
        Ok(())
    }

    fn export(&self, model: &Model) -> Result<export::Written, EngineError> {
        let path = self.staging.path();
        let split = self.plan.recipe.output.split_size.map(|b| b.0);
        let last = std::sync::atomic::AtomicU64::new(0);
        let progress = |done: u64| {
            let before = last.swap(done, std::sync::atomic::Ordering::Relaxed);
            self.progress.advance(done.saturating_sub(before));
        };
        let written = match self.plan.container {
            Container::Gguf => {
                let name = model_name(self.imported);
                let options = export::gguf::Options {
                    name: &name,
                    file_type: file_type(self.plan, model),
                    split_max_bytes: split,
                };
                export::gguf::write(model, &self.tokenizer, &path, options, &progress)?
            }
            folder => {
                let encoded = Imported { model: model.clone(), ..self.imported.clone() };
                let max_shard = split.unwrap_or(export::compressed_tensors::MAX_SHARD);
                crate::convert::write_folder(&encoded, folder, &path, max_shard, &progress)?
            }
        };
        Ok(written)
    }

    fn prove(&mut self) -> Result<(plan::Proof, Vec<plan::TensorEntry>), EngineError> {
        let source = proof::Source { reference: self.reference, tokenizer: &self.tokenizer, target: &self.target };
        let planned: Vec<Encoding> = self.plan.tensors.iter().map(|t| t.to).collect();
        let artifact = self.staging.written()?;
        proof::prove(&source, &artifact, Some(&planned), &self.plan.recipe.proof, self.options, self.progress)
    }
}

/// `general.name`.
pub(crate) fn model_name(imported: &Imported) -> String {
    imported.path.file_stem().map_or("model".into(), |n| n.to_string_lossy().into_owned())
}

/// Every file that the artifact depends on.
fn source_files(imported: &Imported) -> Vec<PathBuf> {
    let config = Some(imported.path.join(formats::hf::CONFIG)).filter(|config| config.exists());
    config.into_iter().chain(imported.files.iter().chain(&imported.extras).cloned()).collect()
}

/// Bounds need something to be measured on.
fn check_gates(imported: &Imported, plan: &Plan, options: &Options<'_>) -> Result<(), EngineError> {
    let why = match imported.model.graph() {
        _ if !plan.recipe.proof.gated() => return Ok(()),
        None => "the architecture is unknown, so the model cannot be run",
        Some(_) if options.text.is_none() => "there is no text to evaluate on",
        Some(_) => return Ok(()),
    };
    Err(EngineError::CannotGate { why: why.into() })
}

/// What is known before anything was done.
fn first_notes(imported: &Imported, plan: &Plan) -> Vec<Note> {
    let fallback = |t: &plan::PlannedTensor| {
        let (wanted, got, cols) = (t.instead_of?, t.to, t.shape.last()?);
        let (wanted, got) = (plan::encoding_name(&wanted), plan::encoding_name(&got));
        let what = format!("{got} instead of {wanted}: rows of {cols} are no multiple of its blocks");
        Some(Note { weight: Some(t.name.clone()), what })
    };
    let unknown = match &imported.model.body {
        Body::Unknown { reason } => Some(format!("{reason}: weights were taken by name and shape, nothing was run")),
        Body::Decoder { .. } | Body::Network { .. } => None,
    };
    let general = imported.notes.iter().cloned().chain(unknown).map(|what| Note { weight: None, what });
    general.chain(plan.tensors.iter().filter_map(fallback)).collect()
}

/// `general.file_type`: the mix, or the first one that treats the largest weight so.
pub(crate) fn file_type(plan: &Plan, model: &Model) -> u32 {
    if let Ok(Preset::Mix(mix)) = plan.mix.parse() {
        return mix.file_type();
    }
    let facts = model.decoder().map(Facts::of).unwrap_or_default();
    let largest = model.weights.iter().map(|(_, w)| w).max_by_key(|w| w.elements());
    let alike = |mix: &Mix| largest.is_some_and(|w| mix.encoding(&facts, w) == w.encoding);
    Mix::ALL.into_iter().find(alike).unwrap_or(Mix::F16).file_type()
}
