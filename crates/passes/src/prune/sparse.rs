//! # Unstructured sparsity: single numbers become zero
//!
//! **What it does.** Sets a share of every matrix, or so many of every so many numbers in a row (2:4), to zero, and leaves them where
//! they are.
//!
//! | by | which go | what is left |
//! |---|---|---|
//! | `magnitude` | the smallest `|w|` of a matrix | stays |
//! | `wanda` | the smallest `|w| · ‖x_j‖` of each row | stays |
//! | `sparse-gpt` | the smallest `w² / u_jj²` of each row in every 128 columns | makes the loss good, as far as the Hessian allows |
//!
//! Movement, and magnitude while a network learns, choose in training: `train/src/masking.rs`.
//!
//! **When to use.** For runtimes with sparse kernels, before a lossless coder, and for ONNX files, which store what is mostly zero
//! sparse. Other files do not become smaller by it, and the report says so.
//!
//! **What it costs.** `magnitude`: one reading. The others: the model runs twice over the text, block by block, each block on what the
//! sparse ones before it make; `sparse-gpt` works as GPTQ does.
//!
//! **What it needs.** Calibration text, but for `magnitude`.
//!
//! **Paper.** Sun et al., *A Simple and Effective Pruning Approach for Large Language Models*, ICLR 2024; Frantar and Alistarh, *SparseGPT*, ICML 2023.
//!
//! **Differences from the paper.** SparseGPT's choice is made by row in every block of columns, not over a block of all rows.

use super::PruneError;
use crate::quantize::factor::Factor;
use calib::{Depth, Inputs, Lane};
use codec::{Encoding, Matrix};
use exec::{Compute, Tap};
use graph::{Buffer, Graph, Model, Node, Op, Patch, WeightId};
use plan::{SparseBy, SparseSpec, Zeros};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What came of it.
pub struct Sparse {
    /// The sparse model.
    pub model: Model,
    /// Matrices that lost numbers.
    pub matrices: Vec<WeightId>,
}

/// The share of zeros in matrices.
pub fn share(model: &Model, matrices: &[WeightId]) -> Result<f64, PruneError> {
    let (mut zeros, mut all) = (0, 0);
    for id in matrices {
        let numbers = model.weights.get(*id).read()?;
        zeros += numbers.iter().filter(|x| **x == 0.0).count();
        all += numbers.len();
    }
    Ok(zeros as f64 / all.max(1) as f64)
}

/// The matrices that a specification means.
pub fn meant(model: &Model, spec: &SparseSpec) -> Result<Vec<WeightId>, PruneError> {
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    let all: BTreeSet<WeightId> = nodes.iter().flat_map(matrices).filter(|id| asked(model, *id, spec)).collect();
    if all.is_empty() { Err(PruneError::NoMatrices) } else { Ok(all.into_iter().collect()) }
}

/// Columns among which SparseGPT chooses at once, and whose errors wait together.
const BLOCK: usize = 128;
/// Share of the mean of the Hessian's diagonal that is added to it.
const DAMPING: f32 = 0.01;

/// Makes numbers of a model's matrices zero. `windows` are calibration text, for criteria that need it.
pub fn sparsify(
    model: &Model,
    spec: &SparseSpec,
    windows: &[Vec<u32>],
    advance: &dyn Fn(u64),
) -> Result<Sparse, PruneError> {
    let Some(graph) = model.graph() else { return Err(PruneError::NoMatrices) };
    let mut sparse = Sparse { model: model.clone(), matrices: Vec::new() };
    if !spec.by.calibrates() {
        for id in meant(model, spec)? {
            sparse.take(id, spec, None)?;
            advance(1);
        }
        return sparse.done();
    }
    let Some(config) = model.decoder().filter(|_| !windows.is_empty()) else { return Err(PruneError::NoText) };
    let mut lane = Lane::new(graph, &model.weights, config.vocab, windows, None, Compute::F32)?;
    for segment in lane.executor().segments().to_vec() {
        let ids = graph.nodes()[segment.clone()].iter().flat_map(matrices).filter(|id| asked(model, *id, spec));
        let depth = if spec.by == SparseBy::Wanda { Depth::Columns } else { Depth::Hessian };
        let new = |id: WeightId| (id, Inputs::new(model.weights.get(id).cols(), depth));
        let mut seen: BTreeMap<WeightId, Inputs> = ids.map(new).collect();
        for batch in 0..lane.batches() {
            let values = lane.values(batch)?;
            lane.look(segment.clone(), values, &mut |tap| see(graph, &tap, &mut seen))?;
        }
        lane.end_block();
        for (id, inputs) in &seen {
            sparse.take(*id, spec, Some(inputs))?;
            advance(1);
        }
        lane.set_weights(&sparse.model.weights)?;
        if segment.end < graph.nodes().len() {
            lane.advance(segment)?;
        }
    }
    sparse.done()
}

/// Matrices and kernels that a node multiplies by.
fn matrices(node: &Node) -> Vec<WeightId> {
    match &node.op {
        Op::Conv(op) => vec![op.weight],
        Op::ConvTranspose(op) => vec![op.weight],
        op => op.spec().factors(),
    }
}

/// Inside blocks where there are any, of plain numbers, and of those that were named.
fn asked(model: &Model, id: WeightId, spec: &SparseSpec) -> bool {
    let weight = model.weights.get(id);
    let inside = model.decoder().is_none() || weight.place.layer.is_some();
    let plain = matches!(weight.encoding, Encoding::Plain(_)) && model.weights.grid(id).is_none();
    inside && plain && (spec.only.is_empty() || spec.only.iter().any(|pattern| pattern.matches(weight)))
}

fn see(graph: &Graph, tap: &Tap<'_>, seen: &mut BTreeMap<WeightId, Inputs>) {
    match tap {
        Tap::Expert { weight, rows, .. } => {
            seen.entry(*weight).and_modify(|inputs| inputs.see(rows));
        }
        Tap::Inputs { node, inputs } => {
            let node = &graph.nodes()[node.0];
            let Some(rows) = inputs.first().and_then(|data| data.float()) else { return };
            if !matches!(node.op, Op::MoeExperts(_)) {
                matrices(node).iter().for_each(|id| {
                    seen.entry(*id).and_modify(|inputs| inputs.see(rows.data()));
                });
            }
        }
    }
}

impl Sparse {
    /// Makes one matrix sparse.
    fn take(&mut self, id: WeightId, spec: &SparseSpec, inputs: Option<&Inputs>) -> Result<(), PruneError> {
        let weight = self.model.weights.get(id).clone();
        let mut numbers = weight.read()?;
        let not_finite = || PruneError::NotFinite { weight: weight.name.clone() };
        if numbers.iter().any(|x| !x.is_finite()) || inputs.is_some_and(|i| i.not_finite().is_some()) {
            return Err(not_finite());
        }
        // Of a kernel a row is all that one output reads.
        let cols = weight.elements() / weight.shape.first().copied().unwrap_or(1).max(1);
        match (spec.by, inputs) {
            (SparseBy::SparseGpt, Some(inputs)) => {
                feed_back(&mut numbers, inputs, spec.zeros).ok_or_else(not_finite)?
            }
            (SparseBy::Wanda, Some(inputs)) => wanda(&mut numbers, &inputs.importance(), spec.zeros),
            _ => magnitude(&mut numbers, cols, spec.zeros),
        }
        self.matrices.push(id);
        let (rows, cols) = (weight.rows(), weight.cols());
        let parts = weight.encoding.encode(Matrix { rows, cols, data: &numbers }, None);
        let parts = parts.map_err(|source| graph::SourceError::Codec { name: weight.name.clone(), source })?;
        let source = Arc::new(Buffer::new(&weight.name[..], rows, parts));
        let patch = Patch::default().encode(&self.model, id, weight.encoding, source);
        Ok(self.model.apply(patch)?)
    }

    fn done(self) -> Result<Sparse, PruneError> {
        if self.matrices.is_empty() { Err(PruneError::NoMatrices) } else { Ok(self) }
    }
}

/// Zeroes the smallest numbers of a matrix, or of every run of a row.
pub fn magnitude(matrix: &mut [f32], cols: usize, zeros: Zeros) {
    let all = matrix.len();
    let run = if matches!(zeros, Zeros::Share(_)) { all } else { cols };
    matrix.chunks_mut(run.max(1)).for_each(|row| drop_least(row, zeros, |_, w| w.abs()));
}

/// Zeroes the numbers of each row that, times the root mean square of their column's inputs, are smallest.
pub fn wanda(matrix: &mut [f32], mean_squares: &[f32], zeros: Zeros) {
    let cols = mean_squares.len().max(1);
    let size: Vec<f32> = mean_squares.iter().map(|m| m.sqrt()).collect();
    matrix.par_chunks_mut(cols).for_each(|row| drop_least(row, zeros, |j, w| w.abs() * size[j]));
}

/// Zeroes what scores least: so many of all, or of every run.
fn drop_least(row: &mut [f32], zeros: Zeros, score: impl Fn(usize, f32) -> f32) {
    for (gone, at) in least(row, zeros, score).into_iter().zip(row) {
        *at = if gone { 0.0 } else { *at };
    }
}

/// Which numbers score least; of equals the first. What is zero goes first, so that a mask applied again changes nothing.
fn least(row: &[f32], zeros: Zeros, score: impl Fn(usize, f32) -> f32) -> Vec<bool> {
    let mut gone = vec![false; row.len()];
    let (run, of_run): (usize, Box<dyn Fn(usize) -> usize>) = match zeros {
        Zeros::Share(share) => (row.len(), Box::new(move |n| (n as f64 * share).round() as usize)),
        Zeros::Of { zeros, of } => (of, Box::new(move |n| zeros * n / of)),
    };
    for first in (0..row.len()).step_by(run.max(1)) {
        let mut order: Vec<usize> = (first..row.len().min(first + run)).collect();
        let keys: Vec<f32> = order.iter().map(|j| if row[*j] == 0.0 { -1.0 } else { score(*j, row[*j]) }).collect();
        let count = of_run(order.len());
        order.sort_by(|a, b| keys[a - first].total_cmp(&keys[b - first]));
        order.into_iter().take(count).for_each(|j| gone[j] = true);
    }
    gone
}

/// SparseGPT: columns from left to right; what each loses, those behind it make good. `None` where the Hessian cannot be factored.
pub fn feed_back(matrix: &mut [f32], inputs: &Inputs, zeros: Zeros) -> Option<()> {
    let n = inputs.width();
    let factor = Factor::new(inputs, (0..n).collect(), DAMPING)?;
    matrix.par_chunks_mut(n.max(1)).for_each(|row| walk(row, &factor, zeros));
    Some(())
}

fn walk(row: &mut [f32], factor: &Factor, zeros: Zeros) {
    let n = row.len();
    // Patterns must not be cut by a block.
    let block = if let Zeros::Of { of, .. } = zeros { BLOCK.div_ceil(of) * of } else { BLOCK };
    for start in (0..n).step_by(block) {
        let end = n.min(start + block);
        let diagonal = |j: usize| factor.row(start + j)[0];
        let gone = least(&row[start..end], zeros, |j, w| (w / diagonal(j)).powi(2));
        for (j, _) in gone.iter().enumerate().filter(|(_, gone)| **gone) {
            let along = factor.row(start + j);
            let error = row[start + j] / along[0];
            row[start + j] = 0.0;
            row[start + j + 1..].iter_mut().zip(&along[1..]).for_each(|(w, u)| *w -= error * u);
        }
        // Zeros of the mask stay zero, whatever was passed on to them.
        gone.iter().zip(&mut row[start..end]).filter(|(gone, _)| **gone).for_each(|(_, w)| *w = 0.0);
    }
}
