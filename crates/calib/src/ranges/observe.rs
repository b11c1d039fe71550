//! Running a network over samples while watching its values.

use super::Seen;
use exec::{Data, Executor, Options, Tap, Values};
use graph::{Graph, Kind, ValueId, WeightStore};
use std::collections::BTreeMap;

/// Samples to run a network on, in batches that can be read again.
pub trait Samples: Sync {
    /// How many batches there are.
    fn batches(&self) -> usize;

    /// A batch: what goes into the network's inputs, in order.
    ///
    /// # Errors
    /// In words, what could not be read.
    fn batch(&self, n: usize) -> Result<Vec<Data>, String>;
}

impl Samples for Vec<Vec<Data>> {
    fn batches(&self) -> usize {
        self.len()
    }

    fn batch(&self, n: usize) -> Result<Vec<Data>, String> {
        self.get(n).cloned().ok_or_else(|| format!("there is no batch {n}"))
    }
}

/// Why a network could not be watched.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ObserveError {
    #[error(transparent)]
    Run(#[from] exec::Error),
    #[error("calibration samples: {0}")]
    Samples(String),
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
    if samples.batches() == 0 {
        return Err(ObserveError::Empty);
    }
    let mut executor = Executor::new(graph, weights, Options::default())?;
    let mut seen: BTreeMap<ValueId, Seen> = BTreeMap::new();
    for n in 0..samples.batches() {
        let inputs = samples.batch(n).map_err(ObserveError::Samples)?;
        watch(graph, &mut executor, inputs, &mut |value, numbers| seen.entry(value).or_default().see(numbers))?;
    }
    let broken = seen.iter().find(|(_, seen)| !seen.histogram().is_finite());
    match broken {
        Some((value, _)) => Err(ObserveError::NotFinite { value: graph.values()[value.0].name.clone() }),
        None => Ok(seen),
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
