//! The tensors of a GGUF file, each made of one weight or of the experts of a layer.

use super::CONTAINER;
use crate::ExportError;
use codec::{CodecError, Dtype, Encoding};
use formats::gguf::{GgufType, TensorSpec};
use graph::{DecoderConfig, Model, PermutedRows, Place, Role, Source, SourceError, Weight};
use import::arch::Arch;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A tensor to write.
pub(super) struct Tensor {
    pub name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    /// What follows what: one weight, or every expert.
    pub pieces: Vec<Weight>,
}

impl Tensor {
    fn new(name: String, weight: Weight) -> Tensor {
        let mut shape = weight.shape.clone();
        if weight.place.expert.is_some() {
            shape.insert(0, 0);
        }
        let mut tensor = Tensor { name, shape, encoding: weight.encoding, pieces: vec![] };
        tensor.push(weight);
        tensor
    }

    fn push(&mut self, weight: Weight) {
        if weight.place.expert.is_some() {
            self.shape[0] += 1;
        }
        self.pieces.push(weight);
    }

    pub fn spec(&self) -> TensorSpec {
        TensorSpec { name: self.name.clone(), shape: self.shape.clone(), encoding: self.encoding }
    }
}

/// Every tensor of a decoder, in the order of its weights.
pub(super) fn all(model: &Model, config: &DecoderConfig, arch: &Arch) -> Result<Vec<Tensor>, ExportError> {
    let mut tensors: Vec<Tensor> = rope_factors(config, arch)?;
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for (_, weight) in model.weights.iter() {
        let Some(name) = arch.gguf_name(weight.place) else { continue };
        let weight = as_stored(weight, config, arch);
        if GgufType::of(weight.encoding).is_none() {
            let (weight, encoding) = (weight.name, weight.encoding);
            return Err(ExportError::Encoding { weight, encoding, container: CONTAINER });
        }
        match by_name.get(&name).and_then(|i| tensors.get_mut(*i)) {
            None => {
                by_name.insert(name.clone(), tensors.len());
                tensors.push(Tensor::new(name, weight));
            }
            Some(tensor) if tensor.encoding == weight.encoding && tensor.shape.ends_with(&weight.shape) => {
                tensor.push(weight);
            }
            Some(_) => return Err(ExportError::Experts { weight: weight.name, container: CONTAINER }),
        }
    }
    tensors.iter_mut().for_each(|t| t.pieces.sort_by_key(|w| w.place.expert));
    Ok(tensors)
}

/// The weight in the form that llama.cpp expects.
fn as_stored(weight: &Arc<Weight>, config: &DecoderConfig, arch: &Arch) -> Weight {
    let order = match weight.place.role {
        Role::AttnQ if arch.interleaved => Some(interleaved(config.heads, config.head_dim)),
        Role::AttnK if arch.interleaved => Some(interleaved(config.kv_heads, config.head_dim)),
        _ => None,
    };
    let mut stored = Weight::clone(weight);
    if weight.shape.len() < 2 {
        let offset = if weight.place.role.is_norm() { config.norm_offset as f32 } else { 0.0 };
        stored.encoding = Encoding::Plain(Dtype::F32);
        stored.source = Arc::new(Vector { inner: weight.clone(), order, offset });
    } else if let Some(order) = order {
        stored.source = Arc::new(PermutedRows::new(weight.clone(), order));
    }
    stored
}

/// Rotary channels that form a pair are half a head apart in a checkpoint, and neighbours here.
fn interleaved(heads: usize, head_dim: usize) -> Vec<usize> {
    let old = |new: usize| {
        let (head, channel) = (new / head_dim, new % head_dim);
        head * head_dim + channel % 2 * (head_dim / 2) + channel / 2
    };
    (0..heads * head_dim).map(old).collect()
}

/// A vector as F32, in another order, something added to each element.
struct Vector {
    inner: Arc<Weight>,
    order: Option<Vec<usize>>,
    offset: f32,
}

impl Source for Vector {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let data = self.inner.read_rows(rows)?;
        if let Some(index) = data.iter().position(|v| !v.is_finite()) {
            let encoding = Dtype::F32.to_string();
            let source = CodecError::NotFinite { encoding, index, value: data[index] };
            return Err(SourceError::Codec { name: self.inner.name.clone(), source });
        }
        let at = |i: usize| self.order.as_ref().and_then(|o| o.get(i)).copied().unwrap_or(i);
        let moved = (0..data.len()).filter_map(|i| data.get(at(i)));
        Ok(Cow::Owned(moved.flat_map(|v| (v + self.offset).to_le_bytes()).collect()))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.inner.rows())?])
    }

    fn release(&self, rows: Range<usize>) {
        self.inner.source.release(rows);
    }
}

/// What rotary frequencies are divided by: one tensor, or two where they change with the context.
fn rope_factors(config: &DecoderConfig, arch: &Arch) -> Result<Vec<Tensor>, SourceError> {
    let Some(rope) = config.layers.first().map(|l| &l.rope) else { return Ok(vec![]) };
    let tensor = |name: &str, factors: &[f32]| {
        let weight = Weight::from_f32(name, Place::outer(Role::Other), vec![factors.len()], factors)?;
        Ok(Tensor::new(name.to_owned(), weight))
    };
    match (&rope.factors, &rope.long) {
        (None, _) => Ok(vec![]),
        (Some(short), Some(long)) => {
            Ok(vec![tensor("rope_factors_long.weight", &long.factors)?, tensor("rope_factors_short.weight", short)?])
        }
        (Some(factors), None) if arch.gguf == "llama" => Ok(vec![tensor("rope_freqs.weight", factors)?]),
        (Some(_), None) => Ok(vec![]),
    }
}
