//! A channel shuffle is written as reshape, transpose, reshape. Of the axis in between only one part can lose indices, so that both
//! channels of every pair would have to go together, and those of all blocks behind. As a choice of indices it ties nobody.

use graph::ops::{Pick, Select};
use graph::{Dim, Graph, Model, Node, Op, Patch, ValueId};

/// The patch that makes every shuffle a choice of indices; `None` where there are none.
pub(super) fn unshuffle(model: &Model) -> Option<Patch> {
    let graph = model.graph()?;
    let found = graph.nodes().iter().filter_map(|last| Some((last, shuffle(graph, last)?)));
    let patch = found.fold(Patch::default(), |patch, (last, (between, pick))| {
        let patch = between.into_iter().fold(patch, |patch, name| patch.bypass(name));
        patch.set_op(&last.name, Select { picks: vec![pick] })
    });
    (!patch.is_empty()).then_some(patch)
}

/// The nodes in front of the last one of a shuffle, and what all of them choose.
fn shuffle<'g>(graph: &'g Graph, last: &Node) -> Option<([&'g str; 2], Pick)> {
    let (Op::Reshape(_), turn) = (&last.op, before(graph, last)?) else { return None };
    let (Op::Transpose(turned), split) = (&turn.op, before(graph, turn)?) else { return None };
    let Op::Reshape(_) = &split.op else { return None };
    let shape = |value: ValueId| &graph.values()[value.0].shape;
    let (whole, parts) = (shape(split.inputs[0]), shape(split.outputs[0]));
    let axis = (0..whole.len()).find(|a| parts.get(*a) != whole.get(*a))?;
    let (Dim::Fixed(groups), Dim::Fixed(each)) = (*parts.get(axis)?, *parts.get(axis + 1)?) else { return None };
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.swap(axis, axis + 1);
    let same = whole.get(axis) == Some(&Dim::Fixed(groups * each))
        && parts.get(axis + 2..) == whole.get(axis + 1..)
        && shape(*last.outputs.first()?) == whole
        && turned.order == order;
    let indices = (0..groups * each).map(|to| to % groups * each + to / groups).collect();
    same.then_some(([&split.name[..], &turn.name[..]], Pick { axis, indices }))
}

/// The node that makes what a node reads, where nobody else reads it.
fn before<'g>(graph: &'g Graph, node: &Node) -> Option<&'g Node> {
    let value = *node.inputs.first()?;
    let alone = graph.readers(value).count() == 1 && !graph.outputs().contains(&value);
    alone.then(|| graph.maker(value).map(|at| &graph.nodes()[at])).flatten()
}
