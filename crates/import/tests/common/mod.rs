//! Tiny random decoders: a folder from a config, with weights that are a function of their names.

// Every test file uses a part of it.
#![allow(dead_code)]

use formats::hf::Json;
use formats::safetensors::{TensorSpec, Writer};
use graph::{DecoderConfig, Role};
use import::tokenizer::Tokenizer;
use import::{Arch, Parsed};
use std::fs;
use std::path::{Path, PathBuf};

/// A tensor to write.
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// How a checkpoint holds experts.
#[derive(Clone, Copy, PartialEq)]
pub enum Experts {
    /// One tensor each.
    Apart,
    /// All of a layer in one tensor, gate and up together.
    Fused,
}

/// The golden cases, by name.
pub fn cases() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(testkit::golden_dir("logits")).unwrap().map(|e| e.unwrap().path());
    let named = |p: PathBuf| (p.file_name().unwrap().to_string_lossy().into_owned(), p);
    let mut all: Vec<_> = entries.filter(|p| p.is_dir()).map(named).collect();
    all.sort();
    assert!(all.len() >= 14, "golden cases are missing");
    all
}

/// What a config file says.
pub fn parse(file: &Path) -> (&'static Arch, DecoderConfig) {
    match import::parse_config(&Json::open(file).unwrap(), file) {
        Ok(Parsed::Decoder(arch, config)) => (arch, config),
        Ok(Parsed::Unknown { reason }) => panic!("{}: {reason}", file.display()),
        Err(problems) => panic!("{problems:?}"),
    }
}

/// Every tensor that a checkpoint of this config has.
pub fn tensors(config_file: &Path, experts: Experts) -> Vec<Tensor> {
    let (arch, config) = parse(config_file);
    let mut all: Vec<Tensor> = Vec::new();
    for (place, shape) in import::places(&config) {
        let name = arch.hf_name(place).unwrap();
        let data = testkit::weight_value(&name, shape.iter().product(), config.norm_offset != 0.0);
        let (Some(layer), Some(number), Experts::Fused) = (place.layer, place.expert, experts) else {
            all.push(Tensor { name, shape, data });
            continue;
        };
        // Experts come in order, gate before up before down.
        let (fused, rows) = match place.role {
            Role::ExpertDown => ("down_proj", shape[0]),
            _ => ("gate_up_proj", 2 * shape[0]),
        };
        let name = format!("model.layers.{layer}.mlp.experts.{fused}");
        match all.iter_mut().find(|t| t.name == name) {
            None => all.push(Tensor { name, shape: vec![1, rows, shape[1]], data }),
            Some(stack) => {
                stack.shape[0] = number + 1;
                stack.data.extend(data);
            }
        }
    }
    all
}

/// Writes a folder; more than one file where `max_shard` is small.
pub fn write(folder: &Path, config_file: &Path, tensors: &[Tensor], max_shard: u64) {
    fs::create_dir_all(folder).unwrap();
    fs::copy(config_file, folder.join("config.json")).unwrap();
    let spec = |t: &Tensor| TensorSpec { name: t.name.clone(), dtype: codec::Dtype::F32, shape: t.shape.clone() };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    let mut writer = Writer::folder(folder, &specs, max_shard).unwrap();
    for tensor in tensors {
        let bytes: Vec<u8> = tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write(&tensor.name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// A tokenizer that GGUF can hold.
pub fn tokenizer() -> Tokenizer {
    let letters = ('a'..='z').enumerate().map(|(i, c)| format!("\"{c}\": {}", i + 3)).collect::<Vec<_>>().join(", ");
    let special = |id: usize, token: &str| {
        format!(
            r#"{{"id": {id}, "content": "{token}", "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false}}"#
        )
    };
    let added = ["<unk>", "<s>", "</s>"].iter().enumerate().map(|(id, token)| special(id, token));
    let added = added.collect::<Vec<_>>().join(", ");
    let replace = |from: &str, to: &str| {
        format!(r#"{{"type": "Replace", "pattern": {{"String": "{from}"}}, "content": "{to}"}}"#)
    };
    let (normalizer, space) = (replace(" ", "\u{2581}"), replace("\u{2581}", " "));
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [{added}], "normalizer": {normalizer}, "pre_tokenizer": null,
        "post_processor": null, "decoder": {{"type": "Sequence",
        "decoders": [{space}, {{"type": "ByteFallback"}}, {{"type": "Fuse"}}]}},
        "model": {{"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
        "vocab": {{"<unk>": 0, "<s>": 1, "</s>": 2, {letters}}}, "merges": []}}}}"#
    );
    Tokenizer::from_json(Path::new("tokenizer.json"), json.into()).unwrap()
}
