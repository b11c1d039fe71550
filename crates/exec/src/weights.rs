//! Decoded weights, as far as the memory budget lets them stay.
//!
//! Every weight is read from its lazy source when a node first needs it. It stays while all that stays fits the budget;
//! what does not fit is dropped when its block is done, and read again next time. Matrices of products are kept in f32
//! (exact for every encoding) or packed as bf16 (exact for bf16 sources, rounded for others). Embedding tables are read
//! row by row unless a product or training needs them whole.

use crate::Error;
use crate::forward::Update;
use crate::served::served;
use codec::{Dtype, Encoding};
use graph::{Graph, Op, SourceError, Weight, WeightId, WeightStore};
use half::bf16;
use kernels::{PackedBf16, Real};
use rayon::prelude::*;
use std::sync::Arc;

/// The type of the operands of matrix products; sums and everything else are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// f32 by f32.
    #[default]
    F32,
    /// bf16 by bf16, on the bf16 units where the machine has them.
    Bf16,
}

/// Which decoded weights stay in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residency {
    /// All of them.
    #[default]
    All,
    /// Those of the block at work.
    Block,
    /// The first ones that fit into so many bytes, beside those of the block at work.
    Bytes(usize),
}

impl Residency {
    fn budget(self) -> usize {
        match self {
            Residency::All => usize::MAX,
            Residency::Block => 0,
            Residency::Bytes(bytes) => bytes,
        }
    }
}

/// A scalar that graphs run in: `f32` for work, `f64` for checking gradients.
pub trait Scalar: Real {
    /// From the `f32` that weights decode to.
    fn from_f32(x: f32) -> Self;
    /// [`kernels::linear_bf16`] in this type.
    fn linear_bf16(x: &[Self], weight: &PackedBf16, bias: Option<&[Self]>, y: &mut [Self]);
}

impl Scalar for f32 {
    fn from_f32(x: f32) -> f32 {
        x
    }

    fn linear_bf16(x: &[f32], weight: &PackedBf16, bias: Option<&[f32]>, y: &mut [f32]) {
        kernels::linear_bf16(x, weight, bias, y);
    }
}

impl Scalar for f64 {
    fn from_f32(x: f32) -> f64 {
        f64::from(x)
    }

    fn linear_bf16(x: &[f64], weight: &PackedBf16, bias: Option<&[f64]>, y: &mut [f64]) {
        let narrow = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<_>>();
        let mut out = narrow(y);
        kernels::linear_bf16(&narrow(x), weight, bias.map(narrow).as_deref(), &mut out);
        y.iter_mut().zip(out).for_each(|(y, x)| *y = f64::from(x));
    }
}

/// A decoded weight.
#[derive(Clone, Debug)]
pub(crate) enum Held<R> {
    /// Row-major numbers.
    Full(Vec<R>),
    /// The matrix of a product, in bf16.
    Half(PackedBf16),
}

impl<R> Held<R> {
    fn bytes(&self) -> usize {
        match self {
            Held::Full(data) => size_of_val(&data[..]),
            Held::Half(packed) => packed.bytes(),
        }
    }
}

struct Slot<R> {
    held: Option<Held<R>>,
    /// Whether it is dropped when its block is done.
    passing: bool,
}

/// The weights of an executor.
pub struct Weights<R> {
    store: WeightStore,
    slots: Vec<Slot<R>>,
    /// Whether the weight is only ever a factor of a product.
    products: Vec<bool>,
    compute: Compute,
    budget: usize,
    resident: usize,
}

impl<R: Scalar> Weights<R> {
    pub(crate) fn new(graph: &Graph, store: &WeightStore, compute: Compute, residency: Residency) -> Weights<R> {
        let slots = (0..store.len()).map(|_| Slot { held: None, passing: false }).collect();
        let products = products(graph, store);
        Weights { store: store.clone(), slots, products, compute, budget: residency.budget(), resident: 0 }
    }

    /// The encoded weights behind.
    pub fn store(&self) -> &WeightStore {
        &self.store
    }

    /// Bytes of the decoded weights that are held now.
    pub fn held_bytes(&self) -> usize {
        self.slots.iter().filter_map(|s| s.held.as_ref()).map(Held::bytes).sum()
    }

    /// Takes another store of the same weights; what changed is read again.
    pub(crate) fn replace(&mut self, store: &WeightStore) -> Result<(), Error> {
        for (id, weight) in store.iter().take(self.slots.len()) {
            let old = self.store.get(id);
            if old.shape != weight.shape {
                let (old, new) = (old.shape.clone(), weight.shape.clone());
                return Err(Error::Reshaped { weight: weight.name.clone(), old, new });
            }
            if !Arc::ptr_eq(weight, old) {
                self.drop_slot(id.0);
            }
        }
        self.slots.resize_with(store.len(), || Slot { held: None, passing: false });
        self.products.resize(store.len(), false);
        self.store = store.clone();
        Ok(())
    }

    /// Makes the weights that a node reads available.
    pub(crate) fn load(&mut self, node: &str, op: &Op) -> Result<(), Error> {
        if let Op::Embedding(op) = op {
            return self.load_packed_table(node, op.weight);
        }
        op.spec().weights().into_iter().try_for_each(|id| self.load_one(node, id))
    }

    /// Row by row is for encodings with one part; others are decoded whole.
    fn load_packed_table(&mut self, node: &str, id: WeightId) -> Result<(), Error> {
        match self.store.get(id).encoding {
            Encoding::Packed(_) => self.load_full(node, id),
            _ => Ok(()),
        }
    }

    fn load_one(&mut self, node: &str, id: WeightId) -> Result<(), Error> {
        if self.slots[id.0].held.is_some() {
            return Ok(());
        }
        match self.compute == Compute::Bf16 && self.products[id.0] {
            false => self.load_full(node, id),
            true => {
                let held = Held::Half(read_half(node, self.store.get(id))?);
                self.keep(id, held);
                Ok(())
            }
        }
    }

    fn load_full(&mut self, node: &str, id: WeightId) -> Result<(), Error> {
        if !matches!(self.slots[id.0].held, Some(Held::Full(_))) {
            self.drop_slot(id.0);
            let held = Held::Full(read_full(node, self.store.get(id))?);
            self.keep(id, held);
        }
        Ok(())
    }

    fn keep(&mut self, id: WeightId, held: Held<R>) {
        let bytes = held.bytes();
        let passing = self.resident.saturating_add(bytes) > self.budget;
        if !passing {
            self.resident += bytes;
        }
        self.slots[id.0] = Slot { held: Some(held), passing };
    }

    fn drop_slot(&mut self, slot: usize) {
        let Slot { held, passing } = &mut self.slots[slot];
        if let (Some(held), false) = (held.take(), *passing) {
            self.resident -= held.bytes();
        }
    }

    /// Drops what the budget does not let stay.
    pub(crate) fn end_block(&mut self) {
        for slot in self.slots.iter_mut().filter(|s| s.passing) {
            slot.held = None;
        }
    }

    /// Whether nothing has been dropped, so that no weight is read twice.
    pub(crate) fn all_fit(&self) -> bool {
        self.budget == usize::MAX
    }

    /// A weight in numbers. It has been loaded for the node that asks.
    pub(crate) fn full(&self, id: WeightId) -> Result<&[R], Error> {
        match &self.slots[id.0].held {
            Some(Held::Full(data)) => Ok(data),
            _ => Err(Error::Half { weight: self.store.get(id).name.clone() }),
        }
    }

    /// A weight as it is held, if it is.
    pub(crate) fn held(&self, id: WeightId) -> Option<&Held<R>> {
        self.slots[id.0].held.as_ref()
    }

    /// `y = x · Wᵀ + b`, in the type that the weight is held in; `x` as a server will have it.
    pub(crate) fn linear(&self, x: &[R], weight: WeightId, bias: Option<WeightId>, y: &mut [R]) -> Result<(), Error> {
        let bias = bias.map(|b| self.full(b)).transpose()?;
        let of = self.store.get(weight);
        let served = match self.store.run.inputs.get(&weight) {
            Some(quant) => served(*quant, x, of.cols()).map(Some),
            None => Ok(None),
        };
        let served =
            served.map_err(|source| unreadable(&of.name, SourceError::Codec { name: of.name.clone(), source }))?;
        let x = served.as_deref().unwrap_or(x);
        match self.held(weight) {
            Some(Held::Half(packed)) => R::linear_bf16(x, packed, bias, y),
            _ => kernels::linear(x, self.full(weight)?, bias, y, of.cols(), of.rows()),
        }
        Ok(())
    }

    /// A weight in numbers, to change: an optimizer's view. It is read if it was not, and stays.
    pub fn full_mut(&mut self, id: WeightId) -> Result<&mut [R], Error> {
        self.load_full(&self.store.get(id).name.clone(), id)?;
        if std::mem::take(&mut self.slots[id.0].passing) {
            self.resident += self.slots[id.0].held.as_ref().map_or(0, Held::bytes);
        }
        match &mut self.slots[id.0].held {
            Some(Held::Full(data)) => Ok(data),
            _ => Err(Error::Half { weight: self.store.get(id).name.clone() }),
        }
    }

    /// Moves a weight that the executor changes itself.
    pub(crate) fn update(&mut self, update: Update<R>) -> Result<(), Error> {
        let (keep, rest) = (R::from_f64(update.keep), R::from_f64(1.0 - update.keep));
        let weight = self.full_mut(update.weight)?.iter_mut();
        weight.zip(update.toward).for_each(|(w, toward)| *w = keep * *w + rest * toward);
        Ok(())
    }

    /// Copies a row of a table into `out`.
    pub(crate) fn row(&self, node: &str, id: WeightId, row: usize, out: &mut [R]) -> Result<(), Error> {
        if let Some(Held::Full(data)) = self.held(id) {
            out.copy_from_slice(&data[row * out.len()..(row + 1) * out.len()]);
            return Ok(());
        }
        let weight = self.store.get(id);
        let read = weight.read_rows(row..row + 1).map_err(|source| unreadable(node, source))?;
        weight.source.release(row..row + 1);
        check_finite(weight, row * weight.cols(), &read)?;
        out.iter_mut().zip(read).for_each(|(out, x)| *out = R::from_f32(x));
        Ok(())
    }
}

/// Which weights are only factors of products, and so may be packed.
fn products(graph: &Graph, store: &WeightStore) -> Vec<bool> {
    let mut products = vec![true; store.len()];
    for node in graph.nodes() {
        match &node.op {
            Op::Linear(op) => op.bias.into_iter().for_each(|b| products[b.0] = false),
            Op::MoeExperts(_) | Op::Embedding(_) => {}
            op => op.spec().weights().into_iter().for_each(|w| products[w.0] = false),
        }
    }
    products
}

fn unreadable(node: &str, source: SourceError) -> Error {
    Error::Weight { node: node.into(), source }
}

fn check_finite(weight: &Weight, first: usize, numbers: &[f32]) -> Result<(), Error> {
    // Sums of finite numbers times zero are zero; one pass without branches finds whether there is anything to look for.
    if numbers.iter().map(|x| x * 0.0).sum::<f32>() == 0.0 {
        return Ok(());
    }
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(Error::NotFinite { weight: weight.name.clone(), index: first + at, value: numbers[at] }),
        None => Ok(()),
    }
}

/// Elements that one task decodes.
const PIECE: usize = 1 << 18;

/// Decodes a weight in pieces of rows on all threads; `put` converts each piece into its place.
fn read_pieces<T: Clone + Send>(
    node: &str,
    weight: &Weight,
    zero: T,
    put: impl Fn(f32) -> T + Sync,
) -> Result<Vec<T>, Error> {
    let mut out = vec![zero; weight.elements()];
    let cols = weight.cols().max(1);
    let rows = if matches!(weight.encoding, Encoding::Packed(_)) { weight.rows() } else { PIECE.div_ceil(cols) };
    out.par_chunks_mut(rows.max(1) * cols).enumerate().try_for_each(|(i, out)| {
        let first = i * rows;
        let range = first..first + out.len() / cols;
        let read = weight.read_rows(range.clone()).map_err(|source| unreadable(node, source))?;
        weight.source.release(range);
        check_finite(weight, first * cols, &read)?;
        out.iter_mut().zip(read).for_each(|(out, x)| *out = put(x));
        Ok(())
    })?;
    Ok(out)
}

fn read_full<R: Scalar>(node: &str, weight: &Weight) -> Result<Vec<R>, Error> {
    read_pieces(node, weight, R::ZERO, R::from_f32)
}

fn read_half(node: &str, weight: &Weight) -> Result<PackedBf16, Error> {
    let numbers = read_pieces(node, weight, bf16::ZERO, bf16::from_f32)?;
    Ok(PackedBf16::pack(&numbers, weight.rows(), weight.cols()))
}

/// Bytes that the decoded weights of a graph take in f32 or bf16: what a planner compares with its budget.
pub fn decoded_bytes(graph: &Graph, store: &WeightStore, compute: Compute) -> usize {
    let products = products(graph, store);
    let half = |id: WeightId| compute == Compute::Bf16 && products[id.0];
    store.iter().map(|(id, w)| w.elements() * if half(id) { 2 } else { Dtype::F32.bytes() }).sum()
}
