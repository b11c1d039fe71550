//! From one container to another without changing a number: repack, write, reopen, compare every number.

use crate::staging::Staging;
use crate::{EngineError, Options, Progress, Unit, contract, pool, proof, repack};
use codec::packed::ZeroPoints;
use export::transposed::Target;
use formats::atomic::write_file;
use formats::hf::{TOKENIZER, TOKENIZER_CONFIG};
use import::Imported;
use plan::preset::Preset;
use plan::{Bytes, Container};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What came of a conversion: all weights decode to the same numbers as the source's.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The artifact: a folder, a file, or the files of a split.
    pub files: Vec<PathBuf>,
    /// Weights compared, all of them.
    pub weights: usize,
    /// How many of them are of which encoding.
    pub encodings: BTreeMap<String, usize>,
    /// Bytes of the artifact's files.
    pub bytes: u64,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// Writes a model into another container. Fails where that would change a number, and says which weight and why.
pub fn convert(
    imported: &Imported,
    to: Container,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Converted, EngineError> {
    if let (Some(weight), true) = (imported.scattered.first(), to != Container::Safetensors) {
        return Err(EngineError::Scattered { weight: weight.clone(), count: imported.scattered.len() });
    }
    pool(options)?.install(|| run(imported, to, out, options, progress))
}

fn run(
    imported: &Imported,
    to: Container,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Converted, EngineError> {
    let sources: Vec<&Path> =
        std::iter::once(imported.path.as_path()).chain(imported.files.iter().map(PathBuf::as_path)).collect();
    let staging = Staging::open(out, &sources, options.replace)?;
    let model = repack::repack(&imported.model, to)?;
    let repacked = Imported { model, ..imported.clone() };
    let sizes = repacked.model.weights.iter().map(|(_, w)| w.bytes().map(|b| b as u64));
    let bytes: u64 = sizes.sum::<Result<u64, _>>()?;
    staging.check_space(Bytes(bytes))?;
    progress.begin("repack and write", bytes, Unit::Bytes);
    let written = write(&repacked, to, &staging.path(), progress);
    progress.end();
    let mut notes: Vec<String> = imported.notes.iter().cloned().chain(written?.notes).collect();
    if !imported.model.weights.run.cache.is_empty() && to != Container::CompressedTensors {
        notes.push("scales of the cache are left out: only compressed-tensors has a place for them".into());
    }
    let artifact = staging.written()?;
    let reopened = import::open(&artifact).map_err(|source| EngineError::Reopen { artifact: out.into(), source })?;
    compare(imported, &reopened, out, progress)?;
    let bytes = proof::artifact_bytes(&artifact, &reopened)?;
    let mut encodings = BTreeMap::new();
    for (_, weight) in reopened.model.weights.iter() {
        *encodings.entry(weight.encoding.to_string()).or_default() += 1;
    }
    Ok(Converted { files: staging.commit()?, weights: reopened.model.weights.len(), encodings, bytes, notes })
}

/// Writes the files.
pub(crate) fn write(
    model: &Imported,
    to: Container,
    out: &Path,
    progress: &dyn Progress,
) -> Result<export::Written, EngineError> {
    let last = std::sync::atomic::AtomicU64::new(0);
    let tell = |done: u64| {
        let before = last.swap(done, std::sync::atomic::Ordering::Relaxed);
        progress.advance(done.saturating_sub(before));
    };
    if to == Container::Gguf {
        let name = model.path.file_stem().map_or("model".into(), |n| n.to_string_lossy());
        let options = export::gguf::Options { name: &name, file_type: file_type(model), split_max_bytes: None };
        return Ok(export::gguf::write(&model.model, &model.tokenizer()?, out, options, &tell)?);
    }
    Ok(write_folder(model, to, out, export::compressed_tensors::MAX_SHARD, &tell)?)
}

/// Writes a container that is a folder.
pub(crate) fn write_folder(
    model: &Imported,
    to: Container,
    out: &Path,
    max_shard: u64,
    progress: export::Progress<'_>,
) -> Result<export::Written, export::ExportError> {
    let target = match to {
        Container::Gptq => Target::Gptq(ZeroPoints::LessOne),
        Container::GptqV2 => Target::Gptq(ZeroPoints::Plain),
        Container::Awq => Target::Awq,
        Container::Gguf | Container::CompressedTensors | Container::Safetensors | Container::Onnx => {
            let written = export::compressed_tensors::write(model, out, max_shard, progress)?;
            return add_tokenizer(model, out).map(|()| written);
        }
    };
    let written = export::transposed::write(model, target, out, max_shard, progress)?;
    add_tokenizer(model, out).map(|()| written)
}

/// A GGUF file has its tokenizer inside, a folder beside.
fn add_tokenizer(model: &Imported, out: &Path) -> Result<(), export::ExportError> {
    if model.metadata.is_none() {
        return Ok(());
    }
    let tokenizer = model.tokenizer()?;
    let token = |id: Option<u32>| id.and_then(|id| tokenizer.inner().id_to_token(id));
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": token(tokenizer.bos()),
        "eos_token": token(tokenizer.eos()), "pad_token": token(tokenizer.pad()),
        "add_bos_token": tokenizer.add_bos(), "add_eos_token": tokenizer.add_eos(),
        "chat_template": tokenizer.chat_template(),
    });
    write_file(&out.join(TOKENIZER), tokenizer.json())?;
    write_file(&out.join(TOKENIZER_CONFIG), format!("{config:#}\n").as_bytes())?;
    Ok(())
}

/// `general.file_type`: that of the preset named as the encoding with the most weights.
fn file_type(model: &Imported) -> u32 {
    let mut elements: BTreeMap<String, usize> = BTreeMap::new();
    for (_, weight) in model.model.weights.iter().filter(|(_, w)| w.shape.len() > 1) {
        *elements.entry(weight.encoding.to_string()).or_default() += weight.elements();
    }
    let most = elements.into_iter().max_by_key(|(_, n)| *n).map(|(name, _)| name);
    match most.and_then(|name| name.parse().ok()) {
        Some(Preset::Mix(mix)) => mix.file_type(),
        _ => 0,
    }
}

/// Checks what was written: every number as it was, everything as loaders expect it.
fn compare(source: &Imported, artifact: &Imported, out: &Path, progress: &dyn Progress) -> Result<(), EngineError> {
    let broken = |source| EngineError::Contract { artifact: out.into(), source };
    let pairs = contract::pairs(&source.model, &artifact.model).map_err(broken)?;
    progress.begin("compare numbers", pairs.len() as u64, Unit::Weights);
    let compared = pairs.par_iter().with_max_len(1).try_for_each(|pair| {
        pair.same_numbers()?;
        progress.advance(1);
        Ok(())
    });
    progress.end();
    compared.map_err(broken)?;
    crate::loader::check(artifact).map_err(broken)?;
    proof::check_tokenizer(&source.tokenizer()?, &artifact.tokenizer()?, proof::SAMPLE).map_err(broken)
}
