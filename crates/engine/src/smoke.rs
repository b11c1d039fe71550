//! A trial of the block that needs most memory: calibrated, encoded, validated and decoded, in a minute, before hours
//! are spent on all of them.

use crate::quantize::{Jobs, encode_rows};
use crate::{EngineError, Importance, Options, Progress, Unit, pool};
use codec::{Encoding, Part};
use graph::{Buffer, Model, Source, Weight};
use import::Imported;
use passes::quantize::sequential::{self, Sequential, SequentialError};
use plan::Plan;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Windows of calibration text that a trial runs.
const WINDOWS: usize = 2;

/// What a trial found.
#[derive(Clone, Debug)]
pub struct Smoke {
    /// The block that was tried.
    pub block: String,
    /// Its weights: name, and `‖Q − W‖ / ‖W‖` (Frobenius norms).
    pub weights: Vec<(String, f64)>,
    /// Seconds that it took.
    pub seconds: f64,
    /// Tokens of calibration text that it saw.
    pub tokens: usize,
    /// Peak resident bytes of the process so far.
    pub memory: Option<u64>,
    /// What came up.
    pub notes: Vec<String>,
}

/// Takes the block that needs most memory through all that [`compress`](crate::compress()) does to it.
pub fn smoke(
    imported: &Imported,
    plan: &Plan,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Smoke, EngineError> {
    pool(options)?.install(|| {
        let start = Instant::now();
        progress.begin("try the largest block", plan.tensors.len() as u64, Unit::Weights);
        let tried = try_largest(imported, plan, options);
        progress.end();
        let tried = tried?;
        Ok(Smoke { seconds: start.elapsed().as_secs_f64(), memory: eval::peak_memory(), ..tried })
    })
}

fn try_largest(imported: &Imported, plan: &Plan, options: &Options<'_>) -> Result<Smoke, EngineError> {
    let source = &imported.model;
    let (block, nodes) = largest(source).ok_or(SequentialError::NoGraph)?;
    let mut model = source.clone();
    let factors = factors(source, &nodes);
    let Jobs { rows, matrices } = Jobs::of(source, plan);
    encode_rows(&mut model, &rows, &Importance::default())?;
    let mut smoke = Smoke { block, weights: Vec::new(), seconds: 0.0, tokens: 0, memory: None, notes: Vec::new() };
    for (id, weight) in model.weights.iter().filter(|(id, _)| factors.contains(id)) {
        if weight.encoding != source.weights.get(id).encoding {
            smoke.take(source.weights.get(id), weight.encoding, &weight.parts()?)?;
        }
    }
    let jobs: Vec<_> = matrices.into_iter().filter(|job| factors.contains(&job.weight)).collect();
    if jobs.is_empty() {
        return Ok(smoke);
    }
    let calibration = options.calibration.ok_or(EngineError::NoCalibration { method: jobs[0].method })?;
    let windows = &calibration.windows[..WINDOWS.min(calibration.windows.len())];
    smoke.tokens = windows.iter().map(Vec::len).sum();
    let mode = plan.recipe.calibration.mode;
    let experts = plan.recipe.calibration.experts;
    let settings = sequential::Options { spill: None, limit: options.statistics(), mode, experts, transforms: &[] };
    if !plan.recipe.transforms.is_empty() {
        smoke.notes.push("transforms were left out of the trial".into());
    }
    let mut walk = Sequential::new(source, model, &jobs, windows, settings)?;
    walk.jump(&nodes)?;
    walk.quantize(&nodes, &jobs, &mut |solved| {
        let weight = source.weights.get(solved.job.weight);
        smoke.take(weight, solved.job.encoding, &solved.parts)?;
        smoke.notes.extend(solved.notes.iter().map(|note| format!("{}: {note}", weight.name)));
        Ok::<Arc<dyn Source>, EngineError>(Arc::new(Buffer::new(&weight.name[..], weight.rows(), solved.parts)))
    })?;
    Ok(smoke)
}

/// The name and nodes of the block with most weights.
fn largest(model: &Model) -> Option<(String, Range<usize>)> {
    let graph = model.graph()?;
    let elements = |nodes: &Range<usize>| -> usize {
        factors(model, nodes).into_iter().map(|id| model.weights.get(id).elements()).sum()
    };
    let block = graph.blocks().iter().rev().max_by_key(|block| elements(&block.nodes))?;
    Some((block.name.clone(), block.nodes.clone()))
}

fn factors(model: &Model, nodes: &Range<usize>) -> Vec<graph::WeightId> {
    let nodes = model.graph().map_or(&[][..], |graph| &graph.nodes()[nodes.clone()]);
    nodes.iter().flat_map(|node| node.op.spec().factors()).collect()
}

impl Smoke {
    /// Validates and decodes an encoded weight, and says how far it is from what it was.
    fn take(&mut self, weight: &Weight, encoding: Encoding, parts: &[Part]) -> Result<(), EngineError> {
        let codec = |source| graph::SourceError::Codec { name: weight.name.clone(), source };
        let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
        let (rows, cols) = (weight.rows(), weight.cols());
        encoding.validate(rows, cols, find).map_err(codec)?;
        let decoded = encoding.decode(rows, cols, find).map_err(codec)?;
        let original = weight.read()?;
        self.weights.push((weight.name.clone(), distance(&original, &decoded)));
        Ok(())
    }
}

fn distance(original: &[f32], decoded: &[f32]) -> f64 {
    let pairs = original.iter().zip(decoded).map(|(w, q)| (f64::from(*w), f64::from(*q)));
    let (error, norm) = pairs.fold((0.0, 0.0), |(e, n), (w, q)| (e + (q - w) * (q - w), n + w * w));
    if norm > 0.0 { (error / norm).sqrt() } else { 0.0 }
}
