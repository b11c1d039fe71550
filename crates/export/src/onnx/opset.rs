//! The version of ONNX's operators that a network needs, and how a file is lifted to it.
//!
//! | what | since |
//! |---|---|
//! | one scale for all | 10 |
//! | DynamicQuantizeLinear | 11 |
//! | MaxPool of 8-bit codes | 12 |
//! | scales along an axis | 13 |
//! | codes of 4 or 16 bits | 21 |
//!
//! Lifting writes every node anew from its op, so it cannot be done where the graph does not know what a node means.

use crate::ExportError;
use formats::onnx::proto::ModelProto;
use graph::{Levels, Model, Op};
use import::onnx::Network;

/// The oldest version that has what the model's grids need; 0 where it has none.
fn needed(model: &Model) -> i64 {
    let of = |axis: Option<usize>, levels: Levels| match (levels, axis) {
        (Levels::I4 | Levels::U4 | Levels::I16 | Levels::U16, _) => 21,
        (_, Some(_)) => 13,
        (_, None) => 10,
    };
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    let values = nodes.iter().filter_map(|node| match &node.op {
        // Codes of values go through pools, too.
        Op::FakeQuant(op) => Some(of(op.axis, op.levels).max(12)),
        Op::DynamicQuant(_) => Some(11),
        _ => None,
    });
    let used = nodes.iter().flat_map(|node| node.op.spec().weights());
    let weights = used.filter_map(|id| model.weights.grid(id)).map(|grid| of(grid.axis, grid.levels));
    values.chain(weights).max().unwrap_or(0)
}

/// The version to write in; where that is newer than the file's, all its nodes are to be written anew.
pub(super) fn lifted(model: &Model, network: &Network) -> Result<(Network, i64), ExportError> {
    let (has, needs) = (network.file.opset("").unwrap_or_default(), needed(model));
    if has >= needs {
        return Ok((network.clone(), has));
    }
    let opaque = model.graph().and_then(|g| g.nodes().iter().find(|n| matches!(n.op, Op::Opaque(_))));
    if let Some(node) = opaque {
        let (name, op) = (
            &node.name,
            match &node.op {
                Op::Opaque(op) => &op.name[..],
                op => op.name(),
            },
        );
        let why = format!(
            "its operators are of version {has}; the codes need {needs}, and what `{name}` ({op}) means there is not known: convert the file first"
        );
        return Err(ExportError::Onnx { why });
    }
    Ok((Network { nodes: Default::default(), ..network.clone() }, needs))
}

/// Says in the file's envelope which version it is of.
pub(super) fn declare(file: &mut ModelProto, opset: i64) {
    let own = |domain: Option<&str>| matches!(domain, None | Some("" | "ai.onnx"));
    for import in file.opset_import.iter_mut().filter(|import| own(import.domain.as_deref())) {
        import.version = Some(opset);
    }
    // The version of the file format that came with these operators.
    let ir = match opset {
        ..10 => 4,
        10 => 5,
        11 => 6,
        12..15 => 7,
        15..19 => 8,
        19..21 => 9,
        _ => 10,
    };
    file.ir_version = Some(file.ir_version.unwrap_or_default().max(ir));
}
