//! # Mixed precision under a budget
//!
//! **What it does.** Gives as few layers as possible one step more precision (4-bit weights 8 bits, 8-bit layers float) until
//! the network's outputs move by no more than a budget, `‖ŷ − y‖ / ‖y‖` on samples.
//!
//! **How.** The sensitivity of a layer is how far the outputs move when its weights alone are rounded. Layers are wanted in
//! the order of sensitivity for each number saved; how many are taken is found by bisection, each time with the whole network
//! made and measured.
//!
//! **What it needs.** A run for each layer, and a whole quantization for each halving.
//!
//! **Papers.** Wu et al.: Integer Quantization for Deep Learning Inference (arXiv 2004.09602), §5.2, for the sensitivity of one
//! layer at a time; Dong et al.: HAWQ (arXiv 1905.03696) orders by curvature instead.

use super::{QuantizeError, Work, finite, grids, kernels, weights};
use calib::ranges::batches;
use calib::{First, Samples};
use exec::{Data, Executor};
use graph::{Model, Node, Weight, WeightId};
use std::collections::BTreeSet;

/// Samples that outputs are compared on.
const SAMPLES: usize = 64;

/// The outputs of a network on the samples that it is compared on.
struct Reference {
    batches: Vec<Vec<Data>>,
    outputs: Vec<f32>,
}

/// The network with as few layers made wider as the budget allows; their names.
pub(super) fn within(work: &Work<'_>, budget: f64) -> Result<(Model, Vec<String>), QuantizeError> {
    let reference = Reference::of(&work.original, work.samples)?;
    let made = |wide: &[String]| {
        let model = work.made(&wide.iter().cloned().collect::<BTreeSet<_>>())?;
        let error = reference.error(&model)?;
        Ok::<_, QuantizeError>((model, error))
    };
    let (model, error) = made(&[])?;
    if error <= budget {
        return Ok((model, Vec::new()));
    }
    let order = order(work, &reference)?;
    // `most` layers are enough, one less than `least` is not; all but one, so that something is left to quantize.
    let (mut least, mut most) = (1, order.len().saturating_sub(1));
    let (mut best, mut reached) = made(&order[..most])?;
    if reached > budget {
        return Err(QuantizeError::Budget { budget, reached: reached.min(error) });
    }
    while least < most {
        let middle = (least + most) / 2;
        let (model, error) = made(&order[..middle])?;
        if error <= budget {
            (best, reached, most) = (model, error, middle);
        } else {
            least = middle + 1;
        }
    }
    debug_assert!(reached <= budget);
    Ok((best, order[..most].to_vec()))
}

/// Products, those first that move the outputs most for each number of their weights.
fn order(work: &Work<'_>, reference: &Reference) -> Result<Vec<String>, QuantizeError> {
    let graph = work.original.graph().ok_or(QuantizeError::NoNetwork)?;
    let mut ranked: Vec<(f64, String)> = Vec::new();
    for node in graph.nodes().iter().filter(|n| kernels::is_product(&n.op) && !work.keeps(n)) {
        let Some((id, numbers)) = rounded(work, node)? else { continue };
        let old = work.original.weights.get(id);
        let new = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers)?;
        let mut model = work.original.clone();
        model.weights.replace(id, new.encoding, new.shape, new.source);
        ranked.push((reference.error(&model)? / numbers.len().max(1) as f64, node.name.clone()));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(ranked.into_iter().map(|(_, name)| name).collect())
}

/// The weight of a product, rounded by itself.
fn rounded(work: &Work<'_>, node: &Node) -> Result<Option<(WeightId, Vec<f32>)>, QuantizeError> {
    let Some((id, _)) = weights::parts(&node.op) else { return Ok(None) };
    let (shape, mut numbers) = (work.original.weights.get(id).shape.clone(), finite(&work.original, id)?);
    let grid = weights::nearest(&numbers, shape.first().copied(), work.spec.weights);
    grids::round(&grid, &shape, &mut numbers);
    Ok(Some((id, numbers)))
}

impl Reference {
    fn of(model: &Model, samples: &dyn Samples) -> Result<Reference, QuantizeError> {
        let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
        let samples = First { of: samples, count: SAMPLES };
        let read = |range| samples.batch(range).map(|batch| batch.inputs).map_err(calib::LaneError::Samples);
        let batches = batches(graph, &samples)?.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let outputs = run(model, &batches)?;
        Ok(Reference { batches, outputs })
    }

    /// `‖ŷ − y‖ / ‖y‖` of a network's outputs.
    fn error(&self, model: &Model) -> Result<f64, QuantizeError> {
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
