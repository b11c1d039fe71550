//! # Static quantization of networks
//!
//! **What it does.** Weights and values of an ONNX network are put on grids of integers, so placed that onnxruntime
//! replaces every Conv, Gemm, Add, pool and Concat by its integer kernel.
//!
//! **When to use.** For anything that runs on a CPU, phone or microcontroller: a quarter of the bytes, two to three times the
//! speed where there are instructions for it.
//!
//! **What it costs.** A few forward passes over a few hundred samples.
//!
//! **What it needs.** Samples of the inputs, without labels.
//!
//! **How.**
//! 1. Batch norms are folded; what has no integer kernel is [rewritten](rewrite()) where it can be.
//! 2. The network runs over the samples, and [`calib::ranges`] watches its values.
//! 3. [`place()`] says which nodes run on codes, by [what onnxruntime does](kernels), and which values share a grid.
//! 4. Values get [`FakeQuant`]s; Relu and Clip go into the range behind them.
//! 5. Weights and biases get [grids], one product after the other, by what each reads in the original and in the network
//!    as it is rounded so far.
//!
//! **Paper.** Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR
//! 2018 (arXiv 1712.05877); Nagel et al.: A White Paper on Neural Network Quantization (arXiv 2106.08295).

mod dynamic;
mod equalize;
mod fusion;
pub mod grids;
pub mod kernels;
mod mixed;
mod place;
mod rewrite;
mod seen;
mod sensitivity;
mod walk;
mod weights;

pub use dynamic::dynamic;
pub use equalize::equalize;
pub use fusion::fusion;
pub use place::{Placement, place};
pub use rewrite::rewrite;

use crate::quantize::solver::SolveError;
use crate::transform::fold::fold;
use calib::ranges::{self, ObserveError, Seen, observe};
use calib::{First, LaneError, Samples};
use graph::ops::FakeQuant;
use graph::{Graph, GraphError, Grid, Levels, Model, Node, Patch, Role, SourceError, ValueId, Weight, WeightId};
use mixed::{Choice, Precision};
use plan::{Calibrator, QuantizeSpec, RangeEntry, SensitivityEntry};
use std::collections::BTreeMap;

/// A quantized network.
pub struct Quantized {
    /// The network: values behind [`FakeQuant`]s, weights on grids.
    pub model: Model,
    /// What was rewritten, and what could not be.
    pub notes: Vec<String>,
    /// What values were, and what their grids keep.
    pub ranges: Vec<RangeEntry>,
    /// What each product costs when it alone is rounded; empty where that would take long.
    pub sensitivity: Vec<SensitivityEntry>,
}

/// Why a network could not be quantized.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum QuantizeError {
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Weight(#[from] SourceError),
    #[error("only networks can be quantized so; language models have presets of their own (`tinier presets`)")]
    NoNetwork,
    #[error("nothing in the network has an integer kernel: no Conv, Gemm or MatMul that is not kept in float")]
    Nothing,
    #[error("grids that are found in every run do not go with {what}: that needs samples")]
    Static { what: &'static str },
    #[error("the network is quantized already: `{node}` rounds to a grid")]
    Already { node: String },
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Solve(#[from] SolveError),
    #[error("{0}")]
    Encoding(String),
    #[error(
        "the outputs move by {reached:.4} of their norm even with all layers but one wider; {budget} was asked for"
    )]
    Budget { budget: f64, reached: f64 },
    #[error(
        "{reached:.2} points of accuracy are lost on {data} even with all layers but one in float; {most} was asked for"
    )]
    Drop { most: f64, reached: f64, data: String },
    #[error("{data} has a sample of class {label}, the network tells {classes} apart")]
    Label { data: String, label: u32, classes: usize },
    #[error("accuracy needs labels, and {data} has none: give labelled samples, or a budget of the outputs")]
    NoLabels { data: String },
    #[error("node `{node}`: its plane is not known before the network runs; give its inputs fixed sizes")]
    Open { node: String },
    #[error("weight `{weight}` is not finite at index {index}")]
    NotFinite { weight: String, index: usize },
}

/// Quantizes a network by what its values are on samples.
///
/// # Errors
/// Where samples do not fit the network, something is not finite, there is nothing to quantize, or a budget cannot be met.
pub fn quantize(model: &Model, samples: &dyn Samples, spec: &QuantizeSpec) -> Result<Quantized, QuantizeError> {
    verified(model, samples, None, spec)
}

/// The same; a bound on accuracy also holds on samples that are held out.
///
/// # Errors
/// As [`quantize`].
pub fn verified(
    model: &Model,
    samples: &dyn Samples,
    held_out: Option<&dyn Samples>,
    spec: &QuantizeSpec,
) -> Result<Quantized, QuantizeError> {
    let all = samples;
    let samples = &First { of: samples, count: spec.samples };
    let (mut original, mut notes) = prepare(model)?;
    if spec.equalize {
        let (patch, pairs) = equalize(&original)?;
        original.apply(patch)?;
        notes.push(format!("{pairs} pairs of layers equalized"));
    }
    let graph = original.graph().ok_or(QuantizeError::NoNetwork)?;
    let seen = observe(graph, &original.weights, samples)?;
    let work = Work { original, seen, samples, all, spec };
    let model = match (spec.budget, spec.max_drop) {
        (None, None) => work.made(&Choice::new())?,
        _ => {
            let (model, said) = mixed::within(&work, held_out)?;
            notes.extend(said);
            model
        }
    };
    let (ranges, sensitivity) = (seen::ranges(&work, &model)?, sensitivity::survey(&work)?);
    Ok(Quantized { model, notes, ranges, sensitivity })
}

/// A network that was watched, and what is asked of it.
struct Work<'a> {
    /// Folded and rewritten, without grids.
    original: Model,
    seen: BTreeMap<ValueId, Seen>,
    /// What is calibrated on.
    samples: &'a dyn Samples,
    /// What that is the beginning of.
    all: &'a dyn Samples,
    spec: &'a QuantizeSpec,
}

impl Work<'_> {
    /// Whether a node stays in float.
    fn keeps(&self, node: &Node) -> bool {
        self.spec.keep.iter().any(|pattern| pattern.matches_name(&node.name))
    }

    /// The quantized network, these nodes more precise than the rest.
    fn made(&self, wide: &Choice) -> Result<Model, QuantizeError> {
        let mut model = self.original.clone();
        let graph = self.original.graph().ok_or(QuantizeError::NoNetwork)?;
        let in_float = |node: &Node| self.keeps(node) || wide.get(&node.name) == Some(&Precision::Float);
        let placement = place(graph, &self.seen, &in_float);
        let on_codes: Vec<&Node> =
            graph.nodes().iter().zip(&placement.on_codes).filter(|(_, on)| **on).map(|(node, _)| node).collect();
        if !on_codes.iter().any(|node| kernels::is_product(&node.op)) {
            return Err(QuantizeError::Nothing);
        }
        let patch = values(&self.original, graph, &placement, &self.seen, self.spec)?;
        model.apply(patch)?;
        let levels = |node: &Node| match wide.get(&node.name) {
            Some(Precision::Codes(levels)) => *levels,
            _ => self.spec.weights,
        };
        let on_codes: Vec<(String, Levels)> = on_codes.into_iter().map(|n| (n.name.clone(), levels(n))).collect();
        weights::settle(&mut model, &self.original, &on_codes, self.samples, self.spec)?;
        Ok(model)
    }
}

/// Folds and rewrites what stands in the way.
pub fn prepare(model: &Model) -> Result<(Model, Vec<String>), QuantizeError> {
    let mut model = model.clone();
    not_yet(&model)?;
    let folded = fold(&model)?;
    model.apply(folded.patch)?;
    let mut notes: Vec<String> =
        folded.into.iter().map(|(norm, layer)| format!("`{norm}`: folded into `{layer}`")).collect();
    notes.extend(rewrite(&mut model)?);
    Ok((model, notes))
}

/// Refuses what is quantized already, or is no network.
fn not_yet(model: &Model) -> Result<(), QuantizeError> {
    let graph = model.graph().filter(|_| model.decoder().is_none()).ok_or(QuantizeError::NoNetwork)?;
    let rounds = |n: &&Node| matches!(n.op, graph::Op::FakeQuant(_) | graph::Op::DynamicQuant(_));
    match graph.nodes().iter().find(rounds) {
        Some(node) => Err(QuantizeError::Already { node: node.name.clone() }),
        None => Ok(()),
    }
}

/// Takes clamps out and puts values on grids.
fn values(
    model: &Model,
    graph: &Graph,
    placement: &Placement,
    seen: &BTreeMap<ValueId, Seen>,
    spec: &QuantizeSpec,
) -> Result<Patch, QuantizeError> {
    let (mut patch, mut grids) = (Patch::default(), Vec::new());
    for group in &placement.groups {
        let grid = grids::of_range(range(graph, placement, group, seen, spec), spec.values);
        let name = rewrite::unused(model, &format!("{}_scale", graph.values()[group[0].0].name));
        let weight = Weight::from_f32(&name, graph::Place::outer(Role::Other), vec![], &grid.scale)?;
        let scale = patch.add(model, weight);
        grids.extend(group.iter().map(|value| (*value, scale, grid.clone())));
    }
    for (value, scale, grid) in grids {
        let node = on_grid_name(&graph.values()[value.0].name);
        let Grid { zero, axis, levels, .. } = grid;
        patch = patch.insert(value, &node, FakeQuant { scale, zero, axis, levels }, None);
    }
    for at in &placement.clamps {
        patch = patch.bypass(&graph.nodes()[*at].name);
    }
    Ok(patch)
}

/// The node that rounds a value.
fn on_grid_name(value: &str) -> String {
    format!("{value}_dq")
}

/// How ranges are chosen.
fn calibrator(spec: &QuantizeSpec) -> ranges::Calibrator {
    match spec.ranges {
        Calibrator::MinMax => ranges::Calibrator::MinMax,
        Calibrator::MovingAverage => ranges::Calibrator::MovingAverage,
        Calibrator::Percentile(percent) => ranges::Calibrator::Percentile(percent),
        Calibrator::Mse => ranges::Calibrator::Mse,
        Calibrator::Entropy => ranges::Calibrator::Entropy,
    }
}

/// The range of values that share a grid.
fn range(
    graph: &Graph,
    placement: &Placement,
    group: &[ValueId],
    seen: &BTreeMap<ValueId, Seen>,
    spec: &QuantizeSpec,
) -> [f32; 2] {
    let levels = sensitivity::levels_of(spec.values);
    let of = |value: &ValueId| {
        let range = calibrator(spec).range(seen.get(value)?, levels);
        let clamp = graph.maker(*value).filter(|at| placement.clamps.contains(at));
        Some(clamp.map_or(range, |at| place::clamped(&graph.nodes()[at].op, range)))
    };
    group.iter().filter_map(of).fold([0.0; 2], |[a, b], [low, high]| [a.min(low), b.max(high)])
}

/// The grid that a value lies on, where the node that makes it rounds.
pub fn grid_of(model: &Model, graph: &Graph, value: ValueId) -> Result<Option<Grid>, SourceError> {
    let Some(graph::Op::FakeQuant(op)) = graph.maker(value).map(|at| &graph.nodes()[at].op) else { return Ok(None) };
    let scale = model.weights.get(op.scale).read()?;
    Ok(Some(Grid { scale, zero: op.zero.clone(), axis: op.axis, levels: op.levels }))
}

/// Numbers of a weight, all finite.
pub(crate) fn finite(model: &Model, id: WeightId) -> Result<Vec<f32>, QuantizeError> {
    let weight = model.weights.get(id);
    let numbers = weight.read()?;
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(QuantizeError::NotFinite { weight: weight.name.clone(), index }),
        None => Ok(numbers),
    }
}
