//! Partners: weights that can change together without changing what a model computes.
//!
//! Found from the ops' axis relations, with no names of layers. A matrix reads channels of a value; walking back along
//! the links of that axis leads to the weights that make these channels. Divide those by a number per channel, multiply
//! the columns of *every* matrix that reads the value by it, and nothing has changed: a norm's weight and the matrices
//! behind it, the value projection and the output projection (query heads that share a value head share its numbers),
//! the up and the down projection, the same in each expert. Where an op on the way does not let a scale through, or
//! something else reads a value on the way, there is no fold, and the reason is said.
//!
//! What an axis relation does not say is whether the op is linear in the channel; [`carries`] does.

mod stream;

pub use stream::{Stream, streams};

use crate::transform::scaled;
use graph::ops::{Activation, Expert};
use graph::{Axes, Graph, Link, Model, Node, NodeId, Op, Patch, Port, Relation, ValueId, WeightId};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Numbers that matrices are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// All rows of a value.
    Value(ValueId),
    /// The rows of the tokens that chose an expert, as this matrix of it reads them.
    Expert(WeightId),
}

/// A place where a scale per channel can go from one weight to others.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// What is read there.
    pub site: Site,
    /// Matrices whose columns are multiplied.
    pub readers: Vec<WeightId>,
    /// Weights that are divided, and along which axis.
    pub writers: Vec<(WeightId, usize)>,
    /// For each column of the readers the index along the writers' axis that it comes from. Columns of one index share
    /// their scale.
    pub index: Vec<usize>,
    /// A constant that is added to the writers before use (Gemma's norms).
    pub offset: f32,
    /// Consecutive channels that may be mixed (rotated), not only scaled: a head's. 1 where none may.
    pub mixes: usize,
}

/// Why there is no fold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("`{node}` ({op}) does not let a scale through")]
    Op { node: String, op: &'static str },
    #[error("`{node}` ({op}) reads `{value}` too, and cannot take the inverse scale")]
    Reader { node: String, op: &'static str, value: String },
    #[error("weight `{weight}` is also used elsewhere")]
    Shared { weight: String },
    #[error("`{value}` is an input or an output of the model")]
    Open { value: String },
    #[error("`{node}` normalises its heads by one weight for all")]
    Heads { node: String },
    #[error("`{node}` lies in an earlier block")]
    Earlier { node: String },
}

/// What must happen before an op for its output to be divided, channel by channel.
enum Carries {
    /// Its weights along the axis are divided.
    Weights,
    /// Its linked input is; for products, any one of them.
    Inputs,
    /// It cannot be.
    Nothing,
}

/// How ops let a positive scale per channel through, from output to input.
fn carries(op: &Op) -> Carries {
    match op {
        Op::Linear(_) | Op::Norm(_) => Carries::Weights,
        Op::Mul(_) | Op::Scale(_) | Op::Split(_) | Op::Attention(_) | Op::Activation(Activation::Relu) => {
            Carries::Inputs
        }
        _ => Carries::Nothing,
    }
}

/// Whether an op that reads a value multiplies its channels by columns of weights.
fn multiplies(op: &Op) -> bool {
    matches!(op, Op::Linear(_) | Op::MoeRoute(_) | Op::MoeExperts(_))
}

/// Where the matrices of an op read, if it multiplies by any that may be encoded.
pub(crate) fn sites(op: &Op, input: Option<ValueId>) -> Vec<(Site, Vec<WeightId>)> {
    match (op, input) {
        (Op::Linear(op), Some(input)) => vec![(Site::Value(input), vec![op.weight])],
        (Op::MoeExperts(op), _) => {
            let of = |e: &Expert| [(Site::Expert(e.gate), vec![e.gate, e.up]), (Site::Expert(e.down), vec![e.down])];
            op.experts.iter().flat_map(of).collect()
        }
        _ => Vec::new(),
    }
}

/// All folds of a run of nodes, in order, and where there are none, why.
pub fn folds(model: &Model, graph: &Graph, range: &Range<usize>) -> Vec<(Site, Result<Fold, Refusal>)> {
    let finder = Finder { model, graph, first: range.start };
    let mut seen = BTreeSet::new();
    let mut folds = Vec::new();
    for node in &graph.nodes()[range.clone()] {
        let mut add = |site, find: &dyn Fn() -> Result<Fold, Refusal>| {
            if seen.insert(site) {
                folds.push((site, find()));
            }
        };
        if let (true, Some(value)) = (multiplies(&node.op), node.inputs.first()) {
            add(Site::Value(*value), &|| finder.at_value(*value));
        }
        if let Op::MoeExperts(op) = &node.op {
            for expert in &op.experts {
                add(Site::Expert(expert.down), &|| finder.in_expert(expert));
            }
        }
    }
    folds
}

struct Finder<'a> {
    model: &'a Model,
    graph: &'a Graph,
    /// Position of the first node that may change.
    first: usize,
}

/// What makes a value: weights, their axis, and which index of it each channel comes from.
struct Origin {
    writers: Vec<(WeightId, usize)>,
    index: Vec<usize>,
    offset: f32,
    mixes: usize,
}

impl Finder<'_> {
    /// The fold of a value between what makes it and all that reads it.
    fn at_value(&self, value: ValueId) -> Result<Fold, Refusal> {
        let readers = self.readers(value)?;
        let width = readers.first().map_or(0, |w| self.model.weights.get(*w).cols());
        let origin = self.origin(value, (0..width).collect())?;
        let all = readers.iter().chain(origin.writers.iter().map(|(w, _)| w));
        all.copied().try_for_each(|w| self.alone(w))?;
        let Origin { writers, index, offset, mixes } = origin;
        let mixes = mixes.min(width);
        Ok(Fold { site: Site::Value(value), readers, writers, index, offset, mixes })
    }

    /// The fold inside an expert: its hidden channels are rows of `up` and columns of `down`.
    fn in_expert(&self, expert: &Expert) -> Result<Fold, Refusal> {
        [expert.up, expert.down].into_iter().try_for_each(|w| self.alone(w))?;
        let (readers, writers) = (vec![expert.down], vec![(expert.up, 0)]);
        let index = (0..self.model.weights.get(expert.down).cols()).collect();
        Ok(Fold { site: Site::Expert(expert.down), readers, writers, index, offset: 0.0, mixes: 1 })
    }

    /// The matrices that read a value: all of its readers must be such.
    fn readers(&self, value: ValueId) -> Result<Vec<WeightId>, Refusal> {
        self.inner(value)?;
        let mut readers = Vec::new();
        for (node, n) in self.users(value) {
            if !multiplies(&node.op) {
                return Err(self.reader(node, value));
            }
            let columns = self.linked(node, Port::Input(n)).into_iter().filter_map(|link| weight_end(node, &link));
            readers.extend(columns.filter(|(_, axis)| *axis == 1).map(|(weight, _)| weight));
        }
        Ok(readers)
    }

    /// Walks back from a value to the weights that make its channels; `index` says where the channels of the site are.
    fn origin(&self, value: ValueId, index: Vec<usize>) -> Result<Origin, Refusal> {
        let open = || Refusal::Open { value: self.name(value) };
        let at = self.graph.nodes().iter().position(|n| n.outputs.contains(&value)).ok_or_else(open)?;
        let node = &self.graph.nodes()[at];
        if at < self.first {
            return Err(Refusal::Earlier { node: node.name.clone() });
        }
        let port = Port::Output(node.outputs.iter().position(|v| *v == value).unwrap_or_default());
        let links = self.linked(node, port);
        let refused = || Refusal::Op { node: node.name.clone(), op: node.op.name() };
        match carries(&node.op) {
            Carries::Nothing => Err(refused()),
            Carries::Weights => {
                let writers: Vec<_> = links.iter().filter_map(|link| weight_end(node, link)).collect();
                let (offset, mixes) = match &node.op {
                    Op::Norm(_) if writers.is_empty() => return Err(Refusal::Heads { node: node.name.clone() }),
                    Op::Norm(norm) => (norm.offset as f32, 1),
                    _ => (0.0, usize::MAX),
                };
                Ok(Origin { writers, index, offset, mixes })
            }
            Carries::Inputs => {
                let through = |link: &Link| self.through(node, NodeId(at), port, link, &index);
                let mut tried = links.iter().filter_map(through);
                let first = tried.next().ok_or_else(refused)?;
                tried.fold(first, |found, next| found.or(next))
            }
        }
    }

    /// Goes on at the input that a link leads to; `None` if it leads to none.
    fn through(
        &self,
        node: &Node,
        at: NodeId,
        port: Port,
        link: &Link,
        index: &[usize],
    ) -> Option<Result<Origin, Refusal>> {
        let is_a = link.a.port == port;
        let (here, there) = if is_a { (link.a, link.b) } else { (link.b, link.a) };
        let Port::Input(n) = there.port else { return None };
        let value = *node.inputs.get(n)?;
        let map = |index: &[usize]| -> Option<Vec<usize>> {
            match &link.relation {
                // Parts of another axis all have these channels.
                Relation::Same if node.outputs.len() == 1 => Some(index.to_vec()),
                Relation::Heads { unit, repeat } if is_a => {
                    Some(index.iter().map(|i| i / (unit * repeat) * unit + i % unit).collect())
                }
                Relation::Offset(offset) if !is_a => Some(index.iter().map(|i| i + offset).collect()),
                _ => None,
            }
        };
        let Some(index) = map(index) else {
            return Some(Err(Refusal::Op { node: node.name.clone(), op: node.op.name() }));
        };
        let mixes = match &node.op {
            Op::Attention(_) => self.axes(node).runs.iter().find(|(end, _)| *end == here).map_or(1, |(_, run)| *run),
            Op::Scale(_) | Op::Split(_) => usize::MAX,
            _ => 1,
        };
        let found = self.only_for(value, at).and_then(|()| self.origin(value, index));
        Some(found.map(|origin| Origin { mixes: mixes.min(origin.mixes), ..origin }))
    }

    /// Nothing but the node reads the value.
    fn only_for(&self, value: ValueId, at: NodeId) -> Result<(), Refusal> {
        self.inner(value)?;
        let other = self.users(value).find(|(node, _)| !std::ptr::eq(*node, &raw const self.graph.nodes()[at.0]));
        other.map_or(Ok(()), |(node, _)| Err(self.reader(node, value)))
    }

    fn inner(&self, value: ValueId) -> Result<(), Refusal> {
        let outer = self.graph.outputs().contains(&value) || self.graph.inputs().contains(&value);
        if outer { Err(Refusal::Open { value: self.name(value) }) } else { Ok(()) }
    }

    /// Only one node uses the weight.
    fn alone(&self, weight: WeightId) -> Result<(), Refusal> {
        match self.graph.users(weight).count() {
            1 => Ok(()),
            _ => Err(Refusal::Shared { weight: self.model.weights.get(weight).name.clone() }),
        }
    }

    /// Nodes that read a value, and as which input.
    fn users(&self, value: ValueId) -> impl Iterator<Item = (&Node, usize)> {
        let uses = move |n: &Node| n.inputs.iter().position(|v| *v == value);
        self.graph.nodes().iter().filter_map(move |n| Some((n, uses(n)?)))
    }

    fn axes(&self, node: &Node) -> Axes {
        node.op.spec().axes(&self.graph.input_types(node))
    }

    /// Links of the last axis of something that a node touches.
    fn linked(&self, node: &Node, port: Port) -> Vec<Link> {
        let value = match port {
            Port::Input(n) => node.inputs.get(n),
            Port::Output(n) => node.outputs.get(n),
            Port::Weight(_) => None,
        };
        let Some(last) = value.and_then(|v| self.graph.values()[v.0].shape.len().checked_sub(1)) else {
            return Vec::new();
        };
        let here = graph::End { port, axis: last };
        self.axes(node).links.into_iter().filter(|link| link.a == here || link.b == here).collect()
    }

    fn name(&self, value: ValueId) -> String {
        self.graph.values()[value.0].name.clone()
    }

    fn reader(&self, node: &Node, value: ValueId) -> Refusal {
        Refusal::Reader { node: node.name.clone(), op: node.op.name(), value: self.name(value) }
    }
}

/// The weight at an end of a link, and its axis.
fn weight_end(node: &Node, link: &Link) -> Option<(WeightId, usize)> {
    let weights = node.op.spec().weights();
    [link.a, link.b].into_iter().find_map(|end| match end.port {
        Port::Weight(n) => Some((*weights.get(n)?, end.axis)),
        _ => None,
    })
}

impl Fold {
    /// The patch that multiplies the columns of the readers by `scale`, and divides the writers by it. Columns of one
    /// [index](Fold::index) must have one scale, and none be zero.
    pub fn patch(&self, model: &Model, scale: &[f32]) -> Patch {
        let with = |patch: Patch, weight: &WeightId, axis, factors, offset| {
            patch.and(scaled::patch(model, *weight, axis, factors, offset))
        };
        let columns: Arc<[f32]> = scale.into();
        let patch = self.readers.iter().fold(Patch::default(), |p, w| with(p, w, 1, columns.clone(), 0.0));
        self.writers.iter().fold(patch, |p, (weight, axis)| {
            let length = model.weights.get(*weight).shape.get(*axis).copied().unwrap_or_default();
            with(p, weight, *axis, self.inverse(scale, length), self.offset)
        })
    }

    /// Every weight that the fold changes.
    pub fn weights(&self) -> impl Iterator<Item = WeightId> {
        self.readers.iter().chain(self.writers.iter().map(|(weight, _)| weight)).copied()
    }

    /// One over the scale, along the writers' axis.
    fn inverse(&self, scale: &[f32], length: usize) -> Arc<[f32]> {
        let mut inverse = vec![1.0; length];
        self.index.iter().zip(scale).for_each(|(i, s)| inverse[*i] = 1.0 / s);
        inverse.into()
    }

    /// Replaces the numbers of columns that share a scale by what `join` makes of all of them.
    pub(crate) fn share(&self, numbers: &mut [f32], join: impl Fn(f32, f32) -> f32) {
        let most = self.index.iter().max().map_or(0, |i| i + 1);
        let mut joined: Vec<Option<f32>> = vec![None; most];
        for (i, x) in self.index.iter().zip(numbers.iter()) {
            joined[*i] = Some(joined[*i].map_or(*x, |other| join(other, *x)));
        }
        self.index.iter().zip(numbers).for_each(|(i, x)| *x = joined[*i].unwrap_or(*x));
    }
}
