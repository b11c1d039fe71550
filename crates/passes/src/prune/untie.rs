//! Exporters store equal vectors once: the zero biases of fifty convolutions are one initialiser. Channels of layers that have
//! nothing else to do with each other would then have to go together, so each node gets a copy of its own first. Matrices and
//! kernels that are shared stay so: someone meant it. [Shuffles](super::shuffle) tie channels that have nothing to do with each other,
//! too, and become choices of indices.

use super::shuffle::unshuffle;
use graph::{Model, Op, Patch, Weight, WeightId};

/// The patch that gives every node its own vectors, and every shuffle its indices; `None` where there is nothing to do.
pub(super) fn untie(model: &Model) -> Option<Patch> {
    match (own_vectors(model), unshuffle(model)) {
        (Some(a), Some(b)) => Some(a.and(b)),
        (a, b) => a.or(b),
    }
}

fn own_vectors(model: &Model) -> Option<Patch> {
    let graph = model.graph()?;
    let mut patch = Patch::default();
    let mut ops: Vec<Op> = graph.nodes().iter().map(|n| n.op.clone()).collect();
    for (id, weight) in model.weights.iter().filter(|(id, w)| w.shape.len() == 1 && model.weights.grid(*id).is_none()) {
        for node in graph.users(id).skip(1) {
            let name = format!("{}.{}", weight.name, graph.nodes()[node.0].name);
            let (shape, source) = (weight.shape.clone(), weight.source.clone());
            let copy = Weight { name, place: weight.place, shape, encoding: weight.encoding, source };
            // Only what an op can be given is added.
            if let Some(op) = with(&ops[node.0], id, WeightId(usize::MAX)) {
                let new = patch.add(model, copy);
                ops[node.0] = with(&op, WeightId(usize::MAX), new).unwrap_or(op);
            }
        }
    }
    let changed = graph.nodes().iter().zip(ops).filter(|(node, op)| node.op != *op);
    let patch = changed.fold(patch, |patch, (node, op)| patch.set_op(&node.name, op));
    (!patch.is_empty()).then_some(patch)
}

/// The op with another vector in the place of one; `None` where it has no such.
fn with(op: &Op, from: WeightId, to: WeightId) -> Option<Op> {
    let mut op = op.clone();
    let mut found = false;
    let put = |id: &mut WeightId| {
        found |= *id == from;
        *id = if *id == from { to } else { *id };
    };
    match &mut op {
        Op::Conv(op) => op.bias.iter_mut().for_each(put),
        Op::ConvTranspose(op) => op.bias.iter_mut().for_each(put),
        Op::Linear(op) => op.bias.iter_mut().for_each(put),
        Op::BatchNorm(op) => [&mut op.scale, &mut op.bias, &mut op.mean, &mut op.var].into_iter().for_each(put),
        Op::GroupNorm(op) => [&mut op.scale, &mut op.bias].into_iter().for_each(put),
        _ => {}
    }
    found.then_some(op)
}
