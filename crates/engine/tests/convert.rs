//! Conversions end to end: the same numbers in every container, and errors that say why not.

mod common;

use codec::Encoding;
use common::{text, write_model};
use engine::{EngineError, Options, Quiet, Text, compress, convert, plan};
use formats::safetensors::Safetensors;
use import::Imported;
use plan::{Container, Recipe};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The small model, compressed into a folder.
fn packed(dir: &TempDir, preset: &str, format: &str) -> PathBuf {
    let (source, out) = (dir.path().join("model"), dir.path().join("packed"));
    write_model(&source);
    let model = open(&source);
    let recipe = format!("preset = \"{preset}\"\n[output]\nformat = \"{format}\"\n");
    let text = Text { name: "days".into(), text: text() };
    let options = Options { threads: Some(2), text: Some(&text), ..Options::default() };
    let plan = plan(&model, &Recipe::parse(&recipe).unwrap(), &options).unwrap();
    compress(&model, &plan, &out, &options, &Quiet).unwrap_or_else(|e| panic!("{preset}: {e}"));
    out
}

fn open(path: &Path) -> Imported {
    import::open(path).unwrap_or_else(|e| panic!("{e}"))
}

fn to(from: &Path, container: Container, out: &str) -> Result<PathBuf, EngineError> {
    let out = from.with_file_name(out);
    convert(&open(from), container, &out, &Options { threads: Some(2), ..Options::default() }, &Quiet)?;
    Ok(out)
}

/// What the first projection is encoded as.
fn encoding(path: &Path) -> String {
    let model = open(path).model;
    let place = graph::Place::layer(0, graph::Role::AttnQ);
    model.weights.get(model.weights.at(place).unwrap()).encoding.to_string()
}

#[test]
fn numbers_stay_the_same_around_all_containers() {
    let dir = TempDir::new().unwrap();
    let gptq = packed(&dir, "w4a16-g32", "gptq");
    assert_eq!(encoding(&gptq), "int4-g32-f16");
    let gguf = to(&gptq, Container::Gguf, "model.gguf").unwrap();
    assert_eq!(encoding(&gguf), "q4_0");
    let again = to(&gguf, Container::Gptq, "again").unwrap();
    let (a, b) = (Safetensors::open(&gptq).unwrap(), Safetensors::open(&again).unwrap());
    let packed = a.tensors().iter().filter(|t| !t.name.ends_with(".weight"));
    assert!(packed.clone().count() > 40);
    packed.for_each(|t| assert_eq!(a.bytes(&t.name), b.bytes(&t.name), "{}", t.name));
    let awq = to(&again, Container::Awq, "awq").unwrap();
    let v2 = to(&awq, Container::GptqV2, "v2").unwrap();
    let ct = to(&v2, Container::CompressedTensors, "ct").unwrap();
    let plain = to(&ct, Container::Safetensors, "plain").unwrap();
    assert_eq!(encoding(&ct), "int4-g32-f16");
    assert!(matches!(encoding(&plain).parse().unwrap(), Encoding::Plain(_)));
    for (_, weight) in open(&gptq).model.weights.iter() {
        let model = open(&plain).model;
        let other = model.weights.get(model.weights.find(&weight.name).unwrap());
        assert_eq!(weight.read().unwrap(), other.read().unwrap(), "{}", weight.name);
    }
}

#[test]
fn asymmetric_and_eight_bit_weights_find_blocks_that_hold_them() {
    for (preset, blocks) in [("w8a16", "q8_0"), ("w8a8", "q8_0")] {
        let dir = TempDir::new().unwrap();
        let folder = packed(&dir, preset, "compressed-tensors");
        assert_eq!(encoding(&to(&folder, Container::Gguf, "model.gguf").unwrap()), blocks, "{preset}");
    }
    let dir = TempDir::new().unwrap();
    let folder = packed(&dir, "w4a16-asym", "gptq-v2");
    let gguf = to(&folder, Container::Gguf, "model.gguf").unwrap();
    assert!(["q4_1", "q5_0"].contains(&encoding(&gguf).as_str()));
    // Groups of 64 and of 32 become alike, as AWQ has one size.
    assert_eq!(encoding(&folder), "int4-g64-asym-f16");
    assert_eq!(encoding(&to(&folder, Container::Awq, "awq").unwrap()), "int4-g32-asym-f16");
}

#[test]
fn what_cannot_be_repacked_says_why() {
    let dir = TempDir::new().unwrap();
    let fp8 = packed(&dir, "fp8-dynamic", "compressed-tensors");
    for container in [Container::Gguf, Container::Gptq, Container::Awq] {
        let error = to(&fp8, container, "never").unwrap_err();
        assert!(matches!(&error, EngineError::Inexact { weight, .. } if weight.contains("proj")), "{error}");
        assert!(error.to_string().contains("tinier compress"), "{error}");
    }
    let dir = TempDir::new().unwrap();
    let eight = packed(&dir, "w8a16", "gptq-v2");
    assert!(to(&eight, Container::Awq, "never").is_err());
    assert!(!eight.with_file_name("never").exists());
}
