//! Weights, biases and constants of the nodes that run on codes, put on their grids.

use super::{QuantizeError, finite, grid_of, grids};
use graph::ops::{Constant, Conv, Linear};
use graph::{Graph, Grid, Model, Node, Op, Patch, Weight, WeightId};
use plan::QuantizeSpec;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// A node that multiplies a value on a grid by a weight.
struct Product<'a> {
    node: &'a Node,
    weight: WeightId,
    bias: Option<WeightId>,
    /// Scale of its input.
    input: f32,
}

/// Puts the weights of these nodes on grids. Their inputs lie on theirs already.
pub(super) fn weights(model: &Model, on_codes: &[String], spec: &QuantizeSpec) -> Result<Patch, QuantizeError> {
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let nodes: Vec<&Node> = graph.nodes().iter().filter(|n| on_codes.contains(&n.name)).collect();
    let products = products(model, graph, &nodes)?;
    let mut patch = Patch::default();
    for (id, grid) in weight_grids(model, &products, spec)? {
        patch = on_grid(patch, model, id, grid.clone())?;
        for product in products.iter().filter(|p| p.weight == id) {
            patch = bias(patch, model, graph, product, &grid)?;
        }
    }
    constants(patch, model, graph, &nodes, spec)
}

fn products<'a>(model: &Model, graph: &'a Graph, nodes: &[&'a Node]) -> Result<Vec<Product<'a>>, QuantizeError> {
    let mut products = Vec::new();
    for node in nodes {
        let (weight, bias) = match &node.op {
            Op::Conv(op) => (op.weight, op.bias),
            Op::Linear(op) => (op.weight, op.bias),
            _ => continue,
        };
        let grid = grid_of(model, graph, node.inputs[0])?;
        let input = grid.and_then(|grid| grid.scale.first().copied()).unwrap_or(1.0);
        products.push(Product { node, weight, bias, input });
    }
    Ok(products)
}

/// A grid for each weight, wide enough for the biases of all nodes that multiply by it.
fn weight_grids(
    model: &Model,
    products: &[Product<'_>],
    spec: &QuantizeSpec,
) -> Result<BTreeMap<WeightId, Grid>, QuantizeError> {
    let mut found: BTreeMap<WeightId, Grid> = BTreeMap::new();
    for product in products {
        let grid = match found.entry(product.weight) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(channelwise(model, product.weight, spec)?),
        };
        if let Some(bias) = product.bias {
            grids::make_room(grid, &finite(model, bias)?, product.input);
        }
    }
    Ok(found)
}

/// The grid of a weight by the largest number of each output channel.
fn channelwise(model: &Model, id: WeightId, spec: &QuantizeSpec) -> Result<Grid, QuantizeError> {
    let numbers = finite(model, id)?;
    let rows = model.weights.get(id).shape.first().copied().unwrap_or(1).max(1);
    let size = |row: &[f32]| row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let sizes: Vec<f32> = numbers.chunks((numbers.len() / rows).max(1)).map(size).collect();
    Ok(grids::symmetric(&sizes, spec.weights, 0))
}

/// Rounds a weight onto a grid.
fn on_grid(patch: Patch, model: &Model, id: WeightId, grid: Grid) -> Result<Patch, QuantizeError> {
    let (old, mut numbers) = (model.weights.get(id), finite(model, id)?);
    grids::round(&grid, &old.shape, &mut numbers);
    let Weight { encoding, source, .. } = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers)?;
    Ok(patch.encode(model, id, encoding, source).grid(id, grid))
}

/// Rounds a product's bias; one that others read too is copied.
fn bias(
    mut patch: Patch,
    model: &Model,
    graph: &Graph,
    product: &Product<'_>,
    weights: &Grid,
) -> Result<Patch, QuantizeError> {
    let Some(id) = product.bias else { return Ok(patch) };
    let grid = grids::of_bias(weights, product.input);
    if graph.users(id).count() == 1 {
        return on_grid(patch, model, id, grid);
    }
    let (old, mut numbers) = (model.weights.get(id), finite(model, id)?);
    grids::round(&grid, &old.shape, &mut numbers);
    let name = super::rewrite::unused(model, &format!("{}_bias", product.node.name));
    let copy = Weight::from_f32(&name, old.place, old.shape.clone(), &numbers)?;
    let copied = patch.add(model, copy);
    let bias = Some(copied);
    let op: Op = match product.node.op.clone() {
        Op::Conv(op) => Conv { bias, ..op }.into(),
        Op::Linear(op) => Linear { bias, ..op }.into(),
        op => op,
    };
    Ok(patch.set_op(&product.node.name, op).grid(copied, grid))
}

/// Puts the constants that these nodes read on grids like those of values.
fn constants(
    mut patch: Patch,
    model: &Model,
    graph: &Graph,
    nodes: &[&Node],
    spec: &QuantizeSpec,
) -> Result<Patch, QuantizeError> {
    let maker = |value: &graph::ValueId| graph.maker(*value).map(|at| &graph.nodes()[at].op);
    let read = nodes.iter().flat_map(|n| &n.inputs).filter_map(maker);
    let constants: BTreeSet<WeightId> = read
        .filter_map(|op| match op {
            Op::Constant(Constant { weight, .. }) => Some(*weight),
            _ => None,
        })
        .collect();
    for id in constants {
        let ends = finite(model, id)?.into_iter().fold([0.0f32; 2], |[low, high], x| [low.min(x), high.max(x)]);
        patch = on_grid(patch, model, id, grids::of_range(ends, spec.values))?;
    }
    Ok(patch)
}
