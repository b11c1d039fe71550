//! Networks: an ONNX file in, the steps of a recipe in their order, an ONNX file out, reopened and measured.

mod order;
mod proof;
mod prune;
mod recover;
mod steps;

use crate::compress::Outcome;
use crate::provenance::{hashes, total_bytes};
use crate::staging::Staging;
use crate::{EngineError, Options, Progress, pool};
use graph::{Model, Op};
use import::Imported;
use import::onnx::Network;
use plan::{
    Check, Counters, Journal, NetworkEntry, Note, Plan, Proof, Provenance, Stage, StepEntry, TensorEntry, Versus,
};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use order::order;
pub(crate) use steps::{Context, run};

/// Carries out the steps of a plan. The artifact appears at `out` when it is proven; else nothing does.
pub(crate) fn compress(
    imported: &Imported,
    network: &Network,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome, EngineError> {
    if out.extension().is_none_or(|extension| extension != "onnx") {
        return Err(EngineError::NotOnnx { path: out.into() });
    }
    pool(options)?.install(|| {
        let sources: Vec<&Path> = imported.files.iter().map(PathBuf::as_path).collect();
        let staging = Staging::open(out, &sources, options.replace)?;
        Run { imported, network, plan, options, progress, staging, stages: Vec::new() }.finish()
    })
}

/// A run on its way.
struct Run<'a> {
    imported: &'a Imported,
    network: &'a Network,
    plan: &'a Plan,
    options: &'a Options<'a>,
    progress: &'a dyn Progress,
    staging: Staging,
    stages: Vec<Stage>,
}

impl Run<'_> {
    fn finish(mut self) -> Result<Outcome, EngineError> {
        let before = Counters::of(&self.imported.model)?;
        let (model, steps) = self.steps()?;
        let start = Instant::now();
        let written = export::onnx::write(&model, self.network, &self.staging.path())?;
        self.stage("write", start);
        let start = Instant::now();
        let artifact = self.staging.written()?;
        let source = proof::Source { imported: self.imported, model: &model };
        let proof::Proven { after, layers, difference, accuracy, energy, fusion, tensors } =
            proof::prove(&source, &artifact, self.options)?;
        self.stage("check and measure", start);
        let mut notes: Vec<String> = self.imported.notes.clone();
        notes.extend(written.notes);
        if difference.is_none() {
            notes.push("it was not run: it holds operators that nobody here looks into".into());
        }
        let network = NetworkEntry { before, after, steps, layers, difference, accuracy, energy, fusion };
        let journal = self.journal(network, tensors, notes, &artifact)?;
        let target = self.staging.target().to_owned();
        let files = self.staging.commit()?;
        recover::remove_records(&target)?;
        Ok(Outcome { plan: self.plan.clone(), journal, files })
    }

    fn stage(&mut self, name: &str, start: Instant) {
        self.stages.push(Stage { name: name.into(), seconds: start.elapsed().as_secs_f64() });
    }

    /// The network after every step, checked before and after each.
    fn steps(&mut self) -> Result<(Model, Vec<StepEntry>), EngineError> {
        let mut model = self.imported.model.clone();
        let mut entries = Vec::new();
        let target = self.staging.target().to_owned();
        let context = Context::new(self.imported, self.options, self.progress, &target);
        for step in &self.plan.recipe.steps {
            let (pass, start) = (step.name(), Instant::now());
            let unsound = |when| move |source| EngineError::Unsound { pass, when, source };
            model.check().map_err(unsound("before"))?;
            let done = steps::run(&mut model, step, &context)?;
            model.check().map_err(unsound("after"))?;
            let (after, seconds) = (Counters::of(&model)?, start.elapsed().as_secs_f64());
            self.stages.push(Stage { name: pass.into(), seconds });
            entries.push(done.entry(pass, after, seconds));
        }
        Ok((model, entries))
    }

    fn journal(
        &self,
        network: NetworkEntry,
        tensors: Vec<TensorEntry>,
        notes: Vec<String>,
        artifact: &Path,
    ) -> Result<Journal, EngineError> {
        let files = crate::provenance::files_below(artifact.parent().unwrap_or(artifact))?;
        let bytes = total_bytes(&files);
        let seconds: f64 = self.stages.iter().map(|s| s.seconds).sum();
        let memory = eval::peak_memory().map(|b| b as f64);
        let general = notes.into_iter().map(|what| Note { weight: None, what });
        let all = general.chain(network.steps.iter().flat_map(|s| s.notes.clone())).collect();
        Ok(Journal {
            calibration: None,
            provenance: self.provenance()?,
            size: Versus { predicted: network.after.bytes as f64, measured: Some(bytes as f64) },
            memory: Versus { predicted: self.plan.prediction.memory.0 as f64, measured: memory },
            seconds: Versus { predicted: seconds, measured: Some(seconds) },
            tensors,
            notes: all,
            stages: self.stages.clone(),
            proof: Proof {
                checks: checks(&network),
                bpw: bytes as f64 * 8.0 / network.before.parameters.max(1) as f64,
                bytes,
                quality: None,
                asked: self.plan.recipe.proof.clone(),
            },
            network: Some(network),
        })
    }

    fn provenance(&self) -> Result<Provenance, EngineError> {
        Ok(Provenance {
            tool: concat!("tinier ", env!("CARGO_PKG_VERSION")).into(),
            source: hashes(&self.imported.path, &self.imported.files, self.progress)?,
            recipe: self.plan.recipe.to_toml(),
            seed: self.options.seed,
            threads: self.options.threads(),
            machine: eval::machine(),
        })
    }
}

/// What held of the reopened artifact.
fn checks(network: &NetworkEntry) -> Vec<Check> {
    let check = |name: &str, over: String| Check { name: name.into(), over };
    let mut checks =
        vec![check("reopened, its inputs and outputs as they were", format!("{} layers", network.layers.len()))];
    checks.extend(network.difference.as_ref().map(|d| {
        check("computes what the compressed network did", format!("{} samples, {:.1e} apart", d.samples, d.written))
    }));
    checks
}

/// Whether every op can run.
fn runs(model: &Model) -> bool {
    model.graph().is_some_and(|graph| !graph.nodes().iter().any(|n| matches!(n.op, Op::Opaque(_))))
}
