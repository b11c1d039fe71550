//! Hugging Face folders, whatever lays their packed weights out.
//!
//! | file | what |
//! |---|---|
//! | `config.json` | the source's, with a `quantization_config` of the [`Layout`] |
//! | `model*.safetensors` | plain weights under their names; of a packed one `<module>.<part>` for every part |
//! | all else | copied: tokenizer, generation settings, licence |
//!
//! The folder appears under its name when it is complete and has been reopened.

use crate::stream::{self, Parts};
use crate::{ExportError, Progress, Written};
use codec::{Dtype, Encoding, Packed, PartSpec};
use formats::atomic::{AtomicDir, write_file};
use formats::hf::CONFIG;
use formats::safetensors::{TensorSpec, Writer};
use graph::{Role, Weight, WeightId};
use import::{Imported, Kind};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// How packed weights become tensors, and what the config says of them.
pub(crate) trait Layout: Sync {
    /// What the container is called.
    fn name(&self) -> &'static str;
    /// The tensors of a packed weight, named after their module; `None` where there is no place for it.
    fn parts(&self, weight: &Weight, packed: Packed) -> Result<Option<Vec<PartSpec>>, ExportError>;
    /// The bytes of these, from those of the encoding's own parts.
    fn bytes<'a>(&self, weight: &Weight, packed: Packed, parts: Parts<'a>) -> Result<Parts<'a>, ExportError>;
    /// Small tensors beside the weights.
    fn beside(&self, model: &Imported, weights: &[Named<'_>]) -> Result<Vec<Beside>, ExportError>;
    /// Completes `config.json`; `weights` hold at least one that is packed. Gives other files and their JSON.
    fn configure(
        &self,
        model: &Imported,
        weights: &[Named<'_>],
        config: &mut Map<String, Value>,
    ) -> Result<Vec<(&'static str, Value)>, ExportError>;
    /// Whether a weight written as the one may be read as the other.
    fn same(&self, written: Encoding, read: Encoding) -> bool {
        written == read
    }
}

/// A small tensor.
pub(crate) type Beside = (TensorSpec, Vec<u8>);

/// Writes a model as the new folder `out`. The files of the result are those with tensors.
pub(crate) fn write(
    layout: &dyn Layout,
    model: &Imported,
    out: &Path,
    max_shard: u64,
    progress: Progress<'_>,
) -> Result<Written, ExportError> {
    let weights = model.model.weights.iter().map(|(id, w)| named(layout, model, id, w));
    let weights: Vec<Named<'_>> = weights.collect::<Result<_, _>>()?;
    let beside = layout.beside(model, &weights)?;
    let folder = AtomicDir::create(out)?;
    for file in &model.extras {
        let copy = |to| fs::copy(file, folder.path().join(to));
        let copied = file.file_name().map_or(Ok(0), copy);
        copied.map_err(|source| ExportError::Copy { file: file.clone(), source })?;
    }
    for (name, json) in configs(layout, model, &weights)? {
        write_file(&folder.path().join(name), config_text(&json).as_bytes())?;
    }
    let (tensors, bytes) = write_tensors(layout, &weights, &beside, folder.path(), max_shard, progress)?;
    let files = read_back(layout, &weights, folder.path())?;
    folder.commit()?;
    let files = files.iter().filter_map(|f| f.file_name()).map(|name| out.join(name)).collect();
    Ok(Written { files, tensors, bytes, notes: Vec::new() })
}

/// Bytes of the folder that [`write`] would write.
pub(crate) fn bytes(layout: &dyn Layout, model: &Imported, max_shard: u64) -> Result<u64, ExportError> {
    let weights = model.model.weights.iter().map(|(id, w)| named(layout, model, id, w));
    let weights: Vec<Named<'_>> = weights.collect::<Result<_, _>>()?;
    let beside = layout.beside(model, &weights)?;
    let length = |file: &PathBuf| {
        let found = fs::metadata(file).map(|m| m.len());
        found.map_err(|source| ExportError::Copy { file: file.clone(), source })
    };
    let copied = model.extras.iter().map(length).sum::<Result<u64, _>>()?;
    let configs: usize = configs(layout, model, &weights)?.iter().map(|(_, json)| config_text(json).len()).sum();
    Ok(copied + configs as u64 + Writer::folder_bytes(&model.path, &specs(&weights, &beside), max_shard)?)
}

fn config_text(json: &Value) -> String {
    format!("{json:#}\n")
}

/// All tensors of the folder, in order.
fn specs(weights: &[Named<'_>], beside: &[Beside]) -> Vec<TensorSpec> {
    weights.iter().flat_map(|w| &w.tensors).chain(beside.iter().map(|(spec, _)| spec)).cloned().collect()
}

/// A weight and its name in a checkpoint.
pub(crate) struct Named<'a> {
    pub name: String,
    pub id: WeightId,
    pub weight: &'a Weight,
    /// The tensors that it becomes.
    tensors: Vec<TensorSpec>,
}

impl Named<'_> {
    /// The name without the parameter: `model.layers.0.mlp.up_proj`.
    pub fn module(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }

    /// How it is packed, if it is.
    pub fn packed(&self) -> Option<Packed> {
        match self.weight.encoding {
            Encoding::Packed(packed) => Some(packed),
            _ => None,
        }
    }
}

/// A weight under its name in a checkpoint; refuses one that such a folder cannot hold.
fn named<'a>(
    layout: &dyn Layout,
    model: &Imported,
    id: WeightId,
    weight: &'a Weight,
) -> Result<Named<'a>, ExportError> {
    let name = match (model.kind, model.arch) {
        (Kind::Gguf, Some(arch)) => arch.hf_name(weight.place).unwrap_or_else(|| weight.name.clone()),
        _ => weight.name.clone(),
    };
    let module = name.strip_suffix(".weight").filter(|_| weight.shape.len() == 2);
    let tensors = match (weight.encoding, module) {
        (Encoding::Plain(dtype), _) => {
            Some(vec![TensorSpec { name: name.clone(), dtype, shape: weight.shape.clone() }])
        }
        (Encoding::Packed(packed), Some(module)) => {
            let tensor = |part: PartSpec| TensorSpec {
                name: format!("{module}.{}", part.suffix),
                dtype: part.dtype,
                shape: part.shape,
            };
            layout.parts(weight, packed)?.map(|parts| parts.into_iter().map(tensor).collect())
        }
        _ => None,
    };
    match tensors {
        Some(tensors) => Ok(Named { name, id, weight, tensors }),
        None => Err(ExportError::Encoding { weight: name, encoding: weight.encoding, container: layout.name() }),
    }
}

/// `config.json` of the folder, and other files.
fn configs(
    layout: &dyn Layout,
    model: &Imported,
    weights: &[Named<'_>],
) -> Result<Vec<(&'static str, Value)>, ExportError> {
    let mut config = model.config.clone();
    config.shift_remove("quantization_config");
    config.shift_remove("compression_config");
    if let Some(dtype) = plain_dtype(weights) {
        set_dtype(&mut config, dtype);
    }
    let mut files = vec![];
    if weights.iter().any(|w| w.packed().is_some()) {
        files = layout.configure(model, weights, &mut config)?;
    }
    files.push((CONFIG, Value::Object(config)));
    Ok(files)
}

/// Says what type weights are to be loaded as.
pub(crate) fn set_dtype(config: &mut Map<String, Value>, dtype: &str) {
    let key = if config.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    config.insert(key.into(), dtype.into());
}

/// What the config calls the type of plain matrices: of the widest.
fn plain_dtype(weights: &[Named<'_>]) -> Option<&'static str> {
    let matrices = weights.iter().filter(|w| w.weight.shape.len() >= 2);
    let dtypes = matrices.filter_map(|w| match w.weight.encoding {
        Encoding::Plain(Dtype::F32) => Some((2, "float32")),
        Encoding::Plain(Dtype::BF16) => Some((1, "bfloat16")),
        Encoding::Plain(Dtype::F16) => Some((0, "float16")),
        _ => None,
    });
    dtypes.max().map(|(_, name)| name)
}

/// Linear layers that stay plain. A tied output head has no tensor, but is a linear layer all the same.
pub(crate) fn ignore(weights: &[Named<'_>]) -> Vec<String> {
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
    layout: &dyn Layout,
    weights: &[Named<'_>],
    beside: &[Beside],
    folder: &Path,
    max_shard: u64,
    progress: Progress<'_>,
) -> Result<(usize, u64), ExportError> {
    let all = specs(weights, beside);
    let mut writer = Writer::folder(folder, &all, max_shard)?;
    let mut done = 0;
    let pieces = stream::pieces(weights.iter().map(|w| w.weight).enumerate());
    stream::run(&pieces, |at, parts: Parts<'_>| {
        let weight = &weights[at];
        let parts = match weight.packed() {
            Some(packed) => layout.bytes(weight.weight, packed, parts)?,
            None => parts,
        };
        for (tensor, bytes) in weight.tensors.iter().zip(parts) {
            writer.append(&tensor.name, &bytes)?;
            done += bytes.len() as u64;
        }
        progress(done);
        Ok::<(), ExportError>(())
    })?;
    for (tensor, bytes) in beside {
        writer.append(&tensor.name, bytes)?;
        done += bytes.len() as u64;
    }
    writer.finish()?;
    Ok((all.len(), done))
}

/// Reopens the folder: every weight must be found with the encoding and shape that it was written with. Gives the files
/// with tensors.
fn read_back(layout: &dyn Layout, weights: &[Named<'_>], folder: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let read = import::open(folder).map_err(|e| ExportError::ReadBack { why: e.to_string() })?;
    for Named { name, weight, .. } in weights {
        let found = read.model.weights.find(name).map(|id| read.model.weights.get(id));
        if !found.is_some_and(|f| layout.same(weight.encoding, f.encoding) && f.shape == weight.shape) {
            return Err(ExportError::ReadBack { why: format!("tensor `{name}` is not what was written") });
        }
    }
    Ok(read.files)
}
