//! The invariants of a graph, checked before and after every pass.

use crate::{End, Graph, Kind, Node, Port, Shape, WeightStore};

/// What is wrong with a graph, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GraphError {
    #[error("node `{node}` ({op}): {why}")]
    Shape { node: String, op: &'static str, why: String },
    #[error("node `{node}` reads `{value}` before anything made it")]
    Order { node: String, value: String },
    #[error("node `{node}` cannot be changed: {why}")]
    Edit { node: String, why: String },
    #[error("two nodes are called `{node}`")]
    Duplicate { node: String },
    #[error("node `{node}` declares an axis relation that its shapes contradict: {why}")]
    Axes { node: String, why: String },
}

/// Nodes run in order, names are unique, shapes are what the ops say, axis relations fit the shapes.
pub(crate) fn check(graph: &Graph, weights: &WeightStore) -> Result<(), GraphError> {
    let mut made = vec![false; graph.values().len()];
    graph.inputs().iter().for_each(|v| made[v.0] = true);
    let mut names = std::collections::HashSet::new();
    for node in graph.nodes() {
        if !names.insert(&node.name) {
            return Err(GraphError::Duplicate { node: node.name.clone() });
        }
        if let Some(value) = node.inputs.iter().find(|v| !made[v.0]) {
            return Err(GraphError::Order { node: node.name.clone(), value: graph.values()[value.0].name.clone() });
        }
        check_shapes(graph, node, weights)?;
        check_axes(graph, node, weights)?;
        node.outputs.iter().for_each(|v| made[v.0] = true);
    }
    Ok(())
}

fn check_shapes(graph: &Graph, node: &Node, weights: &WeightStore) -> Result<(), GraphError> {
    let error = |why| GraphError::Shape { node: node.name.clone(), op: node.op.name(), why };
    let outputs = node.op.spec().outputs(&graph.input_types(node), weights).map_err(|e| error(e.0))?;
    let held: Vec<(Kind, Shape)> =
        node.outputs.iter().map(|v| (graph.values()[v.0].kind, graph.values()[v.0].shape.clone())).collect();
    if outputs == held { Ok(()) } else { Err(error(format!("makes {outputs:?}, the graph says {held:?}"))) }
}

fn check_axes(graph: &Graph, node: &Node, weights: &WeightStore) -> Result<(), GraphError> {
    let error = |why| Err(GraphError::Axes { node: node.name.clone(), why });
    let length_of = |end| length(graph, node, weights, end);
    let axes = node.op.spec().axes(&graph.input_types(node));
    for link in axes.links.into_iter().chain(axes.bound) {
        let (Some(a), Some(b)) = (length_of(link.a), length_of(link.b)) else {
            return error(format!("{link:?} names an axis that is not there"));
        };
        if !link.relation.fits(a, b) {
            return error(format!("{link:?} joins lengths {a} and {b}"));
        }
    }
    for product in axes.products {
        let parts = product.parts.iter().map(|(end, length)| (length_of(*end) == Some(*length)).then_some(*length));
        let Some(parts) = parts.collect::<Option<Vec<_>>>() else {
            return error(format!("{product:?} names an axis that is not there"));
        };
        if length_of(product.whole) != Some(parts.iter().product()) {
            return error(format!("{product:?} is not a product"));
        }
    }
    Ok(())
}

/// The length of an axis; open dimensions count as two different large numbers, so that they only match themselves.
fn length(graph: &Graph, node: &Node, weights: &WeightStore, end: End) -> Option<usize> {
    let open = crate::Size { batch: usize::MAX / 4, tokens: usize::MAX / 8 };
    let of_value = |v: Option<&crate::ValueId>| graph.values()[v?.0].shape.get(end.axis).map(|d| open.of(*d));
    match end.port {
        Port::Input(n) => of_value(node.inputs.get(n)),
        Port::Output(n) => of_value(node.outputs.get(n)),
        Port::Weight(n) => weights.get(*node.op.spec().weights().get(n)?).shape.get(end.axis).copied(),
    }
}
