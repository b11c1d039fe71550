//! Choosing, for every weight, the encoding of another container that holds the same numbers; and the weight in it.
//!
//! | container | a quantized linear layer becomes the first of these that is exact |
//! |---|---|
//! | GGUF | `q4_0`, `q4_1`, `q5_0`, `q8_0` |
//! | GPTQ, AWQ, compressed-tensors | what it is under f16 scales; from GGUF: 4 bits, 4 bits with zero points, 8 bits, in the widest groups |
//! | safetensors | bf16, f16, f32 |
//!
//! Embeddings, output head and routers become plain where the container's loaders want them so. All experts of a layer
//! become alike, and so do the groups of all weights of one width.

use crate::EngineError;
use codec::packed::{Bits, Granularity, Integers, RepackError, ScaleType};
use codec::{BlockFormat, Dtype, Encoding, Packed};
use graph::{Model, Role, Source, SourceError, Weight, WeightId};
use plan::Container;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The model with every weight in an encoding of the container, its numbers unchanged. Nothing is held in memory.
pub(crate) fn repack(model: &Model, to: Container) -> Result<Model, EngineError> {
    let all: Vec<(WeightId, &Arc<Weight>)> = model.weights.iter().collect();
    let choose = |(id, weight): &(WeightId, &Arc<Weight>)| Ok((*id, choose(weight, to)?));
    let mut chosen: BTreeMap<WeightId, Encoding> = all.par_iter().map(choose).collect::<Result<_, EngineError>>()?;
    match to {
        Container::Gguf => align_experts(model, &mut chosen),
        Container::Safetensors => {}
        _ => align_groups(model, to, &mut chosen),
    }
    let mut repacked = model.clone();
    for (id, weight) in all {
        let to = chosen.get(&id).copied().unwrap_or(weight.encoding);
        if to != weight.encoding {
            let source = Repacked { inner: weight.clone(), to, bytes: Mutex::new(None) };
            repacked.weights.replace(id, to, weight.shape.clone(), Arc::new(source));
        }
    }
    Ok(repacked)
}

/// What GGUF's integer blocks are, smaller ones first; each holds what those before it hold.
const LADDER: [BlockFormat; 4] = [BlockFormat::Q4_0, BlockFormat::Q4_1, BlockFormat::Q5_0, BlockFormat::Q8_0];

fn choose(weight: &Weight, to: Container) -> Result<Encoding, EngineError> {
    let role = weight.place.role;
    let plain = matches!(weight.encoding, Encoding::Plain(_));
    match to {
        Container::Gguf if role == Role::Router => Ok(Encoding::Plain(Dtype::F32)),
        Container::Gguf if !matches!(weight.encoding, Encoding::Packed(_)) => Ok(weight.encoding),
        _ if plain => Ok(weight.encoding),
        Container::Gguf => exact(weight, LADDER.map(Encoding::Block)),
        Container::Safetensors => narrowest(weight),
        _ if matches!(role, Role::TokenEmbed | Role::OutputHead | Role::Router) => narrowest(weight),
        Container::CompressedTensors if matches!(weight.encoding, Encoding::Packed(_)) => Ok(weight.encoding),
        _ => exact(weight, integers(weight.encoding, to)),
    }
}

/// The packed encodings to try for a weight.
fn integers(from: Encoding, to: Container) -> Vec<Encoding> {
    let packed = |bits, symmetric, per| {
        let packed = Bits::new(bits).map(|bits| Packed::Int { bits, symmetric, per, scale: ScaleType::F16 });
        packed.map(Encoding::Packed)
    };
    let candidates: Vec<Option<Encoding>> = match from {
        Encoding::Packed(Packed::Int { bits, symmetric, per, .. }) => vec![packed(bits.get() as u8, symmetric, per)],
        Encoding::Packed(Packed::Int8 { per, .. }) => vec![packed(8, true, per)],
        _ => {
            let groups = [128, 64, 32].into_iter().filter_map(Granularity::group);
            let kinds =
                [(4, true), (4, false), (8, true)].into_iter().filter(|(bits, _)| to != Container::Awq || *bits == 4);
            kinds.flat_map(|(bits, symmetric)| groups.clone().map(move |per| packed(bits, symmetric, per))).collect()
        }
    };
    candidates.into_iter().flatten().collect()
}

/// The first encoding that holds the weight's numbers; where none does, why the last does not.
fn exact(weight: &Weight, candidates: impl IntoIterator<Item = Encoding>) -> Result<Encoding, EngineError> {
    let inexact = |source| EngineError::Inexact { weight: weight.name.clone(), from: weight.encoding, source };
    let integers = open(weight)?.map_err(inexact)?;
    let mut why = RepackError::NotIntegers { encoding: weight.encoding.to_string() };
    for candidate in candidates {
        match integers.write(candidate) {
            Ok(_) => return Ok(candidate),
            Err(error) => why = error,
        }
    }
    Err(inexact(why))
}

/// The weight laid open.
fn open(weight: &Weight) -> Result<Result<Integers, RepackError>, SourceError> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let parts = weight.source.parts()?;
    let specs = weight.encoding.parts(rows, cols);
    let specs = specs.map_err(|source| SourceError::Codec { name: weight.name.clone(), source })?;
    let find =
        |suffix: &str| specs.iter().position(|s| s.suffix == suffix).and_then(|i| parts.get(i)).map(|part| &part[..]);
    Ok(Integers::read(weight.encoding, rows, cols, &find))
}

/// The narrowest plain type that holds all numbers.
fn narrowest(weight: &Weight) -> Result<Encoding, EngineError> {
    let numbers = weight.read()?;
    let bf16 = numbers.iter().all(|v| ScaleType::BF16.round(*v) == *v);
    let f16 = || numbers.iter().all(|v| ScaleType::F16.round(*v) == *v);
    Ok(Encoding::Plain(if bf16 {
        Dtype::BF16
    } else if f16() {
        Dtype::F16
    } else {
        Dtype::F32
    }))
}

/// All experts of a layer lie in one tensor of GGUF: they take the largest of their types.
fn align_experts(model: &Model, chosen: &mut BTreeMap<WeightId, Encoding>) {
    let rank = |encoding: &Encoding| LADDER.iter().position(|format| *encoding == Encoding::Block(*format));
    let mut largest = BTreeMap::new();
    let key = |id: WeightId| {
        let place = model.weights.get(id).place;
        place.expert.map(|_| (place.layer, place.role))
    };
    for (id, encoding) in chosen.iter() {
        if let (Some(key), Some(rank)) = (key(*id), rank(encoding)) {
            let largest = largest.entry(key).or_insert(rank);
            *largest = rank.max(*largest);
        }
    }
    for (id, encoding) in chosen.iter_mut() {
        if let (Some(rank), Some(_)) = (key(*id).and_then(|key| largest.get(&key)), rank(encoding)) {
            *encoding = Encoding::Block(LADDER[*rank]);
        }
    }
}

/// Weights from GGUF, and all of AWQ, take the narrowest group of any of the same width; what is exact in wide groups is
/// so in narrow ones.
fn align_groups(model: &Model, to: Container, chosen: &mut BTreeMap<WeightId, Encoding>) {
    let blocks = |id: &WeightId| matches!(model.weights.get(*id).encoding, Encoding::Block(_));
    let free = |id: &WeightId| to == Container::Awq || blocks(id);
    let mut narrowest: BTreeMap<u32, std::num::NonZeroU32> = BTreeMap::new();
    for (id, encoding) in chosen.iter() {
        if let (true, Encoding::Packed(Packed::Int { bits, per: Granularity::Group(size), .. })) = (free(id), encoding)
        {
            let narrowest = narrowest.entry(bits.get()).or_insert(*size);
            *narrowest = (*narrowest).min(*size);
        }
    }
    for (id, encoding) in chosen.iter_mut() {
        if let (true, Encoding::Packed(Packed::Int { bits, per, .. })) = (free(id), encoding) {
            *per = narrowest.get(&bits.get()).map_or(*per, |size| Granularity::Group(*size));
        }
    }
}

/// A weight in another encoding, its numbers unchanged. It is repacked whole when its first rows are read, and kept
/// until its last are released.
struct Repacked {
    inner: Arc<Weight>,
    to: Encoding,
    bytes: Mutex<Option<Arc<Vec<u8>>>>,
}

impl Repacked {
    fn repack(&self) -> Result<Vec<Vec<u8>>, SourceError> {
        let name = || self.inner.name.clone();
        let parts = match self.to {
            Encoding::Plain(_) => {
                let data = self.inner.read()?;
                let matrix = codec::Matrix { rows: self.inner.rows(), cols: self.inner.cols(), data: &data };
                self.to.encode(matrix, None).map_err(|source| SourceError::Codec { name: name(), source })?
            }
            _ => {
                let repacked = open(&self.inner)?.and_then(|integers| integers.write(self.to));
                repacked.map_err(|e| SourceError::Read { name: name(), why: e.to_string() })?
            }
        };
        Ok(parts.into_iter().map(|part| part.bytes).collect())
    }
}

impl Source for Repacked {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let bytes = {
            let mut kept = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some(bytes) => bytes.clone(),
                None => kept.insert(Arc::new(self.repack()?.concat())).clone(),
            }
        };
        let row = bytes.len() / self.inner.rows().max(1);
        let asked = bytes.get(rows.start * row..rows.end * row).map(<[u8]>::to_vec);
        let (name, all) = (self.inner.name.clone(), self.inner.rows());
        asked.map(Cow::Owned).ok_or(SourceError::Rows { name, start: rows.start, end: rows.end, rows: all })
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(self.repack()?.into_iter().map(Cow::Owned).collect())
    }

    fn release(&self, rows: Range<usize>) {
        if rows.end == self.inner.rows() {
            *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.inner.source.release(0..self.inner.rows());
        }
    }
}
