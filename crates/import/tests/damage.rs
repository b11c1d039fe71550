//! Promise: whatever bytes a header holds, opening ends in a model or an error.

mod common;

use common::{Experts, cases, tensors, tokenizer, write};
use std::fs;
use std::path::Path;

/// Opens `file`'s model once for each of `count` damages to its first bytes.
fn damage(file: &Path, model: &Path, count: usize) {
    let sound = fs::read(file).unwrap();
    let reach = sound.len().min(6_000);
    let random = |name: &str| testkit::values(name, count, 1.0).into_iter().map(|v| (v + 128.0) as usize);
    let places = random("high").zip(random("low")).map(|(high, low)| (high * 256 + low) % reach);
    let mut opened = 0;
    for (place, byte) in places.zip(random("byte")) {
        let mut bytes = sound.clone();
        bytes[place] = byte as u8;
        fs::write(file, bytes).unwrap();
        opened += usize::from(import::open(model).is_ok_and(|m| m.model.check().is_ok()));
    }
    fs::write(file, sound).unwrap();
    assert!(import::open(model).is_ok());
    assert!(opened < count, "no damage was noticed");
}

#[test]
fn damaged_headers_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    for (name, case) in cases().into_iter().filter(|(name, _)| ["gemma3", "phi3_long", "mixtral"].contains(&&name[..]))
    {
        let (source, path) = (folder.path().join(&name), folder.path().join(format!("{name}.gguf")));
        let config = case.join("config.json");
        write(&source, &config, &tensors(&config, Experts::Apart), u64::MAX);
        let model = import::open(&source).unwrap().model;
        let options = export::gguf::Options { name: &name, file_type: 0, split_max_bytes: None };
        export::gguf::write(&model, &tokenizer(), &path, options, &|_| {}).unwrap();
        damage(&path, &path, 400);
        damage(&source.join("config.json"), &source, 400);
        damage(&source.join("model.safetensors"), &source, 200);
    }
}
