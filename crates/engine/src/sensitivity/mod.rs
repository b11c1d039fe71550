//! What each encoding of each unit of a model costs it, in divergence of its logits from the original's.
//!
//! One pass over a little calibration text gives the Hessian of every matrix's inputs ([`survey`]). The plan's own method
//! encodes some rows of the matrix in every candidate; the squared error of its output, `tr(ΔW·H·ΔWᵀ)`, is what all
//! candidates of a unit are compared by. How much divergence such an error is worth is another matter in every unit: so
//! one candidate of it is encoded in whole and *measured*, the rest of the model staying as it is ([`Bench`]). A table
//! that tokens are looked up in has three, for its own output tells less of it.
//!
//! A prediction is an error times the measured worth of errors. It is held against further measurements, of pairs
//! that it knew nothing of; their rank correlation stands in the plan, and beside it that of a guess for which nothing is
//! run but a few windows backward, by [Fisher information](calib::fisher). What was measured takes the place of what was
//! predicted. Sums run in a fixed order, so the same text gives the same figures at any number of threads.
//!
//! Sources: the second-order view of the loss by Dong et al., HAWQ-V2 (arXiv 1911.03852); measured divergence for each
//! layer and width by Cai et al., ZeroQ (arXiv 2001.00281).

mod bench;
mod survey;

use crate::quality::resident;
use crate::{Calibration, EngineError, Options, Progress, Unit as Count};
use bench::Bench;
use graph::{Model, Op, WeightId};
use plan::{Method, Sensitivity, Unit, Validation};
use std::collections::{BTreeMap, BTreeSet};
use survey::Survey;

/// Pairs of unit and candidate that predictions are held against, at most.
const HELD: usize = 24;

/// A candidate of a unit.
type Pair = (usize, usize);

/// Finds the losses of all candidates.
pub(crate) fn measure(
    model: &Model,
    mut units: Vec<Unit>,
    method: Method,
    calibration: &Calibration,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Sensitivity, EngineError> {
    let (anchors, held) = pairs(model, &units);
    let measured: BTreeSet<Pair> = anchors.iter().chain(&held).copied().collect();
    let weights: usize = units.iter().map(|unit| unit.weights.len()).sum();
    progress.begin("measure what encodings cost", (weights + measured.len()) as u64, Count::Weights);
    let mut survey = Survey::new(model, &units, method, &measured);
    survey.run(calibration, options, progress)?;
    let mut bench = Bench::new(model, calibration, options)?;
    let mut losses = BTreeMap::new();
    for (unit, candidate) in &measured {
        losses.insert((*unit, *candidate), bench.loss(&survey.changed(*unit, *candidate)?)?);
        progress.advance(1);
    }
    progress.end();
    let guesses = fisher(model, &survey, calibration, options)?;
    let errors = survey.errors;
    let (mut beside, mut guessed) = (Vec::new(), Vec::new());
    for (n, unit) in units.iter_mut().enumerate() {
        let of_unit = anchors.range((n, 0)..(n + 1, 0)).filter_map(|pair| Some((pair.1, *losses.get(pair)?)));
        let worths: Vec<(usize, f64)> = of_unit.collect();
        for (c, candidate) in unit.candidates.iter_mut().enumerate() {
            let (predicted, found) = (predict(&errors[n], &worths, c), losses.get(&(n, c)).copied());
            beside.extend(found.filter(|_| held.contains(&(n, c))).map(|found| (predicted, found)));
            let guess = guesses.as_ref().map(|guesses| guesses[n] * errors[n][c]);
            guessed.extend(guess.zip(found).filter(|_| held.contains(&(n, c))));
            candidate.loss = found.unwrap_or(predicted);
        }
    }
    let fisher = guesses.map(|_| validate(&guessed).rank_correlation);
    Ok(Sensitivity { units, validation: Validation { fisher, ..validate(&beside) } })
}

/// Windows that Fisher information is of, and tokens of each, at most.
const FISHER: (usize, usize) = (32, 64);

/// Nats per token that a squared error of each unit is worth by Fisher information; `None` where gradients of the whole
/// model take more memory than it may.
fn fisher(
    model: &Model,
    survey: &Survey<'_>,
    calibration: &Calibration,
    options: &Options<'_>,
) -> Result<Option<Vec<f64>>, EngineError> {
    let fits = 4 * model.parameters() as u64 <= resident(options.max_memory);
    let Some(graph) = model.graph().filter(|_| fits) else { return Ok(None) };
    let windows = windows(calibration, FISHER.0, FISHER.1, 0.25);
    let traces = calib::fisher(graph, &model.weights, &|id| survey.inputs.contains_key(&id), &windows, options.seed)?;
    let worth = |id: &WeightId| {
        let (trace, inputs) = (traces.get(id)?, survey.inputs.get(id)?);
        Some(trace / (2.0 * inputs.power * inputs.tokens as f64 * model.weights.get(*id).rows() as f64))
    };
    let mean = |unit: &Unit| unit.weights.iter().filter_map(worth).sum::<f64>() / unit.weights.len().max(1) as f64;
    Ok(Some(survey.units().iter().map(mean).collect()))
}

/// The pairs that worths of errors are measured on, and others to hold predictions against.
fn pairs(model: &Model, units: &[Unit]) -> (BTreeSet<Pair>, BTreeSet<Pair>) {
    let (mut anchors, mut held) = (BTreeSet::new(), BTreeSet::new());
    let tables = tables(model);
    let step = units.len().div_ceil(HELD).max(1);
    for (n, unit) in units.iter().enumerate() {
        let coded = coded(model, unit);
        let Some(last) = coded.len().checked_sub(1) else { continue };
        let table = unit.weights.iter().any(|id| tables.contains(id));
        let at = if table { vec![last / 6, last / 2, last] } else { vec![last.div_ceil(3)] };
        anchors.extend(at.into_iter().map(|i| (n, coded[i])));
        let other = coded[(n / step) % coded.len()];
        if n % step == 0 && !anchors.contains(&(n, other)) {
            held.insert((n, other));
        }
    }
    (anchors, held)
}

/// The candidates that change a unit.
fn coded(model: &Model, unit: &Unit) -> Vec<usize> {
    let changes = |(_, c): &(usize, &plan::Candidate)| {
        unit.weights.iter().any(|id| model.weights.get(*id).encoding != c.encoding)
    };
    unit.candidates.iter().enumerate().filter(changes).map(|(i, _)| i).collect()
}

/// Weights in which tokens are looked up.
fn tables(model: &Model) -> BTreeSet<WeightId> {
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    let table = |op: &Op| if let Op::Embedding(op) = op { Some(op.weight) } else { None };
    nodes.iter().filter_map(|node| table(&node.op)).collect()
}

/// An error times what errors are worth: as at the nearest candidates that were measured, in between by their geometric
/// mean.
fn predict(errors: &[f64], known: &[(usize, f64)], candidate: usize) -> f64 {
    if errors[candidate] == 0.0 {
        return 0.0;
    }
    let worth = |(at, loss): (usize, f64)| (loss.max(f64::MIN_POSITIVE) / errors[at].max(f64::MIN_POSITIVE)).ln();
    let below = known.iter().rev().find(|(at, _)| *at <= candidate);
    let above = known.iter().find(|(at, _)| *at >= candidate);
    let worth = match (below, above) {
        (Some(a), Some(b)) if a.0 < b.0 => {
            let share = (candidate - a.0) as f64 / (b.0 - a.0) as f64;
            (1.0 - share) * worth(*a) + share * worth(*b)
        }
        (Some(one), _) | (None, Some(one)) => worth(*one),
        (None, None) => return 0.0,
    };
    errors[candidate] * worth.exp()
}

/// What pairs of a prediction and a measurement say of predictions.
fn validate(beside: &[(f64, f64)]) -> Validation {
    let ranks = |pick: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let below = |x: f64| beside.iter().filter(|pair| pick(pair) < x).count() as f64;
        let equal = |x: f64| beside.iter().filter(|pair| pick(pair) == x).count() as f64;
        beside.iter().map(|pair| below(pick(pair)) + (equal(pick(pair)) - 1.0) / 2.0).collect()
    };
    let mut factors: Vec<f64> = beside.iter().map(|(p, m)| (p / m).ln().abs().exp()).collect();
    factors.sort_by(f64::total_cmp);
    Validation {
        pairs: beside.len(),
        rank_correlation: correlation(&ranks(|pair| pair.0), &ranks(|pair| pair.1)),
        typical_factor: factors.get(factors.len() / 2).copied().unwrap_or(1.0),
        fisher: None,
    }
}

/// Pearson's correlation; 0 where one side does not vary.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().max(1) as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let covariance = |x: &[f64], mean_x: f64, y: &[f64], mean_y: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum()
    };
    let spread = covariance(a, mean_a, a, mean_a) * covariance(b, mean_b, b, mean_b);
    if spread > 0.0 { covariance(a, mean_a, b, mean_b) / spread.sqrt() } else { 0.0 }
}

/// `count` windows of calibration text at even distances from `first` on, cut to one length.
fn windows(calibration: &Calibration, count: usize, tokens: usize, first: f64) -> Vec<Vec<u32>> {
    let all = &calibration.windows;
    let count = count.clamp(1, all.len().max(1));
    let at = |i: usize| ((i as f64 + first) * all.len() as f64 / count as f64) as usize;
    (0..count).filter_map(|i| all.get(at(i))).map(|w| w.iter().copied().take(tokens).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_agree_correlate_whatever_the_values() {
        let same = validate(&[(1.0, 2.0), (5.0, 30.0), (2.0, 3.0)]);
        assert!((same.rank_correlation - 1.0).abs() < 1e-12);
        assert!((same.typical_factor - 2.0).abs() < 1e-12, "{same:?}");
        assert!((validate(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]).rank_correlation + 1.0).abs() < 1e-12);
    }

    #[test]
    fn predictions_scale_errors_by_what_was_measured() {
        let errors = [8.0, 4.0, 2.0, 1.0, 0.0];
        let one = |c| predict(&errors, &[(1, 0.4)], c);
        assert!((one(0) - 0.8).abs() < 1e-12 && (one(3) - 0.1).abs() < 1e-12 && one(4) == 0.0);
        let two = |c| predict(&errors, &[(0, 0.8), (2, 0.8)], c);
        assert!((two(0) - 0.8).abs() < 1e-12 && (two(2) - 0.8).abs() < 1e-12);
        assert!((two(1) - 4.0 * 0.2).abs() < 1e-12 && (two(3) - 0.4).abs() < 1e-12);
    }
}
