//! ONNX files: networks translated node by node.
//!
//! ```text
//! ModelProto ─▶ order ─▶ for each node:  fold (constants, shapes)  or  ops/<family> (a coarse op)  or  Opaque (carried along)
//! ```
//!
//! Each operator's translation says what it needs of its node; where that is not given, it refuses with a reason, and the node
//! becomes an [`graph::ops::Opaque`] that the model is compressed around. The file itself stays the single source of truth: a
//! [`Network`] remembers which node, value and weight came from where, so that `export` can put changes back into it.

mod blank;
mod cx;
mod fold;
mod ops;
mod shapes;
mod sparse;
mod stored;
mod translate;

pub use stored::{Home, Stored};

use crate::error::{ImportError, Problem};
use crate::{Imported, Kind};
use formats::onnx::Onnx;
use graph::{Body, Graph, Model, Op, ValueId, WeightId, WeightStore};
use serde_json::Map;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The oldest operators that are understood.
pub const MIN_OPSET: i64 = 7;
/// The newest operators that were looked at.
pub const MAX_OPSET: i64 = 25;

/// Where everything in a translated network came from.
#[derive(Clone)]
pub struct Network {
    /// The file.
    pub file: Arc<Onnx>,
    /// The graph as it was translated, before any pass.
    pub graph: Graph,
    /// The weights as they were.
    pub weights: WeightStore,
    /// Where each weight lies in the file.
    pub stored: HashMap<WeightId, Stored>,
    /// The file's node that each graph node came from, by the graph node's name. Constants come from none.
    pub nodes: HashMap<String, usize>,
    /// The value behind each of the file's names; several names where a node passes its input on.
    pub values: HashMap<String, ValueId>,
}

/// Opens an ONNX file.
pub(crate) fn open(path: &Path) -> Result<Imported, ImportError> {
    let file = Onnx::open(path).map_err(|e| ImportError::one(path, e))?;
    let translated = translate::translate(Arc::new(file)).map_err(|problem| ImportError::one(path, problem))?;
    let (network, reason) = (translated.network, translated.reason);
    let mut notes = notes(&network);
    let body = match reason {
        None => Body::Network { graph: network.graph.clone() },
        Some(reason) => Body::Unknown { reason },
    };
    let model = Model { body, weights: network.weights.clone() };
    model.check().map_err(|source| ImportError::one(path, Problem::Graph { file: path.to_owned(), source }))?;
    notes.extend(version_note(&network.file));
    Ok(Imported {
        model,
        kind: Kind::Onnx,
        path: path.to_owned(),
        arch: None,
        config: Map::new(),
        metadata: None,
        files: vec![path.to_owned()],
        extras: vec![],
        scattered: vec![],
        notes,
        network: Some(Arc::new(network)),
    })
}

/// What is carried along, and why: one note for each kind.
fn notes(network: &Network) -> Vec<String> {
    let mut kinds: Vec<(String, String, usize)> = Vec::new();
    for node in network.graph.nodes() {
        let Op::Opaque(op) = &node.op else { continue };
        match kinds.iter_mut().find(|(name, ..)| *name == op.name) {
            Some((.., count)) => *count += 1,
            None => kinds.push((op.name.clone(), format!("`{}`: {}", node.name, op.reason), 1)),
        }
    }
    let note = |(name, why, count)| format!("{count}× `{name}` carried along, not looked into ({why})");
    kinds.into_iter().map(note).collect()
}

fn version_note(file: &Onnx) -> Option<String> {
    let version = file.opset("").filter(|v| *v > MAX_OPSET)?;
    Some(format!("its operators are of version {version}, newer than {MAX_OPSET}: what changed since is not known"))
}
