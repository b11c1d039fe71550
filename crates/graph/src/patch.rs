//! What a pass returns: new contents for weights, and edits of the graph. The driver applies it and checks the model again.

use crate::{Body, Graph, GraphError, Grid, Model, Op, Source, ValueId, Weight, WeightId};
use codec::Encoding;
use std::sync::Arc;

struct Change {
    weight: WeightId,
    encoding: Encoding,
    shape: Vec<usize>,
    source: Arc<dyn Source>,
}

/// A change of the graph; nodes go by name.
enum Edit {
    Op { node: String, op: Op },
    Bypass { node: String },
    Insert { value: ValueId, node: String, op: Op, readers: Option<Vec<String>> },
}

/// Changes to apply together: first the weights, then the graph, in order.
#[derive(Default)]
pub struct Patch {
    changes: Vec<Change>,
    added: Vec<Weight>,
    grids: Vec<(WeightId, Grid)>,
    edits: Vec<Edit>,
}

impl Patch {
    /// Gives a weight another encoding and source, of the same shape.
    pub fn encode(mut self, model: &Model, weight: WeightId, encoding: Encoding, source: Arc<dyn Source>) -> Patch {
        let shape = model.weights.get(weight).shape.clone();
        self.changes.push(Change { weight, encoding, shape, source });
        self
    }

    /// Gives a weight other contents of another shape, in the same encoding.
    pub fn resize(mut self, model: &Model, weight: WeightId, shape: Vec<usize>, source: Arc<dyn Source>) -> Patch {
        let encoding = model.weights.get(weight).encoding;
        self.changes.push(Change { weight, encoding, shape, source });
        self
    }

    /// Says that a weight's numbers lie on a grid.
    pub fn grid(mut self, weight: WeightId, grid: Grid) -> Patch {
        self.grids.push((weight, grid));
        self
    }

    /// Adds a weight of a new name, and says what id it will have. Of patches that are joined only one may add weights.
    pub fn add(&mut self, model: &Model, weight: Weight) -> WeightId {
        self.added.push(weight);
        WeightId(model.weights.len() + self.added.len() - 1)
    }

    /// Gives a node another op.
    pub fn set_op(mut self, node: &str, op: impl Into<Op>) -> Patch {
        self.edits.push(Edit::Op { node: node.into(), op: op.into() });
        self
    }

    /// Takes a node out ([`Graph::bypass`]).
    pub fn bypass(mut self, node: &str) -> Patch {
        self.edits.push(Edit::Bypass { node: node.into() });
        self
    }

    /// Puts a node behind a value ([`Graph::insert_behind`]).
    pub fn insert(mut self, value: ValueId, node: &str, op: impl Into<Op>, readers: Option<&[&str]>) -> Patch {
        let readers = readers.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
        self.edits.push(Edit::Insert { value, node: node.into(), op: op.into(), readers });
        self
    }

    /// The changes of both, these first.
    pub fn and(mut self, other: Patch) -> Patch {
        self.changes.extend(other.changes);
        self.added.extend(other.added);
        self.grids.extend(other.grids);
        self.edits.extend(other.edits);
        self
    }

    /// How many weights it changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.added.is_empty() && self.grids.is_empty() && self.edits.is_empty()
    }
}

impl Model {
    /// Applies a patch, then checks the graph.
    pub fn apply(&mut self, patch: Patch) -> Result<(), GraphError> {
        let mut reshaped = !patch.edits.is_empty();
        for change in patch.changes {
            reshaped |= self.weights.get(change.weight).shape != change.shape;
            self.weights.replace(change.weight, change.encoding, change.shape, change.source);
        }
        for weight in patch.added {
            self.weights.insert(weight);
        }
        for (weight, grid) in patch.grids {
            self.weights.set_grid(weight, grid);
        }
        if let (Body::Decoder { graph, .. } | Body::Network { graph }, true) = (&mut self.body, reshaped) {
            for edit in patch.edits {
                apply(graph, edit, &self.weights)?;
            }
            graph.refresh(&self.weights)?;
        }
        self.check()
    }
}

fn apply(graph: &mut Graph, edit: Edit, weights: &crate::WeightStore) -> Result<(), GraphError> {
    match edit {
        Edit::Op { node, op } => graph.set_op(&node, op),
        Edit::Bypass { node } => graph.bypass(&node),
        Edit::Insert { value, node, op, readers } => {
            let readers = readers.as_ref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            graph.insert_behind(value, &node, op, readers.as_deref(), weights).map(drop)
        }
    }
}
