//! From channels that go to a patch: smaller weights, and ops that say so.

use super::PruneError;
use super::groups::Channel;
use super::sliced::{Masked, Sliced};
use super::union::{Axis, Of};
use codec::Encoding;
use graph::{End, Grid, Kept, Model, Node, Patch, Port, Weight, WeightId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What goes: indices of axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    gone: BTreeMap<Axis, BTreeSet<usize>>,
}

impl Removal {
    /// These channels.
    pub fn of<'a>(channels: impl IntoIterator<Item = &'a Channel>) -> Removal {
        let mut removal = Removal::default();
        for (axis, indices) in channels.into_iter().flat_map(|c| &c.indices) {
            removal.gone.entry(*axis).or_default().extend(indices);
        }
        removal
    }

    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }

    /// Every axis that loses indices.
    pub fn axes(&self) -> impl Iterator<Item = Axis> {
        self.gone.keys().copied()
    }

    /// Indices that stay of an axis of this length, where any go.
    fn left(&self, axis: Axis, length: usize) -> Option<Vec<usize>> {
        let gone = self.gone.get(&axis)?;
        Some((0..length).filter(|i| !gone.contains(i)).collect())
    }

    fn of_weight<T>(&self, id: WeightId, weight: &Weight, each: impl Fn(Axis, usize) -> T) -> Option<Vec<T>> {
        let axes = weight.shape.iter().enumerate().map(|(axis, length)| (Axis { of: Of::Weight(id), axis }, *length));
        let touched = axes.clone().any(|(axis, _)| self.gone.contains_key(&axis));
        touched.then(|| axes.map(|(axis, length)| each(axis, length)).collect())
    }

    /// The patch that takes them out.
    pub fn patch(&self, model: &Model) -> Result<Patch, PruneError> {
        let mut patch = Patch::default();
        for (id, weight) in model.weights.iter() {
            let Some(kept) = self.of_weight(id, weight, |axis, length| self.left(axis, length)) else { continue };
            check_plain(weight)?;
            let grid = model.weights.grid(id).map(|grid| slice_grid(grid, &kept));
            let sliced = Sliced::new(weight.clone(), kept);
            patch = patch.resize(model, id, sliced.shape(), Arc::new(sliced));
            patch = grid.into_iter().fold(patch, |patch, grid| patch.grid(id, grid));
        }
        let Some(graph) = model.graph() else { return Ok(patch) };
        for node in graph.nodes() {
            let kept = self.kept(model, node);
            if let Some(op) = kept.and_then(|kept| node.op.spec().keep(&kept)).filter(|op| *op != node.op) {
                patch = patch.set_op(&node.name, op);
            }
        }
        Ok(patch)
    }

    /// The patch that leaves them in and makes their numbers zero.
    pub fn mask(&self, model: &Model) -> Result<Patch, PruneError> {
        let mut patch = Patch::default();
        let none = BTreeSet::new();
        for (id, weight) in model.weights.iter() {
            let dead = |axis, _| self.gone.get(&axis).unwrap_or(&none).iter().copied().collect();
            let Some(dead) = self.of_weight(id, weight, dead) else { continue };
            check_plain(weight)?;
            patch = patch.encode(model, id, weight.encoding, Arc::new(Masked::new(weight.clone(), dead)));
        }
        Ok(patch)
    }

    /// The elements of weights that go, by their place in the weight.
    pub fn elements(&self, model: &Model) -> Vec<(WeightId, Vec<usize>)> {
        let none = BTreeSet::new();
        let gone = |(id, weight): (WeightId, &Arc<Weight>)| {
            let dead = self.of_weight(id, weight, |axis, _| self.gone.get(&axis).unwrap_or(&none))?;
            let goes = |at: &usize| {
                let mut rest = *at;
                let mut indices = weight.shape.iter().zip(&dead).rev().map(|(length, dead)| {
                    let index = rest % length;
                    rest /= length;
                    dead.contains(&index)
                });
                indices.any(|dead| dead)
            };
            Some((id, (0..weight.elements()).filter(goes).collect()))
        };
        model.weights.iter().filter_map(gone).collect()
    }

    /// What a node's axes keep, where they lose any.
    fn kept(&self, model: &Model, node: &Node) -> Option<Kept> {
        let graph = model.graph()?;
        let (mut kept, mut touched) = (Kept::default(), false);
        let values = |ids: &[graph::ValueId], port: fn(usize) -> Port| {
            let one = |(n, id): (usize, &graph::ValueId)| {
                let lengths = graph.values()[id.0].shape.iter().map(|d| d.fixed().unwrap_or(0)).collect();
                (port(n), Of::Value(*id), lengths)
            };
            ids.iter().enumerate().map(one).collect::<Vec<(Port, Of, Vec<usize>)>>()
        };
        let weights = node.op.spec().weights();
        let weights = weights.iter().enumerate();
        let weights = weights.map(|(n, id)| (Port::Weight(n), Of::Weight(*id), model.weights.get(*id).shape.clone()));
        let ports = values(&node.inputs, Port::Input).into_iter().chain(values(&node.outputs, Port::Output));
        for (port, of, lengths) in ports.chain(weights) {
            for (axis, length) in lengths.into_iter().enumerate() {
                if let Some(left) = self.left(Axis { of, axis }, length) {
                    kept.set(End { port, axis }, length, left);
                    touched = true;
                }
            }
        }
        touched.then_some(kept)
    }
}

fn check_plain(weight: &Weight) -> Result<(), PruneError> {
    match weight.encoding {
        Encoding::Plain(_) => Ok(()),
        encoding => Err(PruneError::Quantized { weight: weight.name.clone(), encoding: encoding.to_string() }),
    }
}

fn slice_grid(grid: &Grid, kept: &[Option<Vec<usize>>]) -> Grid {
    let Some(left) = grid.axis.and_then(|axis| kept.get(axis)?.as_ref()) else { return grid.clone() };
    let scale = left.iter().filter_map(|i| grid.scale.get(*i).copied()).collect();
    let zero = left.iter().filter_map(|i| grid.zero.get(*i).copied()).collect();
    Grid { scale, zero, ..grid.clone() }
}
