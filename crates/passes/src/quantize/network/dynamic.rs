//! # Dynamic quantization of networks
//!
//! **What it does.** Weights of products get symmetric 8-bit grids, one scale for each output; what products read is rounded in
//! every run to the grid of its own range. onnxruntime multiplies integers and scales the sums.
//!
//! **When to use.** For networks of matrix products (transformers, recurrent ones) and where there are no samples at all;
//! convolutions run faster with [static](super) grids.
//!
//! **What it costs.** Seconds. **What it needs.** Nothing but the network.
//!
//! **Source.** onnxruntime's `quantize_dynamic`, which has one scale for a whole weight where it is not told otherwise.

use super::{QuantizeError, Quantized, finite, grids, kernels, weights};
use crate::transform::fold::fold;
use graph::ops::DynamicQuant;
use graph::{Graph, Levels, Model, Node, Op, Patch, ValueId, Weight};
use plan::{QuantizeSpec, Rounding};
use std::collections::{BTreeMap, BTreeSet};

/// Quantizes every product but those that stay in float.
pub fn dynamic(model: &Model, spec: &QuantizeSpec) -> Result<Quantized, QuantizeError> {
    refuse(spec)?;
    let mut model = model.clone();
    super::not_yet(&model)?;
    let folded = fold(&model)?;
    model.apply(folded.patch)?;
    let mut notes: Vec<String> =
        folded.into.iter().map(|(norm, layer)| format!("`{norm}`: folded into `{layer}`")).collect();
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let (mut readers, mut patch, mut done) = (BTreeMap::<ValueId, Vec<&str>>::new(), Patch::default(), BTreeSet::new());
    for node in graph.nodes().iter().filter(|n| kernels::is_product(&n.op)) {
        let Some((id, _)) = weights::parts(&node.op).filter(|_| !spec.keep.iter().any(|p| p.matches_name(&node.name)))
        else {
            continue;
        };
        if !has_kernel(graph, node) {
            notes.push(format!("`{}` stays in float: integers are convolved over two axes", node.name));
            continue;
        }
        readers.entry(node.inputs[0]).or_default().push(&node.name);
        if !done.insert(id) {
            continue;
        }
        let (old, mut numbers) = (model.weights.get(id), finite(&model, id)?);
        let grid = weights::nearest(&numbers, old.shape.first().copied(), spec.weights);
        grids::round(&grid, &old.shape, &mut numbers);
        let made = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers)?;
        patch = patch.encode(&model, id, made.encoding, made.source).grid(id, grid);
    }
    if readers.is_empty() {
        return Err(QuantizeError::Nothing);
    }
    for (value, nodes) in &readers {
        let name = format!("{}_in_run", graph.values()[value.0].name);
        patch = patch.insert(*value, &name, DynamicQuant, Some(nodes));
    }
    model.apply(patch)?;
    Ok(Quantized { model, notes, ranges: Vec::new(), sensitivity: Vec::new() })
}

/// What has no meaning without samples.
fn refuse(spec: &QuantizeSpec) -> Result<(), QuantizeError> {
    let wrong = [
        (spec.weights != Levels::I8, "weights other than int8"),
        (spec.round != Rounding::Nearest, "a rounding that learns"),
        (spec.budget.is_some() || spec.max_drop.is_some(), "a budget"),
        (spec.equalize, "equalization"),
    ];
    match wrong.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, what)) => Err(QuantizeError::Static { what }),
        None => Ok(()),
    }
}

/// onnxruntime convolves integers over two axes only.
fn has_kernel(graph: &Graph, node: &Node) -> bool {
    let rank = graph.values()[node.inputs[0].0].shape.len();
    matches!((&node.op, rank), (Op::Conv(_), 4) | (Op::Linear(_), 2..))
}
