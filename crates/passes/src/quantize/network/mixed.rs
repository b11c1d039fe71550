//! # Mixed precision under a budget
//!
//! **What it does.** Gives as few layers as possible more precision (4-bit weights 8 bits, 8-bit layers float) until the network
//! keeps its bounds: outputs move by no more than `‖ŷ − y‖ / ‖y‖` on samples, or no more than so many points of accuracy are lost
//! on labelled ones.
//!
//! **How.** Every layer may take steps up. They are taken in the order of what they win in [sensitivity](super::sensitivity) for
//! each bit that they cost; how many are taken is found by bisection, each time with the whole network made and measured.
//! A bound on accuracy is first met on the labelled samples that are calibrated on, then verified on held-out ones; where it does
//! not hold there, more steps are taken until it does, and a note says so.
//!
//! **What it needs.** A run for each layer and kind of codes, and a whole quantization for each halving; labels for accuracy.

use super::sensitivity::{Reference, SAMPLES, sensitivity};
use super::{QuantizeError, Work, weights};
use calib::ranges::batches;
use calib::{First, Samples};
use exec::{Data, Executor};
use graph::{Levels, Model, Node};
use plan::levels_name;
use std::collections::BTreeMap;

/// Labelled samples that accuracy is measured on while looking for a choice, at most.
const LABELLED: usize = 512;

/// What a product computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    Codes(Levels),
    Float,
}

impl Precision {
    fn bits(self) -> usize {
        match self {
            Precision::Codes(levels) => levels.bits(),
            Precision::Float => 32,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Precision::Codes(levels) => levels_name(levels),
            Precision::Float => "float",
        }
    }
}

/// Products that are more precise than the rest.
pub(super) type Choice = BTreeMap<String, Precision>;

/// A step up for a layer.
struct Step {
    node: String,
    to: Precision,
}

/// What a mixed network is held to.
enum Bound<'a> {
    /// Of the outputs, `‖ŷ − y‖ / ‖y‖`.
    Moved { reference: Reference, most: f64 },
    /// Points of accuracy.
    Lost { samples: &'a dyn Samples, right: usize, most: f64 },
}

impl<'a> Bound<'a> {
    /// The accuracy of the network as it was, less so many points.
    fn lost(original: &Model, samples: &'a dyn Samples, most: f64) -> Result<Bound<'a>, QuantizeError> {
        let (right, of) = right(original, samples)?;
        if of == 0 {
            return Err(QuantizeError::NoLabels { data: samples.name().to_owned() });
        }
        Ok(Bound::Lost { samples, right, most })
    }

    fn measure(&self, model: &Model) -> Result<f64, QuantizeError> {
        match self {
            Bound::Moved { reference, .. } => reference.error(model),
            Bound::Lost { samples, right: before, .. } => {
                let (now, of) = right(model, *samples)?;
                Ok(100.0 * (*before as f64 - now as f64) / of.max(1) as f64)
            }
        }
    }

    fn most(&self) -> f64 {
        match self {
            Bound::Moved { most, .. } | Bound::Lost { most, .. } => *most,
        }
    }

    fn missed(&self, reached: f64) -> QuantizeError {
        match self {
            Bound::Moved { most, .. } => QuantizeError::Budget { budget: *most, reached },
            Bound::Lost { most, samples, .. } => {
                QuantizeError::Drop { most: *most, reached, data: samples.name().to_owned() }
            }
        }
    }
}

/// The network with as few layers made wider as its bounds allow, and what was chosen.
pub(super) fn within(work: &Work<'_>, held_out: Option<&dyn Samples>) -> Result<(Model, Vec<String>), QuantizeError> {
    let labelled = First { of: work.all, count: LABELLED };
    let mut bounds = Vec::new();
    if let Some(most) = work.spec.budget {
        bounds.push(Bound::Moved { reference: Reference::of(&work.original, work.samples, SAMPLES)?, most });
    }
    if let Some(most) = work.spec.max_drop {
        bounds.push(Bound::lost(&work.original, &labelled, most)?);
    }
    let steps = steps(work)?;
    let (mut taken, mut model) = (0, work.made(&Choice::new())?);
    for bound in &bounds {
        (model, taken) = climb(work, &steps, bound, (model, taken))?;
    }
    let mut notes = Vec::new();
    if let (Some(most), Some(samples)) = (work.spec.max_drop, held_out) {
        let bound = Bound::lost(&work.original, samples, most)?;
        let before = taken;
        (model, taken) = climb(work, &steps, &bound, (model, taken))?;
        if taken > before {
            notes.push(format!("{} steps more were taken for the held-out samples", taken - before));
        }
    }
    let chosen = choice(&steps[..taken]).into_iter();
    notes.extend(chosen.map(|(node, to)| format!("`{node}`: {}, wider than the rest, for the budget", to.name())));
    Ok((model, notes))
}

/// Takes as few further steps as a bound needs.
fn climb(
    work: &Work<'_>,
    steps: &[Step],
    bound: &Bound<'_>,
    (model, taken): (Model, usize),
) -> Result<(Model, usize), QuantizeError> {
    let reached = bound.measure(&model)?;
    if reached <= bound.most() {
        return Ok((model, taken));
    }
    let (mut best, mut least, mut most) = (work.made(&choice(steps))?, taken + 1, steps.len());
    let all = bound.measure(&best)?;
    if all > bound.most() || least > most {
        return Err(bound.missed(all.min(reached)));
    }
    while least < most {
        let middle = usize::midpoint(least, most);
        let model = work.made(&choice(&steps[..middle]))?;
        if bound.measure(&model)? <= bound.most() {
            (best, most) = (model, middle);
        } else {
            least = middle + 1;
        }
    }
    Ok((best, most))
}

fn choice(steps: &[Step]) -> Choice {
    steps.iter().map(|step| (step.node.clone(), step.to)).collect()
}

/// All steps up but the last one to float, so that something is left to quantize: those first that win most for a bit.
fn steps(work: &Work<'_>) -> Result<Vec<Step>, QuantizeError> {
    let reference = Reference::of(&work.original, work.samples, SAMPLES)?;
    let mut ranked: Vec<(f64, Step)> = Vec::new();
    for node in work.products() {
        let numbers = weights::parts(&node.op).map_or(1, |(id, _)| work.original.weights.get(id).elements());
        let mut last = f64::INFINITY;
        for (from, to) in ladder(work.spec.weights) {
            let won = moved(work, &reference, node, from)? - moved(work, &reference, node, to)?;
            // A layer takes its steps in their order.
            last = last.min(won / (numbers.max(1) * (to.bits() - from.bits())) as f64);
            ranked.push((last, Step { node: node.name.clone(), to }));
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut steps: Vec<Step> = ranked.into_iter().map(|(_, step)| step).collect();
    if let Some(last) = steps.iter().rposition(|step| step.to == Precision::Float) {
        steps.remove(last);
    }
    Ok(steps)
}

/// The steps up from codes.
fn ladder(from: Levels) -> Vec<(Precision, Precision)> {
    let all = match from {
        Levels::I4 => vec![Precision::Codes(Levels::I4), Precision::Codes(Levels::I8), Precision::Float],
        levels => vec![Precision::Codes(levels), Precision::Float],
    };
    all.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

fn moved(work: &Work<'_>, reference: &Reference, node: &Node, at: Precision) -> Result<f64, QuantizeError> {
    match at {
        Precision::Codes(levels) => sensitivity(work, reference, node, levels),
        Precision::Float => Ok(0.0),
    }
}

/// How many samples a network names as they are labelled, and how many are labelled.
fn right(model: &Model, samples: &dyn Samples) -> Result<(usize, usize), QuantizeError> {
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let mut executor = Executor::new(graph, &model.weights, exec::Options::default()).map_err(calib::LaneError::Run)?;
    let (mut hits, mut of) = (0, 0);
    for range in batches(graph, samples)? {
        let batch = samples.batch(range).map_err(calib::LaneError::Samples)?;
        let outputs = executor.run(batch.inputs).map_err(calib::LaneError::Run)?;
        let Some(scores) = outputs.first().and_then(Data::float) else { return Ok((0, 0)) };
        let classes = scores.width();
        if let Some(label) = batch.labels.iter().find(|l| **l as usize >= classes) {
            return Err(QuantizeError::Label { data: samples.name().to_owned(), label: *label, classes });
        }
        let rows = scores.data().chunks(classes.max(1)).zip(&batch.labels);
        let largest = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at as u32);
        of += rows.len();
        hits += rows.filter(|(row, label)| largest(row) == Some(**label)).count();
    }
    Ok((hits, of))
}
