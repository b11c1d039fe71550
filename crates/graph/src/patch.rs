//! What a pass returns: new contents for weights. The driver applies it and checks the model again.

use crate::{GraphError, Model, Source, WeightId};
use codec::Encoding;
use std::sync::Arc;

struct Change {
    weight: WeightId,
    encoding: Encoding,
    shape: Vec<usize>,
    source: Arc<dyn Source>,
}

/// Changes to apply together.
#[derive(Default)]
pub struct Patch {
    changes: Vec<Change>,
}

impl Patch {
    /// Gives a weight another encoding and source, of the same shape.
    pub fn encode(mut self, model: &Model, weight: WeightId, encoding: Encoding, source: Arc<dyn Source>) -> Patch {
        let shape = model.weights.get(weight).shape.clone();
        self.changes.push(Change { weight, encoding, shape, source });
        self
    }

    /// The changes of both, these first.
    pub fn and(mut self, other: Patch) -> Patch {
        self.changes.extend(other.changes);
        self
    }

    /// How many weights it changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl Model {
    /// Applies a patch, then checks the graph.
    pub fn apply(&mut self, patch: Patch) -> Result<(), GraphError> {
        for change in patch.changes {
            self.weights.replace(change.weight, change.encoding, change.shape, change.source);
        }
        self.check()
    }
}
