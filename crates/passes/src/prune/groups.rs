//! Prune groups: which indices of which axes go together, found from what the ops declare of their axes and from nothing
//! else.
//!
//! *Channels* are the classes of a union-find over `(weight or value axis, index)`: linked indices are one class, so are those
//! equal modulo a cycle and those of a run. Residual streams, concatenations, gates, grouped and depthwise convolutions, channel
//! shuffles, flattened inputs, tied weights and attention heads follow. Of a product of axes (a reshape) one part may
//! lose indices: the longest that nothing freezes; the others freeze. Inputs and outputs of the graph, axes that an op mixes, and
//! axes over which one takes statistics are frozen, and with them every class that touches them. *Groups* are
//! channels of the same weights' axes: those among which one chooses.
//!
//! Source: DepGraph (Fang et al. 2023) for groups, here over indices instead of layers.

use super::union::{Axis, Classes, Index, Of};
use graph::{Axes, End, Graph, Model, Node, Op, Port, Product, WeightId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Indices that go together: one for each axis they are of, more where an axis holds several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// By axis, ascending.
    pub indices: BTreeMap<Axis, Vec<usize>>,
}

/// Channels among which one chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The first weight that makes the channels.
    pub name: String,
    /// What it is made of: `Conv.0 BatchNorm.0 Conv.1`; groups of one kind are alike.
    pub kind: String,
    /// In the order of their first index.
    pub channels: Vec<Channel>,
}

/// Indices of a weight that may not go, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The weight whose outputs they are.
    pub weight: String,
    /// How many of its outputs.
    pub outputs: usize,
    /// Why.
    pub why: String,
}

/// All that can go, and what cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Groups with more than one channel, in the order of the weights.
    pub groups: Vec<Group>,
    /// What stays.
    pub frozen: Vec<Frozen>,
}

/// What may go that stays where nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freedom {
    /// Axes over which norms take statistics.
    pub norms: bool,
    /// Queries without the key heads that they share, as many of each.
    pub queries: bool,
}

/// Finds the groups of a model.
pub fn find(model: &Model, freedom: Freedom) -> Groups {
    let Some(graph) = model.graph() else { return Groups::default() };
    let mut work = Work { graph, model, classes: Classes::new(graph, &model.weights), makes: BTreeSet::new() };
    let mut products = Vec::new();
    for node in graph.nodes() {
        let inputs = graph.input_types(node);
        let axes = match &node.op {
            Op::Attention(op) if freedom.queries => op.axes_of_queries(&inputs),
            op => op.spec().axes(&inputs),
        };
        work.node(node, &axes, freedom.norms);
        products.extend(axes.products.into_iter().map(|product| (node, product)));
    }
    work.protect();
    products.iter().for_each(|(node, product)| work.product(node, product));
    work.groups()
}

struct Work<'a> {
    graph: &'a Graph,
    model: &'a Model,
    classes: Classes,
    /// Axes of weights that are axes of what their node makes.
    makes: BTreeSet<(WeightId, usize)>,
}

impl Work<'_> {
    fn axis(&self, node: &Node, end: End) -> Option<Axis> {
        let of = match end.port {
            Port::Input(n) => Of::Value(*node.inputs.get(n)?),
            Port::Output(n) => Of::Value(*node.outputs.get(n)?),
            Port::Weight(n) => Of::Weight(*node.op.spec().weights().get(n)?),
        };
        Some(Axis { of, axis: end.axis })
    }

    /// All that a node declares, but for products.
    fn node(&mut self, node: &Node, axes: &Axes, through_norms: bool) {
        for link in &axes.links {
            let (Some(a), Some(b)) = (self.axis(node, link.a), self.axis(node, link.b)) else { continue };
            for (end, other) in [(link.a, b), (link.b, a)] {
                if let (Port::Output(_), Of::Weight(weight)) = (end.port, other.of) {
                    self.makes.insert((weight, other.axis));
                }
            }
            self.link(a, b, &link.relation);
        }
        for link in &axes.bound {
            if let (Some(a), Some(b)) = (self.axis(node, link.a), self.axis(node, link.b)) {
                self.link(a, b, &link.relation);
            }
        }
        for (end, length) in &axes.cycles {
            self.fold(node, *end, |i| i % (*length).max(1));
        }
        for (end, length) in &axes.runs {
            self.fold(node, *end, |i| i / (*length).max(1) * length);
        }
        let mixes = format!("`{}` ({}) mixes this axis, or fixes its length", node.name, node.op.name());
        self.freeze(node, &axes.frozen, &mixes);
        if !through_norms {
            let why = format!("`{}` ({}) takes statistics over it", node.name, node.op.name());
            self.freeze(node, &axes.statistics, &why);
        }
    }

    fn link(&mut self, a: Axis, b: Axis, relation: &graph::Relation) {
        let (Some(long), Some(short)) = (self.classes.length(a), self.classes.length(b)) else { return };
        for (i, j) in relation.pairs(long, short) {
            self.classes.unite((a, i), (b, j));
        }
    }

    fn fold(&mut self, node: &Node, end: End, onto: impl Fn(usize) -> usize) {
        let Some(axis) = self.axis(node, end) else { return };
        for i in 0..self.classes.length(axis).unwrap_or(0) {
            self.classes.unite((axis, i), (axis, onto(i)));
        }
    }

    fn freeze(&mut self, node: &Node, ends: &[End], why: &str) {
        for end in ends {
            if let Some(axis) = self.axis(node, *end) {
                self.classes.freeze(axis, why);
            }
        }
    }

    /// What the world outside sees stays as it is.
    fn protect(&mut self) {
        for (values, what) in [(self.graph.inputs(), "an input"), (self.graph.outputs(), "an output")] {
            for id in values {
                let value = &self.graph.values()[id.0];
                let why = format!("`{}` is {what} of the network", value.name);
                for axis in 0..value.shape.len() {
                    self.classes.freeze(Axis { of: Of::Value(*id), axis }, &why);
                }
            }
        }
    }

    /// Lets the longest part of a product lose indices that may, and no other.
    fn product(&mut self, node: &Node, product: &Product) {
        let parts: Vec<Option<Axis>> = product.parts.iter().map(|(end, _)| self.axis(node, *end)).collect();
        let free = |n: &usize, work: &mut Self| parts[*n].is_some_and(|axis| !work.classes.is_frozen(axis));
        let candidates: Vec<usize> = (0..parts.len()).filter(|n| free(n, self)).collect();
        // Of equally long parts the inner one: whole heads hold what belongs together.
        let chosen = candidates.into_iter().max_by_key(|n| (product.parts[*n].1, *n));
        let why = format!("`{}` ({}) can follow another axis only", node.name, node.op.name());
        for (n, axis) in parts.iter().enumerate() {
            if let (Some(axis), true) = (axis, Some(n) != chosen) {
                self.classes.freeze(*axis, &why);
            }
        }
        let whole = self.axis(node, product.whole);
        match (chosen, whole) {
            (Some(n), Some(whole)) => {
                let link = product.link(n);
                if let Some(part) = parts[n] {
                    self.link(whole, part, &link.relation);
                }
            }
            (None, Some(whole)) => self.classes.freeze(whole, &why),
            (_, None) => {}
        }
    }

    /// Channels that touch a weight and that nothing freezes, by the weights' axes that they are of.
    fn groups(mut self) -> Groups {
        let mut members: BTreeMap<Index, Channel> = BTreeMap::new();
        let mut frozen: BTreeMap<(WeightId, String), usize> = BTreeMap::new();
        let mut axes: Vec<_> = self.classes.axes().collect();
        axes.sort_unstable();
        for (axis, length) in axes {
            for index in 0..length {
                let Some(class) = self.classes.find(axis, index) else { continue };
                match (self.classes.frozen(class), axis.of) {
                    (None, _) => members
                        .entry(class)
                        .or_insert_with(|| Channel { indices: BTreeMap::new() })
                        .indices
                        .entry(axis)
                        .or_default()
                        .push(index),
                    (Some(why), Of::Weight(id)) if self.makes.contains(&(id, axis.axis)) => {
                        *frozen.entry((id, why.to_owned())).or_default() += 1;
                    }
                    _ => {}
                }
            }
        }
        let channels = members.into_values().filter(|c| c.indices.keys().any(|a| matches!(a.of, Of::Weight(_))));
        let groups = self.sort(channels.collect());
        let name = |id: WeightId| self.model.weights.get(id).name.clone();
        let weights = |(weight, why): (WeightId, String), outputs| Frozen { weight: name(weight), outputs, why };
        // One line for a node: its weight, not each of its vectors.
        let frozen = frozen.into_iter().filter(|((id, _), _)| self.model.weights.get(*id).shape.len() > 1);
        Groups { groups, frozen: frozen.map(|(key, n)| weights(key, n)).collect() }
    }

    fn sort(&self, channels: Vec<Channel>) -> Vec<Group> {
        let mut order: Vec<Vec<(Axis, usize)>> = Vec::new();
        let mut by_shape: HashMap<Vec<(Axis, usize)>, Vec<Channel>> = HashMap::new();
        for channel in channels {
            let weights = channel.indices.iter().filter(|(axis, _)| matches!(axis.of, Of::Weight(_)));
            let shape: Vec<_> = weights.map(|(axis, at)| (*axis, at.len())).collect();
            let group = by_shape.entry(shape.clone()).or_default();
            if group.is_empty() {
                order.push(shape);
            }
            group.push(channel);
        }
        let mut groups = Vec::new();
        for shape in order {
            let Some(mut channels) = by_shape.remove(&shape).filter(|c| c.len() > 1) else { continue };
            channels.sort_by(|a, b| a.indices.values().cmp(b.indices.values()));
            groups.push(Group { name: self.name(&shape), kind: self.kind(&shape), channels });
        }
        groups
    }

    /// The name of the first matrix or kernel that makes the channels.
    fn name(&self, shape: &[(Axis, usize)]) -> String {
        let makes = |axis: &Axis| matches!(axis.of, Of::Weight(id) if self.makes.contains(&(id, axis.axis)));
        let wide = |axis: &Axis| matches!(axis.of, Of::Weight(id) if self.model.weights.get(id).shape.len() > 1);
        let matrix = shape.iter().find(|(axis, _)| makes(axis) && wide(axis));
        let first = matrix.or(shape.iter().find(|(axis, _)| makes(axis))).or(shape.first());
        match first.map(|(axis, _)| axis.of) {
            Some(Of::Weight(id)) => self.model.weights.get(id).name.clone(),
            _ => String::new(),
        }
    }

    fn kind(&self, shape: &[(Axis, usize)]) -> String {
        let one = |(axis, _): &(Axis, usize)| {
            let Of::Weight(id) = axis.of else { return String::new() };
            let user = self.graph.users(id).next().map(|node| self.graph.nodes()[node.0].op.name());
            format!("{}.{}", user.unwrap_or("?"), axis.axis)
        };
        shape.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}
