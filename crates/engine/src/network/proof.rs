//! The proof of a network: the file is opened as any user would open it, and runs beside the network it was written from and
//! the one it was made of.

use super::runs;
use crate::{EngineError, Options};
use eval::Classifier;
use exec::{Data, Examples, Executor, Tensor};
use graph::{Graph, Model, Op, Size};
use import::Imported;
use plan::{Accuracy, Counters, Difference, Energy, EnergyBy, Fusion, LayerEntry, OutputDifference, TensorEntry};
use std::collections::BTreeMap;
use std::path::Path;

/// What an artifact was made of.
pub(super) struct Source<'a> {
    pub imported: &'a Imported,
    /// The compressed network, before it was written.
    pub model: &'a Model,
}

/// What was found.
pub(super) struct Proven {
    pub after: Counters,
    pub layers: Vec<LayerEntry>,
    pub difference: Option<Difference>,
    pub accuracy: Option<Accuracy>,
    pub energy: Option<Energy>,
    pub fusion: Option<Fusion>,
    pub tensors: Vec<TensorEntry>,
}

/// Samples that networks are compared on.
const SAMPLES: usize = 16;
/// What writing may change, relative to the largest number.
const WRITTEN: f64 = 1e-5;
/// The same where grids are found in the run: products are then scaled in another order, and a number between two codes may go
/// to the other one.
const WRITTEN_DYNAMIC: f64 = 2e-2;

/// Opens the artifact and compares.
pub(super) fn prove(source: &Source<'_>, path: &Path, options: &Options<'_>) -> Result<Proven, EngineError> {
    let artifact = import::open(path).map_err(|source| EngineError::Reopen { artifact: path.into(), source })?;
    let (from, to) = (&source.imported.model, &artifact.model);
    let tensor = |(_, w): (_, &std::sync::Arc<graph::Weight>)| {
        let bytes = w.bytes()? as u64;
        Ok(TensorEntry { name: w.name.clone(), encoding: w.encoding, bytes, relative_error: 0.0, fitted: None })
    };
    let tensors = to.weights.iter().map(tensor).collect::<Result<_, graph::SourceError>>()?;
    let difference = match (runs(from), runs(to)) {
        (true, true) => Some(difference(source, to, path, options)?),
        (false, _) => None,
        (true, false) => return Err(EngineError::Unproven { artifact: path.into(), apart: f64::INFINITY }),
    };
    let accuracy = options.valid.map(|valid| accuracy(from, to, valid)).transpose()?;
    let rounded = to.graph().is_some_and(|g| g.nodes().iter().any(|n| matches!(n.op, Op::FakeQuant(_))));
    let fusion = rounded.then(|| passes::quantize::network::fusion(to));
    let mut layers = layers(from, source.model);
    let energy = difference.is_some().then(|| energy(from, to)).transpose()?;
    if difference.is_some() {
        time(&mut layers, from, source.model)?;
    }
    Ok(Proven { after: Counters::of(to)?, layers, difference, accuracy, energy, fusion, tensors })
}

/// Seconds of running that a figure is measured over.
const SECONDS: f64 = 0.3;

/// Times every layer in both networks.
fn time(layers: &mut [LayerEntry], from: &Model, to: &Model) -> Result<(), EngineError> {
    let times = |model: &Model| {
        let Some(graph) = model.graph() else { return Ok(BTreeMap::new()) };
        let seconds = exec::node_seconds(graph, &model.weights, SECONDS)?;
        Ok::<_, EngineError>(graph.nodes().iter().map(|n| n.name.clone()).zip(seconds).collect())
    };
    let [before, after] = [times(from)?, times(to)?];
    for layer in layers {
        layer.seconds = before.get(&layer.node).zip(after.get(&layer.node)).map(|(b, a)| [*b, *a]);
    }
    Ok(())
}

/// Energy of one sample in both networks: counted where the machine counts, else estimated.
fn energy(from: &Model, to: &Model) -> Result<Energy, EngineError> {
    let counted = |model: &Model| {
        let Some(graph) = model.graph() else { return Ok(None) };
        let mut executor = Executor::<f32>::new(graph, &model.weights, exec::Options::default())?;
        let random = |(n, id): (usize, &graph::ValueId)| {
            exec::random(&graph.values()[id.0], Size { batch: 1, tokens: 8 }, n as u64)
        };
        let inputs: Vec<Data> = graph.inputs().iter().enumerate().map(random).collect::<Result<_, _>>()?;
        executor.run(inputs.clone())?;
        eval::joules(SECONDS, &mut || executor.run(inputs.clone()).map(drop))
    };
    let counted = counted(from)?.zip(counted(to)?);
    let by = if counted.is_some() { EnergyBy::Counters } else { EnergyBy::Estimate };
    let estimated = |model: &Model| Ok::<_, EngineError>(plan::estimated_energy(model, &Counters::of(model)?));
    let (before, after) = counted.map_or_else(|| Ok::<_, EngineError>((estimated(from)?, estimated(to)?)), Ok)?;
    Ok(Energy { before, after, by })
}

/// How often the artifact is right on what is held out, beside its source.
pub(super) fn accuracy(from: &Model, to: &Model, valid: &dyn Examples) -> Result<Accuracy, EngineError> {
    let classifier = |model: &Model| {
        let graph = model.graph().ok_or(exec::Error::NoEnds { inputs: 0, outputs: 0 })?;
        Ok::<_, EngineError>(Classifier::new(graph, &model.weights, exec::Options::default())?)
    };
    let (mut original, mut artifact) = (classifier(from)?, classifier(to)?);
    Ok(eval::accuracy(&mut artifact, Some(&mut original), valid, usize::MAX, &mut |_| {})?)
}

/// Every node of the source that multiplies by a weight, before and after.
fn layers(from: &Model, to: &Model) -> Vec<LayerEntry> {
    let (Some(before), Some(after)) = (from.graph(), to.graph()) else { return Vec::new() };
    let first = |model: &Model, node: &graph::Node| {
        node.op.spec().weights().first().map_or(Vec::new(), |id| model.weights.get(*id).shape.clone())
    };
    let entry = |node: &graph::Node| {
        let macs_before = plan::macs(from, before, node);
        let now = after.find(&node.name).map(|at| &after.nodes()[at])?;
        (macs_before > 0).then(|| LayerEntry {
            node: node.name.clone(),
            op: node.op.name().into(),
            before: first(from, node),
            after: first(to, now),
            macs_before,
            macs_after: plan::macs(to, after, now),
            seconds: None,
        })
    };
    before.nodes().iter().filter_map(entry).collect()
}

/// The inputs that everything runs on, and what they are called.
fn inputs(graph: &Graph, options: &Options<'_>) -> Result<(Vec<Data>, String, usize), EngineError> {
    if let Some(data) = options.data.filter(|d| !d.is_empty()) {
        // A network of a fixed batch takes no other.
        let fixed = graph.inputs().first().and_then(|v| graph.values()[v.0].shape.first()?.fixed());
        let count = fixed.unwrap_or(SAMPLES).min(data.len());
        let batch = data.batch(0..count).map_err(|source| EngineError::Samples { source })?;
        return Ok((batch.inputs, data.name().to_owned(), count));
    }
    let size = Size { batch: 2, tokens: 8 };
    let random = |(n, id): (usize, &graph::ValueId)| exec::random(&graph.values()[id.0], size, options.seed + n as u64);
    let inputs = graph.inputs().iter().enumerate().map(random).collect::<Result<_, _>>()?;
    Ok((inputs, format!("random numbers, seed {}", options.seed), size.batch))
}

/// Runs all three. What was written must compute what was compressed.
fn difference(
    source: &Source<'_>,
    artifact: &Model,
    path: &Path,
    options: &Options<'_>,
) -> Result<Difference, EngineError> {
    let Some(graph) = source.imported.model.graph() else {
        return Err(EngineError::Unproven { artifact: path.into(), apart: f64::NAN });
    };
    let (inputs, on, samples) = inputs(graph, options)?;
    let original = run(&source.imported.model, &inputs)?;
    let compressed = run(source.model, &inputs)?;
    let made = run(artifact, &inputs)?;
    let written = made.iter().zip(&compressed).map(|(a, b)| apart(a, b)).fold(0.0, f64::max);
    let in_run = source.model.graph().is_some_and(|g| g.nodes().iter().any(|n| matches!(n.op, Op::DynamicQuant(_))));
    if written.is_nan() || written > if in_run { WRITTEN_DYNAMIC } else { WRITTEN } {
        return Err(EngineError::Unproven { artifact: path.into(), apart: written });
    }
    let names = graph.outputs().iter().map(|id| graph.values()[id.0].name.clone());
    let outputs = names.zip(made.iter().zip(&original)).filter_map(|(name, (a, b))| {
        let (a, b) = (a.float()?, b.float()?);
        Some(OutputDifference { name, relative: relative(a.data(), b.data()), top1: top1(a, b) })
    });
    Ok(Difference { on, samples, outputs: outputs.collect(), written })
}

fn run(model: &Model, inputs: &[Data]) -> Result<Vec<Data>, EngineError> {
    let graph = model.graph().ok_or(exec::Error::NoEnds { inputs: 0, outputs: 0 })?;
    let mut executor = Executor::<f32>::new(graph, &model.weights, exec::Options::default())?;
    Ok(executor.run(inputs.to_vec())?)
}

/// `max |a − b| / max |b|`; infinite where shapes differ.
fn apart(a: &Data, b: &Data) -> f64 {
    let (Some(a), Some(b)) = (a.float(), b.float()) else { return 0.0 };
    if a.shape() != b.shape() {
        return f64::INFINITY;
    }
    let largest = b.data().iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let worst = a.data().iter().zip(b.data()).map(|(a, b)| f64::from((a - b).abs() / largest));
    worst.fold(0.0, |m, x| if x.is_nan() { f64::NAN } else { m.max(x) })
}

/// `‖a − b‖ / ‖b‖`.
fn relative(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let (error, norm) = pairs.fold((0.0, 0.0), |(e, n), (a, b)| (e + (a - b) * (a - b), n + b * b));
    if norm > 0.0 { (error / norm).sqrt() } else { error.sqrt() }
}

/// Share of rows whose largest number is at the same place.
fn top1(a: &Tensor, b: &Tensor) -> f64 {
    let largest = |row: &[f32]| row.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)).map(|(at, _)| at);
    let width = a.width().max(1);
    let same = a.data().chunks(width).zip(b.data().chunks(width)).filter(|(a, b)| largest(a) == largest(b)).count();
    same as f64 / a.rows().max(1) as f64
}
