//! What must hold before anything is made of a graph: unique names, no cycles, tensors as long as their shapes say.

use super::problem::Problem;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use std::collections::{HashMap, HashSet};

/// A node's name, or where it has none, that of what it makes.
pub fn node_label(node: &NodeProto) -> &str {
    let named = node.name.as_deref().filter(|name| !name.is_empty());
    named.or_else(|| node.output.first().map(String::as_str)).unwrap_or_else(|| node.op_type.as_deref().unwrap_or(""))
}

/// Every constant tensor of a model: initialisers and attributes, of sub-graphs and functions too.
pub fn tensors(model: &ModelProto) -> Vec<&TensorProto> {
    let mut all = Vec::new();
    let training = model.training_info.iter().flat_map(|t| [&t.initialization, &t.algorithm]).flatten();
    model.graph.iter().chain(training).for_each(|graph| graph_tensors(graph, &mut all));
    for function in &model.functions {
        node_tensors(&function.node, &mut all);
    }
    all
}

fn graph_tensors<'a>(graph: &'a GraphProto, all: &mut Vec<&'a TensorProto>) {
    all.extend(&graph.initializer);
    all.extend(graph.sparse_initializer.iter().flat_map(|s| [&s.values, &s.indices]).flatten());
    node_tensors(&graph.node, all);
}

fn node_tensors<'a>(nodes: &'a [NodeProto], all: &mut Vec<&'a TensorProto>) {
    for attribute in nodes.iter().flat_map(|n| &n.attribute) {
        all.extend(attribute.t.as_deref());
        all.extend(&attribute.tensors);
        attribute.g.iter().for_each(|graph| graph_tensors(graph, all));
        attribute.graphs.iter().for_each(|graph| graph_tensors(graph, all));
    }
}

/// Names that a node's sub-graphs take from outside.
pub fn captured(node: &NodeProto) -> Vec<&str> {
    let graphs = node.attribute.iter().flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs));
    let mut names: Vec<&str> = graphs.flat_map(free).collect();
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

/// Names that a graph reads and nothing in it makes.
fn free(graph: &GraphProto) -> Vec<&str> {
    let inputs = graph.input.iter().filter_map(|v| v.name.as_deref());
    let constants = graph.initializer.iter().map(TensorProto::label);
    let made = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
    let known: HashSet<&str> = inputs.chain(constants).chain(made).collect();
    let outputs = graph.output.iter().filter_map(|v| v.name.as_deref());
    let read = graph.node.iter().flat_map(|n| n.input.iter().map(String::as_str).chain(captured(n)));
    read.chain(outputs).filter(|name| !name.is_empty() && !known.contains(name)).collect()
}

/// Checks names and constants, and returns the positions of the nodes in an order in which they can run.
pub(super) fn check(model: &ModelProto) -> Result<Vec<usize>, Problem> {
    let graph = model.graph.as_ref().ok_or(Problem::NoGraph)?;
    if model.opset_import.is_empty() && model.functions.is_empty() {
        return Err(Problem::NoOpset);
    }
    for tensor in tensors(model) {
        if !tensor.is_external() && tensor.dtype()?.bits() > 0 && !is_segment(tensor) {
            tensor.inline_bytes()?;
        }
    }
    unique("an initialiser", graph.initializer.iter().map(TensorProto::label))?;
    unique("an input", graph.input.iter().filter_map(|v| v.name.as_deref()))?;
    unique("a node's output", graph.node.iter().flat_map(|n| &n.output).map(String::as_str))?;
    order(graph)
}

fn is_segment(tensor: &TensorProto) -> bool {
    tensor.segment.is_some()
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    let mut seen = HashSet::new();
    match names.filter(|n| !n.is_empty()).find(|name| !seen.insert(*name)) {
        Some(name) => Err(Problem::Duplicate { what, name: name.to_owned() }),
        None => Ok(()),
    }
}

/// The nodes' positions, each after those whose outputs it reads; the file's order where that allows.
pub fn order(graph: &GraphProto) -> Result<Vec<usize>, Problem> {
    let outputs = graph.node.iter().enumerate().flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i)));
    let makers: HashMap<&str, usize> = outputs.filter(|(name, _)| !name.is_empty()).collect();
    let given: HashSet<&str> = (graph.input.iter().filter_map(|v| v.name.as_deref()))
        .chain(graph.initializer.iter().map(TensorProto::label))
        .chain(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.label())))
        .collect();
    let mut waits: Vec<usize> = vec![0; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (i, node) in graph.node.iter().enumerate() {
        for name in node.input.iter().map(String::as_str).chain(captured(node)).filter(|n| !n.is_empty()) {
            match makers.get(name) {
                Some(maker) => {
                    waits[i] += 1;
                    readers[*maker].push(i);
                }
                None if given.contains(name) => {}
                None => return Err(Problem::Undefined { node: node_label(node).into(), value: name.into() }),
            }
        }
    }
    let outputs = graph.output.iter().filter_map(|v| v.name.as_deref());
    if let Some(value) = outputs.into_iter().find(|name| !makers.contains_key(name) && !given.contains(name)) {
        return Err(Problem::NoOutput { value: value.into() });
    }
    run(&mut waits, &readers).map_err(|stuck| Problem::Cycle { node: node_label(&graph.node[stuck]).into() })
}

/// Kahn's algorithm, the lowest position first. The error is a position that never becomes free.
fn run(waits: &mut [usize], readers: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let ready = waits.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| std::cmp::Reverse(i));
    let mut ready: std::collections::BinaryHeap<_> = ready.collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(std::cmp::Reverse(next)) = ready.pop() {
        order.push(next);
        for reader in &readers[next] {
            waits[*reader] -= 1;
            if waits[*reader] == 0 {
                ready.push(std::cmp::Reverse(*reader));
            }
        }
    }
    match waits.iter().position(|n| *n > 0) {
        Some(stuck) => Err(stuck),
        None => Ok(order),
    }
}
