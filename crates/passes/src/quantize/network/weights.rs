//! Weights, biases and constants of the nodes that run on codes, put on their grids, product by product as they run.
//!
//! *Nearest* rounds each number by itself. *Descent* gives the matrix to [`crate::quantize::descent`] with what it reads: an error
//! feedback and a coordinate descent on codes and scales under the Hessian of the layer's inputs. *AdaRound* decides up or
//! down by [gradient descent](crate::quantize::adaround) on the same error. Both round weights that were first
//! [corrected](crate::quantize::correct) for what earlier layers have damaged.
//!
//! Biases make up for what is left of the shift of every channel: `b + W·E[x] − Ŵ·E[x̂]` (Nagel et al. 2019).

use super::walk::{Evidence, Walk};
use super::{QuantizeError, finite, grid_of, grids};
use crate::quantize::adaround::{Layer, adaround};
use crate::quantize::correct::correct;
use crate::quantize::solver::{Problem, solver};
use calib::{Inputs, Samples};
use codec::{Encoding, Matrix, Part};
use graph::ops::{Constant, Conv, Linear};
use graph::{Grid, Levels, Model, Node, Op, Patch, Place, Role, Weight, WeightId};
use plan::{Method, QuantizeSpec, Rounding};
use std::collections::BTreeSet;

/// A node that multiplies a value on a grid by a weight.
struct Product {
    node: String,
    weight: WeightId,
    bias: Option<WeightId>,
    /// Scale of its input.
    input: f32,
    /// Codes of its weights.
    levels: Levels,
}

/// Puts the weights of these nodes of `model` on grids; its values lie on theirs already. `original`: the same network
/// without grids.
pub(super) fn settle(
    model: &mut Model,
    original: &Model,
    on_codes: &[(String, Levels)],
    samples: &dyn Samples,
    spec: &QuantizeSpec,
) -> Result<(), QuantizeError> {
    let patch = own_biases(model, on_codes, spec)?;
    model.apply(patch)?;
    let patch = constants(model, on_codes, spec)?;
    model.apply(patch)?;
    let products = products(model, on_codes)?;
    let looks = spec.correct || spec.round != Rounding::Nearest;
    let mut walk = looks.then(|| Walk::new(original, model, samples, spec)).transpose()?;
    for product in &products {
        let evidence = walk.as_mut().map(|walk| walk.evidence(&product.node)).transpose()?;
        let sharers: Vec<&Product> = products.iter().filter(|p| p.weight == product.weight).collect();
        let patch = one(model, product, &sharers, evidence.as_ref(), spec)?;
        model.apply(patch)?;
        walk.as_mut().map_or(Ok(()), |walk| walk.set_weights(&model.weights))?;
    }
    Ok(())
}

fn nodes<'a>(model: &'a Model, on_codes: &[(String, Levels)]) -> Vec<&'a Node> {
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    nodes.iter().filter(|n| levels_of(on_codes, n).is_some()).collect()
}

/// The codes of a node's weights, where it runs on codes.
fn levels_of(on_codes: &[(String, Levels)], node: &Node) -> Option<Levels> {
    on_codes.iter().find(|(name, _)| *name == node.name).map(|(_, levels)| *levels)
}

/// The weight and the bias that a node multiplies by and adds.
pub(super) fn parts(op: &Op) -> Option<(WeightId, Option<WeightId>)> {
    match op {
        Op::Conv(op) => Some((op.weight, op.bias)),
        Op::Linear(op) => Some((op.weight, op.bias)),
        _ => None,
    }
}

fn products(model: &Model, on_codes: &[(String, Levels)]) -> Result<Vec<Product>, QuantizeError> {
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let mut products = Vec::new();
    for node in nodes(model, on_codes) {
        let (Some((weight, bias)), Some(levels)) = (parts(&node.op), levels_of(on_codes, node)) else { continue };
        let grid = grid_of(model, graph, node.inputs[0])?;
        let input = grid.and_then(|grid| grid.scale.first().copied()).unwrap_or(1.0);
        products.push(Product { node: node.name.clone(), weight, bias, input, levels });
    }
    Ok(products)
}

/// Gives every product a bias of its own, where it has one or needs one: their grids differ, and so does what they make up for.
fn own_biases(model: &Model, on_codes: &[(String, Levels)], spec: &QuantizeSpec) -> Result<Patch, QuantizeError> {
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let mut patch = Patch::default();
    for node in nodes(model, on_codes) {
        let Some((weight, bias)) = parts(&node.op) else { continue };
        let numbers = match bias {
            Some(id) if graph.users(id).count() > 1 => finite(model, id)?,
            None if spec.correct && matches!(node.op, Op::Conv(_)) => {
                vec![0.0; model.weights.get(weight).shape.first().copied().unwrap_or(0)]
            }
            _ => continue,
        };
        let name = super::rewrite::unused(model, &format!("{}_bias", node.name));
        let own = Weight::from_f32(&name, Place::outer(Role::Other), vec![numbers.len()], &numbers)?;
        let bias = Some(patch.add(model, own));
        let op: Op = match node.op.clone() {
            Op::Conv(op) => Conv { bias, ..op }.into(),
            Op::Linear(op) => Linear { bias, ..op }.into(),
            op => op,
        };
        patch = patch.set_op(&node.name, op);
    }
    Ok(patch)
}

/// Puts the constants that these nodes read on grids like those of values.
fn constants(model: &Model, on_codes: &[(String, Levels)], spec: &QuantizeSpec) -> Result<Patch, QuantizeError> {
    let graph = model.graph().ok_or(QuantizeError::NoNetwork)?;
    let maker = |value: &graph::ValueId| graph.maker(*value).map(|at| &graph.nodes()[at].op);
    let read = nodes(model, on_codes).into_iter().flat_map(|n| &n.inputs).filter_map(maker);
    let constants: BTreeSet<WeightId> = read
        .filter_map(|op| match op {
            Op::Constant(Constant { weight, .. }) => Some(*weight),
            _ => None,
        })
        .collect();
    let mut patch = Patch::default();
    for id in constants {
        let numbers = finite(model, id)?;
        let ends = numbers.iter().fold([0.0f32; 2], |[low, high], x| [low.min(*x), high.max(*x)]);
        patch = on_grid(patch, model, id, numbers, grids::of_range(ends, spec.values))?;
    }
    Ok(patch)
}

/// Rounds numbers of a weight onto a grid.
fn on_grid(
    patch: Patch,
    model: &Model,
    id: WeightId,
    mut numbers: Vec<f32>,
    grid: Grid,
) -> Result<Patch, QuantizeError> {
    let old = model.weights.get(id);
    grids::round(&grid, &old.shape, &mut numbers);
    let Weight { encoding, source, .. } = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers)?;
    Ok(patch.encode(model, id, encoding, source).grid(id, grid))
}

/// Rounds the weight and the bias of a product. `sharers`: all products with its weight.
fn one(
    model: &Model,
    product: &Product,
    sharers: &[&Product],
    evidence: Option<&Evidence>,
    spec: &QuantizeSpec,
) -> Result<Patch, QuantizeError> {
    let original = finite(model, product.weight)?;
    let (mut patch, mut numbers) = (Patch::default(), original.clone());
    let grid = match model.weights.grid(product.weight) {
        Some(done) => Grid::clone(done),
        None => {
            let learned = evidence.filter(|_| spec.round != Rounding::Nearest && sharers.len() == 1);
            let mut grid = match learned {
                Some(evidence) => learn(product, &mut numbers, evidence, spec.round)?,
                None => nearest(&numbers, model.weights.get(product.weight).shape.first().copied(), product.levels),
            };
            for (id, input) in sharers.iter().filter_map(|p| Some((p.bias?, p.input))) {
                grids::make_room(&mut grid, &finite(model, id)?, input);
            }
            grids::round(&grid, &model.weights.get(product.weight).shape, &mut numbers);
            patch = on_grid(patch, model, product.weight, numbers.clone(), grid.clone())?;
            grid
        }
    };
    let Some(id) = product.bias else { return Ok(patch) };
    let mut bias = finite(model, id)?;
    if let (Some(evidence), true) = (evidence, spec.correct) {
        make_up(&mut bias, &original, &numbers, evidence);
    }
    on_grid(patch, model, id, bias, grids::of_bias(&grid, product.input))
}

/// The grid of a matrix of so many rows by the largest number of each.
pub(super) fn nearest(numbers: &[f32], rows: Option<usize>, levels: Levels) -> Grid {
    let size = |row: &[f32]| row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let width = (numbers.len() / rows.unwrap_or(1).max(1)).max(1);
    let sizes: Vec<f32> = numbers.chunks(width).map(size).collect();
    grids::symmetric(&sizes, levels, 0)
}

/// Adds to the biases what the outputs of the original have more in the mean.
fn make_up(bias: &mut [f32], original: &[f32], rounded: &[f32], evidence: &Evidence) {
    let width = (original.len() / bias.len().max(1)).max(1);
    let each = (bias.len() / evidence.groups.len().max(1)).max(1);
    let rows = original.chunks_exact(width).zip(rounded.chunks_exact(width));
    for (row, (bias, (before, after))) in bias.iter_mut().zip(rows).enumerate() {
        let Some(columns) = evidence.groups.get(row / each) else { continue };
        let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
        *bias += (dot(before, &columns.original) - dot(after, &columns.rounded)) as f32;
    }
}

/// Chooses codes and scales of a product's weight by what it reads.
fn learn(product: &Product, numbers: &mut [f32], evidence: &Evidence, by: Rounding) -> Result<Grid, QuantizeError> {
    let levels = product.levels;
    let rows = (numbers.len() / evidence.groups.len().max(1)).max(1);
    let mut scale = Vec::new();
    for (part, columns) in numbers.chunks_mut(rows).zip(&evidence.groups) {
        // With fewer rows than this the drift is mostly chance.
        if columns.inputs.tokens() >= 2 * columns.inputs.width() as u64 {
            correct(part, &columns.inputs);
        }
        scale.extend(match by {
            Rounding::Adaround => up_or_down(part, &columns.inputs, levels),
            _ => descend(&product.node, part, &columns.inputs, levels)?,
        });
    }
    Ok(Grid { zero: vec![0; scale.len()], scale, axis: Some(0), levels })
}

/// AdaRound for one group of outputs; returns the scale of each.
fn up_or_down(numbers: &mut [f32], inputs: &Inputs, levels: Levels) -> Vec<f32> {
    let importance = inputs.importance();
    let scale: Vec<f32> = numbers.chunks(inputs.width().max(1)).map(|row| best(row, &importance, levels)).collect();
    if let Some(hessian) = inputs.hessian() {
        let most = grids::most(levels);
        let made = adaround(&Layer { weight: numbers, scale: &scale, codes: [-most, most], hessian });
        numbers.copy_from_slice(&made);
    }
    scale
}

/// Shares of the largest number that scales are tried at.
const TRIED: usize = 24;

/// The scale of a row with the least error of nearest rounding, by what its columns matter.
fn best(row: &[f32], importance: &[f32], levels: Levels) -> f32 {
    let most = grids::most(levels);
    let largest = nearest(row, Some(1), levels).scale.first().copied().unwrap_or(1.0);
    let error = |scale: f32| -> f64 {
        let one = |(w, i): (&f32, &f32)| {
            let apart = scale * (w / scale).round_ties_even().clamp(-most, most) - w;
            f64::from(apart * apart * i)
        };
        row.iter().zip(importance).map(one).sum()
    };
    let tried = (0..TRIED).map(|n| largest * (1.0 - 0.5 * n as f32 / TRIED as f32)).filter(|s| s.is_normal());
    tried.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(largest)
}

/// Descent for one group of outputs; returns the scale of each.
fn descend(node: &str, numbers: &mut [f32], inputs: &Inputs, levels: Levels) -> Result<Vec<f32>, QuantizeError> {
    let width = inputs.width().max(1);
    let rows = numbers.len() / width;
    let name = if levels == Levels::I4 { "int4-channel-f32" } else { "int8-channel-f32" };
    let encoding = plan::encoding(name).map_err(|e| QuantizeError::Encoding(e.to_string()))?;
    let matrix = Matrix { rows, cols: width, data: numbers };
    let problem = Problem { name: node, matrix, encoding, inputs: Some(inputs), whole: None };
    let Some(solver) = solver(Method::Descent) else { return Ok(vec![1.0; rows]) };
    let solved = solver.solve(&problem)?.parts;
    let decoded = decode(encoding, rows, width, &solved)?;
    numbers.copy_from_slice(&decoded);
    let scales = solved.iter().find(|part| part.spec.suffix == "weight_scale");
    Ok(scales.map_or(&[][..], |part| &part.bytes).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn decode(encoding: Encoding, rows: usize, cols: usize, parts: &[Part]) -> Result<Vec<f32>, QuantizeError> {
    let find = |suffix: &str| parts.iter().find(|part| part.spec.suffix == suffix).map(|part| &part.bytes[..]);
    encoding.decode(rows, cols, find).map_err(|e| QuantizeError::Encoding(e.to_string()))
}
