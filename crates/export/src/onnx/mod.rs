//! ONNX files: what passes changed is put back into the file that the network came from; everything else stays as it was.
//!
//! A node whose op, inputs and outputs are those of the translation is kept word for word; one that only reads other names is
//! renamed; any other is written anew from its op. Weights that were replaced become initialisers under the same name; those
//! on a grid are stored as codes with a DequantizeLinear behind, in the version of the operators that these need. Nodes that the graph does not know (shape arithmetic,
//! Identity, what an opaque op needs) follow where something still reads them.

mod build;
mod emit;
mod opset;
mod rebuild;
mod sparse;
mod weights;

use crate::{ExportError, Written};
use formats::onnx::{DataType, write as write_file};
use graph::Model;
use import::onnx::Network;
use std::path::Path;

/// Writes a network into a new file, beside which its external data go if the original's did.
pub fn write(model: &Model, network: &Network, target: &Path) -> Result<Written, ExportError> {
    let (network, opset) = opset::lifted(model, network)?;
    let graph = rebuild::rebuild(model, &network, opset)?;
    let tensors = graph.initializer.len() + graph.sparse_initializer.len();
    let bits = |t: &formats::onnx::proto::TensorProto| t.dtype().map_or(0, DataType::bits);
    let elements = |t: &formats::onnx::proto::TensorProto| t.shape().map_or(0, |s| s.iter().product::<usize>());
    let all =
        graph.initializer.iter().chain(graph.sparse_initializer.iter().flat_map(|s| [&s.values, &s.indices]).flatten());
    let bytes = all.map(|t| (elements(t) * bits(t)).div_ceil(8) as u64).sum();
    let sparse = graph.sparse_initializer.len();
    let what = format!(
        "{sparse} weights are stored sparse: the numbers that are not zero, and where they stand; a runtime makes them whole when it \
         loads them"
    );
    let notes = if sparse > 0 { vec![what] } else { vec![] };
    let mut whole = network.file.with_graph(graph).map_err(|e| ExportError::Onnx { why: e.to_string() })?;
    if network.file.opset("") != Some(opset) {
        opset::declare(&mut whole, opset);
    }
    let files = write_file(target, whole, network.file.layout())?;
    read_back(model, target)?;
    Ok(Written { files, tensors, bytes, notes })
}

/// Opens what was written: its inputs and outputs are those of the model.
fn read_back(model: &Model, target: &Path) -> Result<(), ExportError> {
    let opened = import::open(target).map_err(|e| ExportError::ReadBack { why: e.to_string() })?;
    let (Some(ours), Some(theirs)) = (model.graph(), opened.model.graph()) else { return Ok(()) };
    let types = |graph: &graph::Graph, ids: &[graph::ValueId]| {
        ids.iter().map(|v| (graph.values()[v.0].kind, graph.values()[v.0].shape.clone())).collect::<Vec<_>>()
    };
    let same = types(ours, ours.inputs()) == types(theirs, theirs.inputs())
        && types(ours, ours.outputs()) == types(theirs, theirs.outputs());
    if same { Ok(()) } else { Err(ExportError::ReadBack { why: "its inputs or outputs have other shapes".into() }) }
}
