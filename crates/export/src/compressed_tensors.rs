//! A Hugging Face folder, its linear layers packed as compressed-tensors does: what vLLM and transformers load.
//!
//! | file | what |
//! |---|---|
//! | `config.json` | the source's, with a `quantization_config` of one group per packed encoding |
//! | `model*.safetensors` | plain weights under their names; of a packed one `<module>.<part>` for every part |
//! | all else | copied: tokenizer, generation settings, licence |
//!
//! The largest group targets every `Linear`, the others name their modules, which loaders prefer over a class; linear
//! layers that stay plain are on the `ignore` list. Without a packed weight the folder is an ordinary checkpoint.
//!
//! The folder appears under its name when it is complete and has been reopened.
//!
//! Source: the `compressed-tensors` package, `quantization/quant_config.py` (0.20).

use crate::stream::{self, Parts};
use crate::{ExportError, Progress, Written};
use codec::{Dtype, Encoding, Packed};
use formats::atomic::{AtomicDir, write_file};
use formats::hf::CONFIG;
use formats::hf::quantization::{Format, Group, QuantizationArgs, QuantizationConfig};
use formats::safetensors::{TensorSpec, Writer};
use graph::{Role, SourceError, Weight};
use import::{Imported, Kind};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a shard, unless asked otherwise.
pub const MAX_SHARD: u64 = 5_000_000_000;

const CONTAINER: &str = "compressed-tensors";

/// Writes a model, its weights in the encodings that they have, as the new folder `out`.
/// The files of the result are those with tensors.
pub fn write(model: &Imported, out: &Path, max_shard: u64, progress: Progress<'_>) -> Result<Written, ExportError> {
    let weights: Vec<Named<'_>> = model.model.weights.iter().map(|(_, w)| named(model, w)).collect::<Result<_, _>>()?;
    let folder = AtomicDir::create(out)?;
    for file in &model.extras {
        let copy = |to| fs::copy(file, folder.path().join(to));
        let copied = file.file_name().map_or(Ok(0), copy);
        copied.map_err(|source| ExportError::Copy { file: file.clone(), source })?;
    }
    let config = format!("{:#}\n", Value::Object(config(model, &weights)));
    write_file(&folder.path().join(CONFIG), config.as_bytes())?;
    let (tensors, bytes) = write_tensors(&weights, folder.path(), max_shard, progress)?;
    let files = read_back(&weights, folder.path())?;
    folder.commit()?;
    let files = files.iter().filter_map(|f| f.file_name()).map(|name| out.join(name)).collect();
    Ok(Written { files, tensors, bytes, notes: notes(&weights) })
}

/// A weight and its name in a checkpoint.
struct Named<'a> {
    name: String,
    weight: &'a Weight,
}

impl Named<'_> {
    /// The name without the parameter: `model.layers.0.mlp.up_proj`.
    fn module(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }

    /// The tensors that it becomes.
    fn tensors(&self) -> Result<Vec<TensorSpec>, ExportError> {
        let weight = self.weight;
        let spec = |name, dtype, shape| TensorSpec { name, dtype, shape };
        match weight.encoding {
            Encoding::Plain(dtype) => Ok(vec![spec(self.name.clone(), dtype, weight.shape.clone())]),
            _ => {
                let parts = weight.encoding.parts(weight.rows(), weight.cols());
                let parts = parts.map_err(|source| SourceError::Codec { name: self.name.clone(), source })?;
                let name = |suffix| format!("{}.{suffix}", self.module());
                Ok(parts.into_iter().map(|part| spec(name(part.suffix), part.dtype, part.shape)).collect())
            }
        }
    }
}

/// A weight under its name in a checkpoint; refuses one that such a folder cannot hold.
fn named<'a>(model: &Imported, weight: &'a Weight) -> Result<Named<'a>, ExportError> {
    let name = match (model.kind, model.arch) {
        (Kind::Gguf, Some(arch)) => arch.hf_name(weight.place).unwrap_or_else(|| weight.name.clone()),
        _ => weight.name.clone(),
    };
    let holds = match weight.encoding {
        Encoding::Plain(_) => true,
        Encoding::Packed(_) => weight.shape.len() == 2 && name.ends_with(".weight"),
        Encoding::Block(_) => false,
    };
    match holds {
        true => Ok(Named { name, weight }),
        false => Err(ExportError::Encoding { weight: name, encoding: weight.encoding, container: CONTAINER }),
    }
}

/// `config.json` of the folder.
fn config(model: &Imported, weights: &[Named<'_>]) -> Map<String, Value> {
    let mut config = model.config.clone();
    config.shift_remove("quantization_config");
    config.shift_remove("compression_config");
    if let Some(dtype) = weights.iter().find_map(plain_dtype) {
        let key = if config.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        config.insert(key.into(), dtype.into());
    }
    if let Some(quantization) = quantization(weights) {
        config.insert("quantization_config".into(), quantization.to_json());
    }
    config
}

/// What the config calls the type of a plain matrix.
fn plain_dtype(weight: &Named<'_>) -> Option<&'static str> {
    match weight.weight.encoding {
        Encoding::Plain(_) if weight.weight.shape.len() < 2 => None,
        Encoding::Plain(Dtype::F32) => Some("float32"),
        Encoding::Plain(Dtype::F16) => Some("float16"),
        Encoding::Plain(Dtype::BF16) => Some("bfloat16"),
        _ => None,
    }
}

/// The `quantization_config`; `None` where nothing is packed.
fn quantization(weights: &[Named<'_>]) -> Option<QuantizationConfig> {
    let groups = groups(weights);
    let format = match groups.first()?.0 {
        first if groups.iter().all(|(packed, _)| packed.format() == first.format()) => Format::of(first),
        _ => Format::MixedPrecision,
    };
    let group = |(i, (packed, modules)): (usize, (Packed, Vec<String>))| {
        let group = Group {
            targets: if i == 0 { vec!["Linear".into()] } else { modules },
            weights: Some(QuantizationArgs::of(packed)),
            input_activations: None,
            output_activations: None,
            format: Some(Format::of(packed)),
        };
        (format!("group_{i}"), group)
    };
    Some(QuantizationConfig {
        format,
        ignore: ignore(weights),
        config_groups: groups.into_iter().enumerate().map(group).collect(),
    })
}

/// Modules by their packing, whatever the type of their scales, of which the config says nothing; the largest first.
fn groups(weights: &[Named<'_>]) -> Vec<(Packed, Vec<String>)> {
    let mut groups: Vec<(Packed, Vec<String>)> = vec![];
    for weight in weights {
        let Encoding::Packed(packed) = weight.weight.encoding else { continue };
        let packed = packed.following(Dtype::BF16);
        let at = groups.iter().position(|(p, _)| *p == packed).unwrap_or_else(|| {
            groups.push((packed, vec![]));
            groups.len() - 1
        });
        groups[at].1.push(weight.module().to_owned());
    }
    groups.sort_by_key(|(_, modules)| std::cmp::Reverse(modules.len()));
    groups
}

/// Linear layers that stay plain. A tied output head has no tensor, but is a linear layer all the same.
fn ignore(weights: &[Named<'_>]) -> Vec<String> {
    let plain = |w: &&Named<'_>| matches!(w.weight.encoding, Encoding::Plain(_));
    let linear = |w: &&Named<'_>| w.weight.shape.len() == 2 && w.weight.place.role != Role::TokenEmbed;
    let mut ignore: Vec<String> = weights.iter().filter(plain).filter(linear).map(|w| w.module().to_owned()).collect();
    if !weights.iter().any(|w| w.module().ends_with("lm_head")) {
        ignore.push("lm_head".into());
    }
    ignore
}

/// Writes all tensors; gives how many they are, and their bytes.
fn write_tensors(
    weights: &[Named<'_>],
    folder: &Path,
    max_shard: u64,
    progress: Progress<'_>,
) -> Result<(usize, u64), ExportError> {
    let tensors: Vec<Vec<TensorSpec>> = weights.iter().map(Named::tensors).collect::<Result<_, _>>()?;
    let all = tensors.concat();
    let mut writer = Writer::folder(folder, &all, max_shard)?;
    let mut done = 0;
    let pieces = stream::pieces(weights.iter().map(|w| w.weight).enumerate());
    stream::run(&pieces, |weight, parts: Parts<'_>| {
        for (tensor, bytes) in tensors[weight].iter().zip(parts) {
            writer.append(&tensor.name, &bytes)?;
            done += bytes.len() as u64;
        }
        progress(done);
        Ok::<(), ExportError>(())
    })?;
    writer.finish()?;
    Ok((all.len(), done))
}

/// Reopens the folder: every weight must be found with the encoding and shape that it was written with. Gives the files
/// with tensors.
fn read_back(weights: &[Named<'_>], folder: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let read = import::open(folder).map_err(|e| ExportError::ReadBack { why: e.to_string() })?;
    for Named { name, weight } in weights {
        let found = read.model.weights.find(name).map(|id| read.model.weights.get(id));
        if !found.is_some_and(|f| f.encoding == weight.encoding && f.shape == weight.shape) {
            return Err(ExportError::ReadBack { why: format!("tensor `{name}` is not what was written") });
        }
    }
    Ok(read.files)
}

/// What servers make of the formats, where it is not what one would expect.
fn notes(weights: &[Named<'_>]) -> Vec<String> {
    let bytes = |w: &Named<'_>| matches!(w.weight.encoding, Encoding::Packed(Packed::Int8 { .. }));
    match weights.iter().any(bytes) {
        true => vec![
            "vLLM serves plain int8 bytes only with quantized activations; for weights alone take \
                      int8-channel, which is packed"
                .into(),
        ],
        false => vec![],
    }
}
