//! Promise: every family computes what transformers computes, from every form in which its checkpoints come.

mod common;

use common::{Experts, cases, parse, tensors, tokenizer, write};
use exec::{Executor, Options, Tensor};
use graph::Model;
use std::fs;
use std::path::Path;

const TOKENS: usize = 24;
const TOLERANCE: f32 = 2e-4;

fn logits(model: &Model) -> Vec<f32> {
    model.check().unwrap();
    let graph = model.graph().unwrap();
    let vocab = model.decoder().unwrap().vocab;
    let ids = (0..TOKENS).map(|i| ((37 * i + 11) % vocab) as u32).collect();
    let mut executor: Executor<f32> = Executor::new(graph, &model.weights, Options::default()).unwrap();
    executor.forward(&Tensor::new(vec![1, TOKENS], ids).unwrap()).unwrap().data().to_vec()
}

fn golden(case: &Path) -> Vec<f32> {
    let bytes = fs::read(case.join("logits.f32")).unwrap();
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn open(folder: &Path) -> Model {
    let imported = import::open(folder).unwrap_or_else(|e| panic!("{e}"));
    let long = imported.model.decoder().unwrap().layers.iter().any(|l| l.rope.long.is_some());
    assert_eq!(imported.notes.len(), usize::from(long), "{:?}", imported.notes);
    imported.model
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, case) in cases() {
        let folder = tempfile::tempdir().unwrap();
        let config = case.join("config.json");
        write(folder.path(), &config, &tensors(&config, Experts::Apart), u64::MAX);
        let (worst, _) = testkit::max_abs_difference(&logits(&open(folder.path())), &golden(&case));
        assert!(worst <= TOLERANCE, "{name}: differs by {worst}");
    }
}

#[test]
fn both_forms_of_a_config_say_the_same() {
    for (name, case) in cases() {
        let (old, new) = (parse(&case.join("config.v4.json")).1, parse(&case.join("config.json")).1);
        assert_eq!(old, new, "{name}");
    }
}

#[test]
fn fused_experts_and_shards_change_nothing() {
    for (name, case) in cases() {
        let folder = tempfile::tempdir().unwrap();
        let config = case.join("config.v4.json");
        write(folder.path(), &config, &tensors(&config, Experts::Fused), 60_000);
        assert!(folder.path().join("model.safetensors.index.json").exists());
        let (worst, _) = testkit::max_abs_difference(&logits(&open(folder.path())), &golden(&case));
        assert!(worst <= TOLERANCE, "{name}: differs by {worst}");
    }
}

/// What llama.cpp has no way to say, so that no file is written.
const NOT_IN_GGUF: [&str; 2] = ["gemma2_scaled", "qwen3_moe_mixed"];

#[test]
fn gguf_files_hold_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = vec![];
    for (name, case) in cases() {
        let config = case.join("config.json");
        let source = folder.path().join(&name);
        write(&source, &config, &tensors(&config, Experts::Apart), u64::MAX);
        let model = open(&source);
        let path = folder.path().join(format!("{name}.gguf"));
        let options = export::gguf::Options { name: &name, file_type: 0, split_max_bytes: None };
        match export::gguf::write(&model, &tokenizer(), &path, options, &|_| {}) {
            Ok(_) => {}
            Err(e) => {
                assert!(matches!(e, export::ExportError::NotInLlamaCpp { .. }), "{name}: {e}");
                refused.push(name);
                continue;
            }
        }
        let config = model.decoder().unwrap();
        let window = config.layers.iter().find_map(|l| l.window);
        // Outside Gemma llama.cpp knows no window; tokens agree as long as it would cover all before them.
        let tokens = window.filter(|_| !name.starts_with("gemma")).unwrap_or(TOKENS);
        let (got, expected) = (logits(&open(&path)), golden(&case));
        testkit::assert_close(&got[..tokens * config.vocab], &expected[..tokens * config.vocab], TOLERANCE);
    }
    assert_eq!(refused, NOT_IN_GGUF);
}
