//! # Rotation: outliers spread over all channels
//!
//! **What it does.** Multiplies the channels of the residual stream by a random Hadamard rotation, and the channels of
//! each value head by a smaller one. Whatever writes channels is multiplied by the rotation, whatever reads them by its
//! inverse, all in the weights: the model computes the same, at no cost when it runs. Numbers of weights and inputs come
//! nearer to a normal distribution, without outliers.
//!
//! **When to use.** Below four bits, and where inputs are quantized as well, on models with outlier channels. Little
//! models without outliers gain nothing.
//!
//! **What it costs.** `n log n` per row when a weight is read. Nothing else.
//!
//! **What it needs.** Nothing. Weights of norms go into the matrices behind them first. Where they cannot — the head is
//! the embedding; norms whose result is added to the stream, as Gemma's — the stream is not rotated, and the reason is
//! reported; heads still are.
//!
//! **Numbers.** `bench/README.md`.
//!
//! **Paper.** Ashkboos, Mohtashami, Croci, Li, Cameron, Jaggi, Alistarh, Hoefler, Hensman: QuaRot, NeurIPS 2024
//! (arXiv 2404.00456), without the rotations that must run with the model.
//!
//! **Differences.** Rotation points are found from axis relations. All value heads share one rotation.

use super::hadamard::Rotation;
use super::scaled::{self, bytes};
use crate::partners::{Fold, Stream, folds, streams};
use codec::{Dtype, Encoding};
use graph::{GraphError, Model, Patch, Source, SourceError, Weight, WeightId};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a model could not be rotated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RotateError {
    #[error(transparent)]
    Weight(#[from] SourceError),
    #[error("after rotating: {0}")]
    Unsound(#[from] GraphError),
    #[error("nothing can be rotated: {}", why.join("; "))]
    Nothing { why: Vec<String> },
}

/// Rotates a model, and says what was left as it is.
///
/// # Errors
/// Nothing could be rotated, or a weight cannot be read.
pub fn rotate(model: &Model, seed: u64) -> Result<(Model, Vec<String>), RotateError> {
    let (mut rotated, mut notes) = (model.clone(), Vec::new());
    let graph = model.graph().cloned().unwrap_or_default();
    let mut done = 0;
    for stream in streams(model, &graph) {
        let rotation = stream.map_err(|e| e.to_string()).and_then(|s| known(s.width, seed).map(|r| (s, r)));
        match rotation {
            Ok((stream, rotation)) => {
                done += 1;
                turn_stream(&mut rotated, &stream, &rotation)?;
            }
            Err(why) => notes.push(format!("the residual stream is not rotated: {why}")),
        }
    }
    let heads = folds(model, &graph, &(0..graph.nodes().len()));
    for fold in heads.into_iter().filter_map(|(_, fold)| fold.ok()).filter(|fold| fold.mixes > 1) {
        match known(fold.mixes, seed) {
            Ok(rotation) => {
                done += 1;
                turn_heads(&mut rotated, &fold, &rotation)?;
            }
            Err(why) => notes.push(format!("heads are not rotated: {why}")),
        }
    }
    notes.dedup();
    if done == 0 { Err(RotateError::Nothing { why: notes }) } else { Ok((rotated, notes)) }
}

fn known(n: usize, seed: u64) -> Result<Arc<Rotation>, String> {
    Rotation::new(n, seed).map(Arc::new).ok_or_else(|| format!("no Hadamard matrix of order {n} is known here"))
}

fn turn_stream(model: &mut Model, stream: &Stream, rotation: &Arc<Rotation>) -> Result<(), RotateError> {
    for fold in &stream.norms {
        let patch = absorb(model, fold)?;
        model.apply(patch)?;
    }
    for (weight, axis) in &stream.weights {
        let patch = Rotated::patch(model, *weight, *axis, rotation, 0..stream.width);
        model.apply(patch)?;
    }
    Ok(())
}

/// Puts the weight of a norm into the matrices behind it; it becomes one itself.
fn absorb(model: &Model, fold: &Fold) -> Result<Patch, RotateError> {
    let mut patch = Patch::default();
    for (norm, _) in &fold.writers {
        let weight = model.weights.get(*norm);
        let factors: Arc<[f32]> = weight.read()?.iter().map(|w| w + fold.offset).collect();
        let columns = fold.readers.iter().map(|w| scaled::patch(model, *w, 1, factors.clone(), 0.0));
        patch = columns.fold(patch, Patch::and);
        let one = Weight::from_f32(
            &weight.name,
            weight.place,
            weight.shape.clone(),
            &vec![1.0 - fold.offset; factors.len()],
        )?;
        patch = patch.encode(model, *norm, one.encoding, one.source);
    }
    Ok(patch)
}

/// Turns runs of channels between what makes them and what reads them.
fn turn_heads(model: &mut Model, fold: &Fold, rotation: &Arc<Rotation>) -> Result<(), RotateError> {
    let (Some(first), Some(last)) = (fold.index.iter().min(), fold.index.iter().max()) else { return Ok(()) };
    let columns = fold.readers.iter().map(|w| (*w, 1, 0..fold.index.len()));
    let rows = fold.writers.iter().map(|(w, axis)| (*w, *axis, *first..last + 1));
    for (weight, axis, channels) in columns.chain(rows) {
        let patch = Rotated::patch(model, weight, axis, rotation, channels);
        model.apply(patch)?;
    }
    Ok(())
}

/// A weight with channels along an axis turned when it is read. Its bytes are f32.
struct Rotated {
    inner: Arc<Weight>,
    rotation: Arc<Rotation>,
    along: Along,
    /// Which indices of the axis are turned, in runs as long as the rotation.
    channels: Range<usize>,
    /// All of a weight whose rows are mixed, from the first reading of some of them to the release of the last.
    whole: Mutex<Option<Arc<[f32]>>>,
}

#[derive(Clone, Copy)]
enum Along {
    Rows,
    Columns,
}

impl Rotated {
    fn patch(model: &Model, id: WeightId, axis: usize, rotation: &Arc<Rotation>, channels: Range<usize>) -> Patch {
        let inner = model.weights.get(id).clone();
        let along = if axis + 1 == inner.shape.len() { Along::Columns } else { Along::Rows };
        let source = Rotated { inner, rotation: rotation.clone(), along, channels, whole: Mutex::new(None) };
        Patch::default().encode(model, id, Encoding::Plain(Dtype::F32), Arc::new(source))
    }

    fn read(&self) -> Result<Vec<f32>, SourceError> {
        let mut data = self.inner.read()?;
        self.turn(&mut data);
        Ok(data)
    }

    /// Turns all rows, or some whose columns are turned.
    fn turn(&self, data: &mut [f32]) {
        let (cols, Range { start, end }) = (self.inner.cols().max(1), self.channels.clone());
        match self.along {
            Along::Columns => data.chunks_exact_mut(cols).for_each(|row| self.rotation.apply(&mut row[start..end], 1)),
            Along::Rows => self.rotation.apply(&mut data[start * cols..end * cols], cols),
        }
    }

    /// The whole weight, kept until its last rows are released.
    fn kept(&self) -> Result<Arc<[f32]>, SourceError> {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = &*whole {
            return Ok(data.clone());
        }
        let data: Arc<[f32]> = self.read()?.into();
        *whole = Some(data.clone());
        Ok(data)
    }
}

impl Source for Rotated {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let cols = self.inner.cols();
        match self.along {
            Along::Columns => {
                let mut data = self.inner.read_rows(rows)?;
                self.turn(&mut data);
                Ok(Cow::Owned(bytes(&data)))
            }
            Along::Rows => {
                let Range { start, end } = rows;
                let outside =
                    || SourceError::Rows { name: self.inner.name.clone(), start, end, rows: self.inner.rows() };
                let data = self.kept()?;
                data.get(start * cols..end * cols).map(|rows| Cow::Owned(bytes(rows))).ok_or_else(outside)
            }
        }
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![Cow::Owned(bytes(&self.read()?))])
    }

    fn release(&self, rows: Range<usize>) {
        if rows.end == self.inner.rows() {
            *self.whole.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.inner.source.release(rows);
    }
}
