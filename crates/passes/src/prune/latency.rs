//! Latency, measured: every node is timed on this machine at several widths of the network, and what it takes at any other width
//! is interpolated over its multiply–accumulates, or over what it makes where it has none.
//!
//! Times are those of this program's kernels for one sample. A pruned network is timed again in the end, in turns with what it was,
//! and where it does not keep the budget more is taken out.

use super::PruneError;
use exec::node_seconds;
use graph::{Graph, Model, Node, Size};
use std::collections::HashMap;

/// Seconds of timing for each width.
const SECONDS: f64 = 0.5;
/// Times that two networks take turns in the end.
const TURNS: usize = 3;

/// What each node takes, by how much it has to do; see the module.
#[derive(Default)]
pub(super) struct Profile {
    points: HashMap<String, Vec<(f64, f64)>>,
}

impl Profile {
    /// Times a network of some width.
    pub fn see(&mut self, model: &Model) -> Result<(), PruneError> {
        let Some(graph) = model.graph() else { return Ok(()) };
        let seconds = node_seconds(graph, &model.weights, SECONDS)?;
        for (node, seconds) in graph.nodes().iter().zip(seconds) {
            self.points.entry(node.name.clone()).or_default().push((work(model, graph, node), seconds));
        }
        Ok(())
    }

    /// Nanoseconds that a network of another width takes.
    pub fn predict(&self, model: &Model) -> u64 {
        let Some(graph) = model.graph() else { return 0 };
        let one = |node: &Node| interpolated(self.points.get(&node.name)?, work(model, graph, node));
        let seconds: f64 = graph.nodes().iter().filter_map(one).sum();
        (seconds * 1e9) as u64
    }
}

/// What a node has to do: its multiply–accumulates, or the numbers that it makes.
fn work(model: &Model, graph: &Graph, node: &Node) -> f64 {
    let made = |id: &graph::ValueId| Size { batch: 1, tokens: 1 }.elements(&graph.values()[id.0].shape);
    match plan::macs(model, graph, node) {
        0 => node.outputs.iter().map(made).sum::<usize>() as f64,
        macs => macs as f64,
    }
}

/// Straight between the neighbours of what was measured; below the least of it along the line of the two least, but no less than half.
fn interpolated(points: &[(f64, f64)], at: f64) -> Option<f64> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    sorted.dedup_by(|a, b| a.0 == b.0);
    let [first, ..] = sorted[..] else { return None };
    let above = sorted.iter().position(|p| p.0 >= at).unwrap_or(sorted.len() - 1).max(1);
    let (Some(low), Some(high)) = (sorted.get(above - 1), sorted.get(above)) else { return Some(first.1) };
    let share = (at - low.0) / (high.0 - low.0);
    Some((low.1 + (high.1 - low.1) * share).max(0.5 * first.1.min(high.1)))
}

/// Seconds of two networks, timed in turns.
pub(super) fn in_turns(models: [&Model; 2]) -> Result<[f64; 2], PruneError> {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..TURNS {
        for (best, model) in best.iter_mut().zip(models) {
            let Some(graph) = model.graph() else { continue };
            *best = best.min(node_seconds(graph, &model.weights, SECONDS)?.iter().sum());
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::interpolated;

    #[test]
    fn between_and_below_what_was_measured() {
        let points = [(100.0, 10.0), (50.0, 6.0), (25.0, 4.0)];
        for (at, seconds) in [(100.0, 10.0), (75.0, 8.0), (30.0, 4.4), (10.0, 2.8), (0.0, 2.0), (200.0, 18.0)] {
            let got = interpolated(&points, at).expect("there are points");
            assert!((got - seconds).abs() < 1e-9, "{at}: {got}");
        }
        assert_eq!(interpolated(&[(7.0, 3.0)], 1.0), Some(3.0));
        assert_eq!(interpolated(&[], 1.0), None);
    }
}
