//! GGUF for llama.cpp: keys, tokenizer, tensors under llama.cpp's names.
//!
//! Differences from a Hugging Face checkpoint that the file has to have:
//! - rows of query and key matrices interleaved, in the architectures that llama.cpp calls `llama` ([`tensors`]);
//! - experts of a layer stacked into one tensor;
//! - norm weights with their offset added (Gemma);
//! - vectors in F32.
//!
//! Source: llama.cpp's `conversion/` and `src/models/`.

mod keys;
mod tensors;
mod vocabulary;

use crate::stream::{self, Parts};
use crate::{ExportError, Progress, Written};
use formats::gguf::{Metadata, TensorSpec, Writer};
use graph::{Body, DecoderConfig, Model};
use import::arch::{self, Arch};
use import::tokenizer::Tokenizer;
use std::path::Path;
use tensors::Tensor;

const CONTAINER: &str = "GGUF";

/// What the caller decides.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// `general.name`.
    pub name: &'a str,
    /// `general.file_type`: llama.cpp's number for the mix of encodings.
    pub file_type: u32,
    /// Files with at most so many bytes of tensors, where one tensor is not larger.
    pub split_max_bytes: Option<u64>,
}

/// Writes a model to `path`, or to the files of a split beside it. Nothing that exists is overwritten.
pub fn write(
    model: &Model,
    tokenizer: &Tokenizer,
    path: &Path,
    options: Options<'_>,
    progress: Progress<'_>,
) -> Result<Written, ExportError> {
    let (config, arch) = decoder(model)?;
    let metadata = metadata(config, arch, tokenizer, options)?;
    let tensors = tensors::all(model, config, arch)?;
    let specs: Vec<TensorSpec> = tensors.iter().map(Tensor::spec).collect();
    let mut writer = match options.split_max_bytes {
        None => Writer::file(path, &metadata, &specs)?,
        Some(max) => Writer::split(path, &metadata, &specs, max)?,
    };
    let bytes = copy(&tensors, &mut writer, progress)?;
    let files = writer.paths().map(Path::to_owned).collect();
    writer.finish()?;
    Ok(Written { files, tensors: specs.len(), bytes, notes: keys::notes(config, arch) })
}

/// Bytes of the files that [`write`] would write.
pub fn bytes(model: &Model, tokenizer: &Tokenizer, path: &Path, options: Options<'_>) -> Result<u64, ExportError> {
    let (config, arch) = decoder(model)?;
    let metadata = metadata(config, arch, tokenizer, options)?;
    let specs: Vec<TensorSpec> = tensors::all(model, config, arch)?.iter().map(Tensor::spec).collect();
    Ok(Writer::bytes(path, &metadata, &specs, options.split_max_bytes)?)
}

/// The keys, the tokenizer's among them.
fn metadata(
    config: &DecoderConfig,
    arch: &'static Arch,
    tokenizer: &Tokenizer,
    options: Options<'_>,
) -> Result<Metadata, ExportError> {
    let problems = keys::obstacles(config, arch);
    if !problems.is_empty() {
        return Err(ExportError::NotInLlamaCpp { problems });
    }
    let mut metadata = keys::metadata(config, arch, &options);
    vocabulary::add(&mut metadata, tokenizer, config.vocab)?;
    Ok(metadata)
}

fn decoder(model: &Model) -> Result<(&DecoderConfig, &'static Arch), ExportError> {
    let unknown = |reason: &str| ExportError::UnknownArchitecture { reason: reason.to_owned() };
    match &model.body {
        Body::Decoder { config, .. } => {
            let arch = arch::by_model_type(&config.family).ok_or_else(|| unknown(&config.family))?;
            Ok((config, arch))
        }
        Body::Network { .. } => Err(unknown("not a decoder language model")),
        Body::Unknown { reason } => Err(unknown(reason)),
    }
}

/// Streams every tensor; returns the bytes written.
fn copy(tensors: &[Tensor], writer: &mut Writer, progress: Progress<'_>) -> Result<u64, ExportError> {
    let weights = tensors.iter().enumerate().flat_map(|(i, t)| t.pieces.iter().map(move |w| (i, w)));
    let pieces = stream::pieces(weights);
    let mut done = 0;
    stream::run(&pieces, |tensor, parts: Parts<'_>| {
        for bytes in parts {
            writer.append(&tensors[tensor].name, &bytes)?;
            done += bytes.len() as u64;
        }
        progress(done);
        Ok::<_, ExportError>(())
    })?;
    Ok(done)
}
