//! Union-find over every index of every axis of a graph: values' and weights'. What is united loses an index together.

use graph::{Graph, ValueId, WeightId, WeightStore};
use std::collections::HashMap;
use std::sync::Arc;

/// What an axis belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Of {
    /// A value.
    Value(ValueId),
    /// A weight.
    Weight(WeightId),
}

/// An axis of a value or of a weight, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Axis {
    /// Of what.
    pub of: Of,
    /// Which.
    pub axis: usize,
}

/// An index of an axis, as a number over all axes.
pub(super) type Index = usize;

/// All indices of all axes of known length, in classes.
pub(super) struct Classes {
    /// Where each axis begins, and its length.
    axes: HashMap<Axis, (Index, usize)>,
    parent: Vec<Index>,
    size: Vec<usize>,
    /// Of a class's root: why its members may not go.
    frozen: HashMap<Index, Arc<str>>,
}

impl Classes {
    /// Every index by itself.
    pub fn new(graph: &Graph, weights: &WeightStore) -> Classes {
        let mut classes =
            Classes { axes: HashMap::new(), parent: Vec::new(), size: Vec::new(), frozen: HashMap::new() };
        for (id, value) in graph.values().iter().enumerate() {
            for (axis, dim) in value.shape.iter().enumerate() {
                if let Some(length) = dim.fixed() {
                    classes.add(Axis { of: Of::Value(ValueId(id)), axis }, length);
                }
            }
        }
        for (id, weight) in weights.iter() {
            for (axis, length) in weight.shape.iter().enumerate() {
                classes.add(Axis { of: Of::Weight(id), axis }, *length);
            }
        }
        classes
    }

    fn add(&mut self, axis: Axis, length: usize) {
        let from = self.parent.len();
        self.axes.insert(axis, (from, length));
        self.parent.extend(from..from + length);
        self.size.resize(from + length, 1);
    }

    /// Every axis with its length.
    pub fn axes(&self) -> impl Iterator<Item = (Axis, usize)> {
        self.axes.iter().map(|(axis, (_, length))| (*axis, *length))
    }

    /// The length of an axis; none where it is open.
    pub fn length(&self, axis: Axis) -> Option<usize> {
        self.axes.get(&axis).map(|(_, length)| *length)
    }

    /// The class of an index.
    pub fn find(&mut self, axis: Axis, index: usize) -> Option<Index> {
        let (from, length) = *self.axes.get(&axis)?;
        (index < length).then(|| self.root(from + index))
    }

    fn root(&mut self, mut at: Index) -> Index {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    /// Two indices go together. Open axes have none.
    pub fn unite(&mut self, a: (Axis, usize), b: (Axis, usize)) {
        let (Some(a), Some(b)) = (self.find(a.0, a.1), self.find(b.0, b.1)) else { return };
        if a == b {
            return;
        }
        let (large, small) = if self.size[a] >= self.size[b] { (a, b) } else { (b, a) };
        self.parent[small] = large;
        self.size[large] += self.size[small];
        if let Some(why) = self.frozen.remove(&small) {
            self.frozen.entry(large).or_insert(why);
        }
    }

    /// No index of an axis may go.
    pub fn freeze(&mut self, axis: Axis, why: &str) {
        let why: Arc<str> = why.into();
        for index in 0..self.length(axis).unwrap_or(0) {
            if let Some(class) = self.find(axis, index) {
                self.frozen.entry(class).or_insert_with(|| why.clone());
            }
        }
    }

    /// Why a class may not go.
    pub fn frozen(&self, class: Index) -> Option<&str> {
        self.frozen.get(&class).map(|why| &**why)
    }

    /// Whether no index of an axis may go.
    pub fn is_frozen(&mut self, axis: Axis) -> bool {
        let length = self.length(axis).unwrap_or(0);
        (0..length).all(|i| self.find(axis, i).is_none_or(|class| self.frozen.contains_key(&class)))
    }
}
