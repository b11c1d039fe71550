//! How much the output moves when a group alone loses channels: measured at a quarter, a half and three quarters.
//!
//! Li et al. 2017 chose layers by such curves. Here they price every group: for a price `λ` of what a budget counts, a group gives
//! the share `x` at which `λ · saved(x) − moved(x)` is largest; the price is what is bisected.

use super::groups::Group;
use super::taylor::random;
use super::{Context, PruneError, Removal};
use exec::{Data, Executor, Options};
use graph::Model;
use plan::{Allocation, Counters};

/// Shares of a group's channels at which it is measured.
pub(super) const AT: [f64; 3] = [0.25, 0.5, 0.75];
/// Samples that it is measured on, at most.
const SAMPLES: usize = 32;
/// Multiply–accumulates that may be spent where only the report asks: some seconds.
const AFFORDABLE: u64 = 20_000_000_000;

/// `‖y − y₀‖ / ‖y₀‖` of all outputs, for each group and each of [`AT`], its least important channels masked. Where the
/// allocation does not ask, there must be data, and the network must be small; else nothing is measured.
pub(super) fn measure(
    model: &Model,
    groups: &[Group],
    scores: &[Vec<f64>],
    across: Allocation,
    context: &Context<'_>,
) -> Result<Vec<[f64; 3]>, PruneError> {
    let Some(graph) = model.graph() else { return Ok(Vec::new()) };
    let runs = (groups.len() * AT.len()) as u64;
    let count = match across {
        Allocation::Sensitivity => SAMPLES,
        _ if context.data.is_none() => return Ok(Vec::new()),
        _ => (AFFORDABLE / Counters::of(model)?.total_macs().saturating_mul(runs).max(1)).min(SAMPLES as u64) as usize,
    };
    if count == 0 {
        return Ok(Vec::new());
    }
    let inputs = match context.data {
        Some(data) => {
            let batch = data.batch(0..count.min(data.len()));
            batch.map_err(|source| PruneError::Samples { source })?.inputs
        }
        None => random(graph, context.seed)?,
    };
    let mut executor = Executor::<f32>::new(graph, &model.weights, Options::default())?;
    let original = executor.run(inputs.clone())?;
    let mut curves = Vec::new();
    for (group, scores) in groups.iter().zip(scores) {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let mut curve = [0.0; 3];
        for (moved, share) in curve.iter_mut().zip(AT) {
            let gone = (scores.len() as f64 * share) as usize;
            let mut masked = model.clone();
            masked.apply(Removal::of(order.iter().take(gone).map(|c| &group.channels[*c])).mask(model)?)?;
            executor.set_weights(&masked.weights)?;
            *moved = distance(&executor.run(inputs.clone())?, &original);
        }
        curves.push(curve);
        (context.advance)(1);
    }
    Ok(curves)
}

fn distance(a: &[Data], b: &[Data]) -> f64 {
    let pairs = a.iter().zip(b).filter_map(|(a, b)| Some((a.float()?, b.float()?)));
    let numbers = pairs.flat_map(|(a, b)| a.data().iter().zip(b.data()));
    let (error, norm) = numbers.fold((0.0, 0.0), |(e, n), (a, b)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        (e + (a - b) * (a - b), n + b * b)
    });
    if norm > 0.0 { (error / norm).sqrt() } else { error.sqrt() }
}

/// How far the output moves when the share `x` of a group goes: straight between what was measured, steep behind it.
pub(super) fn moved(curve: &[f64; 3], x: f64) -> f64 {
    let points = [(0.0, 0.0), (AT[0], curve[0]), (AT[1], curve[1]), (AT[2], curve[2]), (1.0, 2.0 * curve[2] + 1.0)];
    let after = points.iter().position(|p| x <= p.0).unwrap_or(points.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (points[after - 1], points[after]);
    y0 + (y1 - y0) * (x - x0) / (x1 - x0)
}

#[cfg(test)]
mod tests {
    use super::moved;

    #[test]
    fn curves_meet_what_was_measured() {
        let curve = [0.1, 0.3, 0.9];
        for (x, y) in [(0.0, 0.0), (0.25, 0.1), (0.375, 0.2), (0.5, 0.3), (0.75, 0.9)] {
            assert!((moved(&curve, x) - y).abs() < 1e-12, "{x}");
        }
        assert!(moved(&curve, 1.0) > 2.0 * moved(&curve, 0.75));
    }
}
