//! A Hugging Face folder, its linear layers packed as compressed-tensors does: what vLLM and transformers load.
//!
//! Weights are packed alike in groups. Where there is one, it targets every `Linear`; where there are several, each
//! names its modules, for a server that joins q, k and v would find the class of the joined layer before their names.
//! Linear layers that stay plain are on the `ignore` list. Without a packed weight the folder is an ordinary checkpoint.
//!
//! How the model is to be run ([`graph::RunQuant`]) goes into the groups and `kv_cache_scheme`, its calibrated numbers
//! into tensors beside the weights ([`import::running`]).
//!
//! Source: the `compressed-tensors` package, `quantization/quant_config.py` (0.20); vLLM's `compressed_tensors/utils.py`.

use crate::folder::{self, Beside, Layout, Named, ignore};
use crate::stream::Parts;
use crate::{ExportError, Progress, Written};
use codec::{Dtype, Packed, PartSpec};
use formats::hf::quantization::{Format, Group, QuantizationArgs, QuantizationConfig};
use formats::safetensors::TensorSpec;
use graph::{InputQuant, Role, SourceError, Weight};
use import::Imported;
use import::running::{cache_args, input_args, number_name};
use serde_json::{Map, Value};
use std::path::Path;

/// Bytes of a shard, unless asked otherwise.
pub const MAX_SHARD: u64 = 5_000_000_000;

/// Writes a model, its weights in the encodings that they have, as the new folder `out`.
/// The files of the result are those with tensors.
pub fn write(model: &Imported, out: &Path, max_shard: u64, progress: Progress<'_>) -> Result<Written, ExportError> {
    let written = folder::write(&CompressedTensors, model, out, max_shard, progress)?;
    Ok(Written { notes: notes(model), ..written })
}

/// Bytes of the folder that [`write`] would write.
pub fn bytes(model: &Imported, max_shard: u64) -> Result<u64, ExportError> {
    folder::bytes(&CompressedTensors, model, max_shard)
}

struct CompressedTensors;

impl Layout for CompressedTensors {
    fn name(&self) -> &'static str {
        "compressed-tensors"
    }

    fn parts(&self, weight: &Weight, packed: Packed) -> Result<Option<Vec<PartSpec>>, ExportError> {
        let parts = packed.parts(weight.rows(), weight.cols());
        Ok(Some(parts.map_err(|source| SourceError::Codec { name: weight.name.clone(), source })?))
    }

    fn bytes<'a>(&self, _: &Weight, _: Packed, parts: Parts<'a>) -> Result<Parts<'a>, ExportError> {
        Ok(parts)
    }

    fn beside(&self, model: &Imported, weights: &[Named<'_>]) -> Result<Vec<Beside>, ExportError> {
        let run = &model.model.weights.run;
        let mut tensors = vec![];
        for weight in weights.iter().filter(|w| w.packed().is_some()) {
            let Some(input) = run.inputs.get(&weight.id) else { continue };
            if let (Some(name), Some(number)) = (number_name(*input), input.number()) {
                tensors.push(scalar(format!("{}.{name}", weight.module()), number)?);
            }
        }
        let key = |w: &&Named<'_>| matches!(w.weight.place.role, Role::AttnK | Role::AttnQkv) && !w.weight.place.bias;
        for weight in weights.iter().filter(key) {
            let Some(scales) = weight.weight.place.layer.and_then(|layer| run.cache.get(&layer)) else { continue };
            let attention = weight.module().rsplit_once('.').map_or("", |(attention, _)| attention);
            tensors.push(scalar(format!("{attention}.k_scale"), scales.key)?);
            tensors.push(scalar(format!("{attention}.v_scale"), scales.value)?);
        }
        Ok(tensors)
    }

    fn configure(
        &self,
        model: &Imported,
        weights: &[Named<'_>],
        config: &mut Map<String, Value>,
    ) -> Result<Vec<(&'static str, Value)>, ExportError> {
        config.insert("quantization_config".into(), quantization(model, weights).to_json());
        Ok(vec![])
    }
}

/// A calibrated number as a tensor.
fn scalar(name: String, number: f32) -> Result<Beside, ExportError> {
    if !(number > 0.0 && number.is_finite()) {
        return Err(ExportError::Uncalibrated { tensor: name, number });
    }
    Ok((TensorSpec { name, dtype: Dtype::F32, shape: vec![1] }, number.to_le_bytes().to_vec()))
}

/// The `quantization_config`.
fn quantization(model: &Imported, weights: &[Named<'_>]) -> QuantizationConfig {
    let groups = groups(model, weights);
    let one = groups.len() == 1;
    let format = match groups.first().map(|(alike, _)| alike.packed) {
        Some(first) if groups.iter().all(|(alike, _)| alike.packed.format() == first.format()) => Format::of(first),
        _ => Format::MixedPrecision,
    };
    let group = |(i, (alike, modules)): (usize, (Alike, Vec<String>))| {
        let group = Group {
            targets: if one { vec!["Linear".into()] } else { modules },
            weights: Some(QuantizationArgs::of(alike.packed)),
            input_activations: alike.input.map(input_args),
            output_activations: None,
            format: Some(Format::of(alike.packed)),
        };
        (format!("group_{i}"), group)
    };
    QuantizationConfig {
        format,
        ignore: ignore(weights),
        config_groups: groups.into_iter().enumerate().map(group).collect(),
        kv_cache_scheme: (!model.model.weights.run.cache.is_empty()).then(cache_args),
    }
}

/// What modules of a group have in common.
#[derive(Clone, Copy, PartialEq)]
struct Alike {
    packed: Packed,
    /// Its number left out.
    input: Option<InputQuant>,
}

/// Modules by their packing, whatever the type of their scales, of which the config says nothing; the largest first.
fn groups(model: &Imported, weights: &[Named<'_>]) -> Vec<(Alike, Vec<String>)> {
    let mut groups: Vec<(Alike, Vec<String>)> = vec![];
    for weight in weights {
        let Some(packed) = weight.packed() else { continue };
        let input = model.model.weights.run.inputs.get(&weight.id).map(|i| import::running::with_number(*i, 0.0));
        let alike = Alike { packed: packed.following(Dtype::BF16), input };
        let at = groups.iter().position(|(a, _)| *a == alike).unwrap_or_else(|| {
            groups.push((alike, vec![]));
            groups.len() - 1
        });
        groups[at].1.push(weight.module().to_owned());
    }
    groups.sort_by_key(|(_, modules)| std::cmp::Reverse(modules.len()));
    groups
}

/// What servers make of the formats, where it is not what one would expect.
fn notes(model: &Imported) -> Vec<String> {
    let weights = &model.model.weights;
    let bytes = |(id, w): (graph::WeightId, &std::sync::Arc<Weight>)| {
        let int8 = matches!(w.encoding, codec::Encoding::Packed(Packed::Int8 { .. }));
        int8 && !weights.run.inputs.contains_key(&id)
    };
    match weights.iter().any(bytes) {
        true => vec![
            "vLLM serves plain int8 bytes only with quantized activations; for weights alone take int8-channel, which \
             is packed"
                .into(),
        ],
        false => vec![],
    }
}
