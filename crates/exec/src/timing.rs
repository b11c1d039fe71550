//! How long each node of a network takes on this machine, one sample at a time.

use crate::{Error, Executor, Options, random};
use graph::{Graph, Size, ValueId, WeightStore};
use std::time::Instant;

/// Runs that are timed, at least and at most.
const RUNS: [usize; 2] = [5, 40];

/// The least seconds of every node, in running order, of as many runs as fit into about so many seconds: what waiting for a
/// shared machine does not change. Weights are read before. On threads of the pool that it is called in.
///
/// # Errors
/// Where the graph does not run, or holds an axis of unknown length beside the batch.
pub fn node_seconds(graph: &Graph, weights: &WeightStore, seconds: f64) -> Result<Vec<f64>, Error> {
    let input = |(n, id): (usize, &ValueId)| random(&graph.values()[id.0], Size { batch: 1, tokens: 8 }, n as u64);
    let inputs = graph.inputs().iter().enumerate().map(input).collect::<Result<Vec<_>, _>>()?;
    let mut executor = Executor::<f32>::new(graph, weights, Options::default())?;
    executor.run(inputs.clone())?;
    let mut least = vec![f64::INFINITY; graph.nodes().len()];
    let begun = Instant::now();
    for run in 0..RUNS[1] {
        if run >= RUNS[0] && begun.elapsed().as_secs_f64() > seconds {
            break;
        }
        let mut starts: Vec<(usize, Instant)> = Vec::new();
        let values = executor.inputs(inputs.clone())?;
        let whole = executor.whole();
        let values = executor.run_range_with_taps(whole, values, &mut |tap| {
            if let crate::Tap::Inputs { node, .. } = tap {
                starts.push((node.0, Instant::now()));
            }
        })?;
        let end = Instant::now();
        executor.recycle(values);
        let ends = starts.iter().skip(1).map(|(_, at)| *at).chain([end]);
        for ((node, start), end) in starts.iter().zip(ends) {
            least[*node] = least[*node].min(end.duration_since(*start).as_secs_f64());
        }
    }
    // What is no step of its own takes no time of its own.
    Ok(least.into_iter().map(|s| if s.is_finite() { s } else { 0.0 }).collect())
}
