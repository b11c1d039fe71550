//! # Cross-layer equalization
//!
//! **What it does.** Between two products with nothing but Relu, LeakyRelu or pooling between them, a channel may be divided by any
//! positive number in the first and multiplied by it in the second. The number `s = √(r₁ / r₂)` makes the largest weights of a
//! channel, `r₁` in the first and `r₂` in the second, equal. Pairs are equalized in turn until nothing moves; a depthwise
//! convolution is the second of one pair and the first of the next.
//!
//! **When to use.** Where channels of a layer are of very unlike size (MobileNets), and bits are few.
//!
//! **What it needs.** Nothing. Clip stands in the way: it does not let a scale through.
//!
//! **Paper.** Nagel et al.: Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019 (arXiv 1906.04721).

use super::{QuantizeError, finite};
use graph::ops::{Activation, ReduceKind};
use graph::{Graph, Model, Node, Op, Patch, Weight, WeightId};
use std::collections::BTreeMap;

/// Rounds over all pairs, at most.
const ROUNDS: usize = 20;
/// A round in which no scale is farther from 1 than this is the last.
const STILL: f32 = 0.01;

/// A product, and where a channel lies in its weight.
#[derive(Clone, Copy)]
struct Layer {
    weight: WeightId,
    bias: Option<WeightId>,
    /// Numbers of a row, and of a column's kernel in it.
    row: usize,
    kernel: usize,
}

/// Two products that share channels, so many outputs of a depthwise second for each.
struct Pair {
    first: Layer,
    second: Layer,
    channels: usize,
    /// Rows of the second for each channel, where it is depthwise; else a channel is a column.
    rows: Option<usize>,
}

/// Equalizes every pair of a network; says how many there are.
pub fn equalize(model: &Model) -> Result<(Patch, usize), QuantizeError> {
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let pairs: Vec<Pair> = graph.nodes().iter().filter_map(|node| pair(model, graph, node)).collect();
    let mut numbers: BTreeMap<WeightId, Vec<f32>> = BTreeMap::new();
    for id in pairs.iter().flat_map(|p| [Some(p.first.weight), p.first.bias, Some(p.second.weight)]).flatten() {
        numbers.insert(id, finite(model, id)?);
    }
    for _ in 0..ROUNDS {
        let moved = pairs.iter().fold(0.0f32, |most, pair| most.max(pair.equalize(&mut numbers)));
        if moved < STILL {
            break;
        }
    }
    let mut patch = Patch::default();
    for (id, numbers) in numbers {
        let old = model.weights.get(id);
        let Weight { encoding, source, .. } = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers)?;
        patch = patch.encode(model, id, encoding, source);
    }
    Ok((patch, pairs.len()))
}

/// The pair that begins with a node.
fn pair(model: &Model, graph: &Graph, node: &Node) -> Option<Pair> {
    let (first, channels) = layer(model, graph, node)?;
    let mut value = node.outputs[0];
    loop {
        let mut readers = graph.readers(value);
        let reader = &graph.nodes()[readers.next()?];
        if readers.next().is_some() || graph.outputs().contains(&value) {
            return None;
        }
        if !lets_scales_through(&reader.op) {
            let (second, outputs) = layer(model, graph, reader)?;
            let rows = match &reader.op {
                Op::Conv(op) if op.groups == channels && channels > 1 => Some(outputs / channels),
                Op::Conv(op) if op.groups != 1 => return None,
                _ => None,
            };
            return Some(Pair { first, second, channels, rows });
        }
        value = reader.outputs[0];
    }
}

/// Whether an op of positive multiples of its channels makes such multiples.
fn lets_scales_through(op: &Op) -> bool {
    match op {
        Op::Activation(Activation::Relu | Activation::LeakyRelu(_)) | Op::Pool(_) => true,
        Op::Reduce(op) => op.keep && op.kind == ReduceKind::Mean && !op.axes.contains(&1),
        _ => false,
    }
}

/// A product whose weights are its own, and how many outputs it has.
fn layer(model: &Model, graph: &Graph, node: &Node) -> Option<(Layer, usize)> {
    let rank = graph.values()[node.outputs.first()?.0].shape.len();
    let (weight, bias) = match &node.op {
        Op::Conv(op) => (op.weight, op.bias),
        Op::Linear(op) if rank == 2 => (op.weight, op.bias),
        _ => return None,
    };
    let shape = &model.weights.get(weight).shape;
    let own = [Some(weight), bias].into_iter().flatten().all(|id| graph.users(id).count() == 1);
    let (row, kernel) = (shape.iter().skip(1).product(), shape.iter().skip(2).product());
    own.then_some((Layer { weight, bias, row, kernel }, *shape.first()?))
}

impl Pair {
    /// Makes the ranges of every channel equal; returns how far the farthest scale was from 1.
    fn equalize(&self, numbers: &mut BTreeMap<WeightId, Vec<f32>>) -> f32 {
        let mut farthest = 0.0f32;
        for channel in 0..self.channels {
            let first = self.first.row * channel..self.first.row * (channel + 1);
            let size = |x: f32, y: &f32| x.max(y.abs());
            let before = numbers.get(&self.first.weight).map_or(0.0, |w| w[first.clone()].iter().fold(0.0, size));
            let after = numbers
                .get(&self.second.weight)
                .map_or(0.0, |w| self.behind(channel, w.len()).map(|at| w[at]).fold(0.0, |x, y| size(x, &y)));
            let scale = (before / after).sqrt();
            if !(scale.is_normal() && scale > 1e-3 && scale < 1e3) {
                continue;
            }
            farthest = farthest.max((scale - 1.0).abs());
            if let Some(weights) = numbers.get_mut(&self.first.weight) {
                weights[first].iter_mut().for_each(|w| *w /= scale);
            }
            if let Some(bias) = self.first.bias.and_then(|id| numbers.get_mut(&id)) {
                bias[channel] /= scale;
            }
            if let Some(weights) = numbers.get_mut(&self.second.weight) {
                self.behind(channel, weights.len()).for_each(|at| weights[at] *= scale);
            }
        }
        farthest
    }

    /// Where a channel lies in the second weight, of so many numbers.
    fn behind(&self, channel: usize, length: usize) -> impl Iterator<Item = usize> + use<> {
        let Layer { row, kernel, .. } = self.second;
        let (first, width, rows) = match self.rows {
            Some(rows) => (channel * rows * row, row, rows),
            None => (channel * kernel, kernel, length / row.max(1)),
        };
        (0..rows).flat_map(move |r| (0..width).map(move |k| first + r * row + k))
    }
}
