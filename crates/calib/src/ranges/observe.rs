//! Running a network over samples while watching its values.

use super::Seen;
use crate::Samples;
use exec::{Data, Executor, Options, Tap, Values};
use graph::{Dim, Graph, Kind, ValueId, WeightStore};
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;

/// Why a network could not be watched.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ObserveError {
    #[error(transparent)]
    Run(#[from] exec::Error),
    #[error("calibration samples: {0}")]
    Samples(Box<dyn Error + Send + Sync>),
    #[error(
        "value `{value}` is not finite on the calibration samples; look at the samples' scaling, or at the network"
    )]
    NotFinite { value: String },
    #[error("there are no calibration samples")]
    Empty,
}

/// Runs a network over all samples and tells what its values of numbers were, those that something reads and its outputs.
///
/// # Errors
/// Where there are no samples, a batch does not fit the network, or a value is not finite.
pub fn observe(
    graph: &Graph,
    weights: &WeightStore,
    samples: &dyn Samples,
) -> Result<BTreeMap<ValueId, Seen>, ObserveError> {
    let mut executor = Executor::new(graph, weights, Options::default())?;
    let mut seen: BTreeMap<ValueId, Seen> = BTreeMap::new();
    for range in batches(graph, samples)? {
        let inputs = samples.batch(range).map_err(ObserveError::Samples)?.inputs;
        watch(graph, &mut executor, inputs, &mut |value, numbers| seen.entry(value).or_default().see(numbers))?;
    }
    let broken = seen.iter().find(|(_, seen)| !seen.histogram().is_finite());
    match broken {
        Some((value, _)) => Err(ObserveError::NotFinite { value: graph.values()[value.0].name.clone() }),
        None => Ok(seen),
    }
}

/// Samples that run together, where the network lets that be chosen.
const TOGETHER: usize = 32;

/// The batches that samples make for a network: all of one size where it takes no other, so that the last ones may be left out.
///
/// # Errors
/// Where there is not one batch.
pub fn batches(graph: &Graph, samples: &dyn Samples) -> Result<Vec<Range<usize>>, ObserveError> {
    let first = graph.inputs().first().and_then(|v| graph.values()[v.0].shape.first());
    let (size, count) = match first {
        Some(Dim::Fixed(n)) => ((*n).max(1), samples.len() / (*n).max(1)),
        _ => (TOGETHER, samples.len().div_ceil(TOGETHER)),
    };
    match count {
        0 => Err(ObserveError::Empty),
        count => Ok((0..count).map(|n| n * size..((n + 1) * size).min(samples.len())).collect()),
    }
}

/// Runs one batch and shows every value of numbers once: those that something reads, and the outputs.
fn watch(
    graph: &Graph,
    executor: &mut Executor,
    inputs: Vec<Data>,
    see: &mut dyn FnMut(ValueId, &[f32]),
) -> Result<Values, ObserveError> {
    let mut shown = vec![false; graph.values().len()];
    let mut show = |value: ValueId, data: &Data| {
        if let (Some(tensor), false) = (data.float(), std::mem::replace(&mut shown[value.0], true)) {
            see(value, tensor.data());
        }
    };
    let values = executor.inputs(inputs)?;
    let values = executor.run_range_with_taps(executor.whole(), values, &mut |tap| {
        if let Tap::Inputs { node, inputs } = tap {
            graph.nodes()[node.0].inputs.iter().zip(inputs).for_each(|(value, data)| show(*value, data));
        }
    })?;
    let outputs = graph.outputs().iter().filter(|v| graph.values()[v.0].kind == Kind::Float);
    outputs.filter_map(|value| Some((value, values.get(value)?))).for_each(|(value, data)| show(*value, data));
    Ok(values)
}
