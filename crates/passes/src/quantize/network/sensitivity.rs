//! # What a layer costs when it alone is rounded
//!
//! **What it does.** One product at a time gets its grids: its weights, and what it reads. How far the network's outputs then
//! move, `‖ŷ − y‖ / ‖y‖` on samples, is its sensitivity; everything else stays as it was.
//!
//! **What it costs.** A run for each layer and kind of codes, on a few samples.
//!
//! **Papers.** Wu et al.: Integer Quantization for Deep Learning Inference (arXiv 2004.09602), §5.2; Dong et al.: HAWQ (arXiv
//! 1905.03696) orders by curvature instead.

use super::{QuantizeError, Work, calibrator, finite, grids, kernels, rewrite, weights};
use calib::ranges::batches;
use calib::{First, Samples};
use exec::{Data, Executor};
use graph::ops::FakeQuant;
use graph::{Levels, Model, Node, Patch, Place, Role, Weight};
use plan::{Counters, SensitivityEntry, levels_name};

/// Samples that outputs are compared on, at most.
pub(super) const SAMPLES: usize = 64;
/// Multiply–accumulates that a survey may take: some seconds.
const AFFORDABLE: u64 = 20_000_000_000;
/// Codes that weights are surveyed at.
const TRIED: [Levels; 2] = [Levels::I8, Levels::I4];

/// The outputs of a network on the samples that it is compared on.
pub(super) struct Reference {
    batches: Vec<Vec<Data>>,
    outputs: Vec<f32>,
}

impl Reference {
    /// Of a network, on so many samples at most.
    pub fn of(model: &Model, samples: &dyn Samples, count: usize) -> Result<Reference, QuantizeError> {
        let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
        let samples = First { of: samples, count };
        let read = |range| samples.batch(range).map(|batch| batch.inputs).map_err(calib::LaneError::Samples);
        let batches = batches(graph, &samples)?.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let outputs = run(model, &batches)?;
        Ok(Reference { batches, outputs })
    }

    /// `‖ŷ − y‖ / ‖y‖` of a network's outputs.
    pub fn error(&self, model: &Model) -> Result<f64, QuantizeError> {
        let pairs = run(model, &self.batches)?.into_iter().zip(&self.outputs);
        let square = |x: f32| f64::from(x) * f64::from(x);
        let (apart, norm) = pairs.fold((0.0, 0.0), |(a, n), (x, y)| (a + square(x - y), n + square(*y)));
        Ok((apart / f64::max(norm, f64::MIN_POSITIVE)).sqrt())
    }
}

/// All outputs of numbers, one behind the other.
fn run(model: &Model, batches: &[Vec<Data>]) -> Result<Vec<f32>, QuantizeError> {
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let mut executor = Executor::new(graph, &model.weights, exec::Options::default()).map_err(calib::LaneError::Run)?;
    let mut all = Vec::new();
    for inputs in batches {
        let outputs = executor.run(inputs.clone()).map_err(calib::LaneError::Run)?;
        outputs.iter().filter_map(Data::float).for_each(|tensor| all.extend_from_slice(tensor.data()));
    }
    Ok(all)
}

/// Every product that may be rounded, alone; nothing where a network is too large for that to take seconds.
pub(super) fn survey(work: &Work<'_>) -> Result<Vec<SensitivityEntry>, QuantizeError> {
    let products: Vec<&Node> = work.products().collect();
    let runs = (products.len() * TRIED.len()).max(1) as u64;
    let count = AFFORDABLE / Counters::of(&work.original)?.total_macs().saturating_mul(runs).max(1);
    let graph = work.original.graph().ok_or(QuantizeError::NoNetwork)?;
    let fixed = graph.inputs().first().and_then(|v| graph.values()[v.0].shape.first()?.fixed());
    if (count as usize) < fixed.unwrap_or(1) {
        return Ok(Vec::new());
    }
    let reference = Reference::of(&work.original, work.samples, (count as usize).min(SAMPLES))?;
    let moved =
        |node: &Node, levels| Ok((levels_name(levels).to_owned(), sensitivity(work, &reference, node, levels)?));
    let entry = |node: &Node| {
        let moved = TRIED.into_iter().map(|levels| moved(node, levels)).collect::<Result<_, QuantizeError>>()?;
        Ok(SensitivityEntry { node: node.name.clone(), moved })
    };
    products.into_iter().map(entry).collect()
}

/// How far the outputs move when a product alone is rounded.
pub(super) fn sensitivity(
    work: &Work<'_>,
    reference: &Reference,
    node: &Node,
    levels: Levels,
) -> Result<f64, QuantizeError> {
    match alone(work, node, levels)? {
        Some(model) => reference.error(&model),
        None => Ok(0.0),
    }
}

/// The network with the weights of one product on their grid, and with what it reads on its own.
fn alone(work: &Work<'_>, node: &Node, levels: Levels) -> Result<Option<Model>, QuantizeError> {
    let Some((id, _)) = weights::parts(&node.op) else { return Ok(None) };
    let mut model = work.original.clone();
    let old = work.original.weights.get(id).clone();
    let mut numbers = finite(&work.original, id)?;
    let grid = weights::nearest(&numbers, old.shape.first().copied(), levels);
    grids::round(&grid, &old.shape, &mut numbers);
    let new = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers)?;
    model.weights.replace(id, new.encoding, new.shape, new.source);
    if let Some(seen) = node.inputs.first().and_then(|value| Some((*value, work.seen.get(value)?))) {
        let values = work.spec.values;
        let grid = grids::of_range(calibrator(work.spec).range(seen.1, levels_of(values)), values);
        let mut patch = Patch::default();
        let name = rewrite::unused(&model, &format!("{}_read_scale", node.name));
        let scale = patch.add(&model, Weight::from_f32(&name, Place::outer(Role::Other), vec![], &grid.scale)?);
        let op = FakeQuant { scale, zero: grid.zero, axis: grid.axis, levels: grid.levels };
        model.apply(patch.insert(seen.0, &format!("{}_read", node.name), op, Some(&[&node.name])))?;
    }
    Ok(Some(model))
}

/// How many codes there are.
pub(super) fn levels_of(levels: Levels) -> usize {
    let (first, last) = levels.range();
    (last - first + 1) as usize
}

impl Work<'_> {
    /// Nodes that multiply by a weight and may be rounded.
    pub(super) fn products(&self) -> impl Iterator<Item = &Node> {
        let nodes = self.original.graph().map_or(&[][..], |graph| graph.nodes());
        nodes.iter().filter(|n| kernels::is_product(&n.op) && weights::parts(&n.op).is_some() && !self.keeps(n))
    }
}
