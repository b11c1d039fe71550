//! How much a channel matters.
//!
//! A channel is spread over several weights: the rows that make it, the columns that read it. Its score is the mean over these
//! axes of what each criterion sums there, divided by the mean over its group, so that groups compare.
//!
//! | criterion | sum over the slices of a channel | source |
//! |---|---|---|
//! | `l1`, `l2` | `Σ|w|`, `Σw²` | Li et al. 2017; over groups: Fang et al. 2023 |
//! | `bn-scale` | `|γ|` | Liu et al. 2017 (network slimming) |
//! | `taylor` | see `taylor.rs` | Molchanov et al. 2019 |
//! | `fpgm` | `Σ_j ‖F_i − F_j‖₂` over the filters that make it | He et al. 2019 |

use super::groups::Group;
use super::union::{Axis, Of};
use super::{Context, PruneError, taylor};
use graph::{Model, Op, WeightId};
use plan::Criterion;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// Scores of every channel of every group, and the names of groups that the criterion says nothing of: these go by `l2`.
pub(super) fn scores(
    model: &Model,
    groups: &[Group],
    by: Criterion,
    context: &Context<'_>,
) -> Result<(Vec<Vec<f64>>, Vec<String>), PruneError> {
    if by == Criterion::Taylor {
        return Ok((taylor::scores(model, groups, context)?, Vec::new()));
    }
    let mut slices = Slices { model, sums: HashMap::new() };
    let (mut all, mut strangers) = (Vec::new(), Vec::new());
    for group in groups {
        let scores = match by {
            Criterion::L1 => slices.group(group, Sum::Abs, &matrices(model, group))?,
            Criterion::L2 => slices.group(group, Sum::Squares, &matrices(model, group))?,
            Criterion::BnScale => slices.group(group, Sum::Abs, &batch_norms(model, group))?,
            Criterion::Fpgm => distances(model, group)?,
            // They say nothing of channels.
            Criterion::Taylor | Criterion::Influence | Criterion::Loss | Criterion::Reap => Vec::new(),
        };
        let known = scores.iter().any(|s| *s > 0.0);
        if !known {
            strangers.push(group.name.clone());
        }
        let scores = if known { scores } else { slices.group(group, Sum::Squares, &matrices(model, group))? };
        all.push(normalised(scores));
    }
    Ok((all, strangers))
}

/// Divided by their mean.
pub(super) fn normalised(scores: Vec<f64>) -> Vec<f64> {
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    if mean > 0.0 { scores.into_iter().map(|s| s / mean).collect() } else { scores }
}

/// The group's axes of weights with more than one axis; all its weights' where it has no such.
pub(super) fn matrices(model: &Model, group: &Group) -> Vec<Axis> {
    let rank = |axis: &Axis| if let Of::Weight(id) = axis.of { model.weights.get(id).shape.len() } else { 0 };
    let axes: Vec<Axis> = group.channels.iter().take(1).flat_map(|c| c.indices.keys()).copied().collect();
    let wide: Vec<Axis> = axes.iter().filter(|a| rank(a) > 1).copied().collect();
    if wide.is_empty() { axes.into_iter().filter(|a| rank(a) > 0).collect() } else { wide }
}

/// The scales of batch norms over the group.
fn batch_norms(model: &Model, group: &Group) -> Vec<Axis> {
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    let scales: BTreeSet<WeightId> =
        nodes.iter().filter_map(|n| if let Op::BatchNorm(op) = &n.op { Some(op.scale) } else { None }).collect();
    let axes = group.channels.iter().take(1).flat_map(|c| c.indices.keys()).copied();
    axes.filter(|axis| matches!(axis.of, Of::Weight(id) if scales.contains(&id))).collect()
}

/// What is summed over a slice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Sum {
    Abs,
    Squares,
}

/// Sums over slices, one for each index of an axis, computed once.
struct Slices<'a> {
    model: &'a Model,
    sums: HashMap<(Axis, Sum), Vec<f64>>,
}

impl Slices<'_> {
    /// Of every channel: the mean over these axes of the sums at its indices.
    fn group(&mut self, group: &Group, sum: Sum, axes: &[Axis]) -> Result<Vec<f64>, PruneError> {
        let mut scores = vec![0.0; group.channels.len()];
        for axis in axes {
            let of = self.axis(*axis, sum)?;
            for (score, channel) in scores.iter_mut().zip(&group.channels) {
                let indices = channel.indices.get(axis).map_or(&[][..], Vec::as_slice);
                *score += indices.iter().map(|i| of[*i]).sum::<f64>() / axes.len() as f64;
            }
        }
        Ok(scores)
    }

    fn axis(&mut self, axis: Axis, sum: Sum) -> Result<&[f64], PruneError> {
        let entry = self.sums.entry((axis, sum));
        let slot = match entry {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(slot) => {
                let Of::Weight(id) = axis.of else { return Ok(&[]) };
                let f = match sum {
                    Sum::Abs => f64::abs,
                    Sum::Squares => |x: f64| x * x,
                };
                let weight = self.model.weights.get(id);
                let numbers = weight.read()?;
                if numbers.iter().any(|x| !x.is_finite()) {
                    return Err(PruneError::NotFinite { weight: weight.name.clone() });
                }
                slot.insert(slice_sums(&numbers, &weight.shape, axis.axis, f))
            }
        };
        Ok(slot)
    }
}

/// `Σ f(w)` over everything at each index of an axis.
pub(super) fn slice_sums(numbers: &[f32], shape: &[usize], axis: usize, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let length = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let mut sums = vec![0.0; length];
    for (at, run) in numbers.chunks(inner.max(1)).enumerate() {
        sums[at % length.max(1)] += run.iter().map(|x| f(f64::from(*x))).sum::<f64>();
    }
    sums
}

/// Of every channel: how far its filters are from those of all others.
fn distances(model: &Model, group: &Group) -> Result<Vec<f64>, PruneError> {
    let mut filters: Vec<Vec<f32>> = vec![Vec::new(); group.channels.len()];
    for axis in matrices(model, group).into_iter().filter(|a| a.axis == 0) {
        let Of::Weight(id) = axis.of else { continue };
        let weight = model.weights.get(id);
        let (numbers, inner) = (weight.read()?, weight.shape[1..].iter().product::<usize>());
        for (filter, channel) in filters.iter_mut().zip(&group.channels) {
            let rows = channel.indices.get(&axis).into_iter().flatten();
            rows.for_each(|row| filter.extend_from_slice(&numbers[row * inner..][..inner]));
        }
    }
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b) * f64::from(a - b)).sum::<f64>().sqrt();
    Ok(filters.par_iter().map(|a| filters.iter().map(|b| distance(a, b)).sum()).collect())
}
