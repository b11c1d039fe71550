//! Promise: what contradicts itself is refused, every problem is named with file and tensor, and nothing panics.

mod common;

use common::{Experts, Tensor, cases, tensors, write};
use import::{Imported, Problem};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn case(name: &str) -> PathBuf {
    cases().into_iter().find(|(n, _)| n == name).unwrap().1.join("config.v4.json")
}

/// Opens the case's folder after its config and tensors were changed.
fn open_changed(
    name: &str,
    experts: Experts,
    change: impl Fn(&mut Value, &mut Vec<Tensor>),
) -> (tempfile::TempDir, Result<Imported, import::ImportError>) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = tensors(&case(name), experts);
    let mut config = serde_json::from_slice(&fs::read(case(name)).unwrap()).unwrap();
    change(&mut config, &mut all);
    let file = folder.path().join("changed.json");
    fs::write(&file, config.to_string()).unwrap();
    let inner = folder.path().join("model");
    write(&inner, &file, &all, u64::MAX);
    let opened = import::open(&inner);
    (folder, opened)
}

fn problems(name: &str, change: impl Fn(&mut Value, &mut Vec<Tensor>)) -> Vec<Problem> {
    let (_folder, opened) = open_changed(name, Experts::Apart, change);
    opened.err().expect("an error").problems
}

#[test]
fn every_wrong_tensor_is_named() {
    let found = problems("llama", |_, tensors| {
        tensors.retain(|t| !t.name.contains("layers.1.mlp.up_proj"));
        let wide = tensors.iter_mut().find(|t| t.name.contains("layers.0.mlp.down_proj")).unwrap();
        wide.shape.reverse();
        tensors.iter_mut().find(|t| t.name == "model.norm.weight").unwrap().name = "norm.weight".into();
    });
    let texts: Vec<String> = found.iter().map(Problem::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:#?}");
    assert!(texts[0].contains("`model.norm.weight` is missing"), "{texts:#?}");
    assert!(texts[1].contains("model.safetensors: tensor `model.layers.0.mlp.down_proj.weight` has shape [96, 64], the config says [64, 96]"), "{texts:#?}");
    assert!(texts[2].contains("`model.layers.1.mlp.up_proj.weight` is missing"), "{texts:#?}");
}

#[test]
fn a_tensor_inside_the_decoder_that_the_config_forgets_is_an_error() {
    let found = problems("llama_3", |config, _| config["mlp_bias"] = json!(false));
    assert!(matches!(&found[..], [Problem::Unexpected { tensor, .. }, ..] if tensor.contains("mlp")), "{found:?}");
    let found = problems("llama", |config, _| config["num_hidden_layers"] = json!(2));
    assert!(matches!(&found[..], [Problem::Unexpected { tensor, .. }, ..] if tensor.contains("layers.2")), "{found:?}");
}

#[test]
fn a_tensor_outside_the_decoder_is_carried_and_told() {
    let vision = || Tensor { name: "vision_tower.proj.weight".into(), shape: vec![2, 2], data: vec![1.0; 4] };
    let head = |vocab| Tensor { name: "lm_head.weight".into(), shape: vec![vocab, 64], data: vec![0.0; vocab * 64] };
    let (_folder, opened) = open_changed("llama", Experts::Apart, |_, tensors| tensors.extend([vision(), head(96)]));
    let imported = opened.unwrap();
    assert_eq!(imported.notes.len(), 2, "{:?}", imported.notes);
    assert!(imported.model.weights.find("vision_tower.proj.weight").is_some());
    assert!(imported.model.weights.find("lm_head.weight").is_none());
}

#[test]
fn absurd_configs_are_refused_before_anything_is_allocated() {
    let absurd: [(&str, Value); 12] = [
        ("num_hidden_layers", json!(4_000_000_000u64)),
        ("num_hidden_layers", json!(4096)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(-4)),
        ("num_attention_heads", json!(268_435_456)),
        ("num_key_value_heads", json!(3)),
        ("hidden_size", json!(u64::MAX)),
        ("head_dim", json!(15)),
        ("head_dim", json!(4096)),
        ("vocab_size", json!("many")),
        ("rope_theta", json!(-1.0)),
        ("rope_scaling", json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": "long"})),
    ];
    for (key, value) in absurd {
        let found = problems("llama", |config, _| config[key] = value.clone());
        assert!(!found.is_empty() && found.len() <= 40, "{key} = {value}: {}", found.len());
    }
}

#[test]
fn absurd_numbers_of_experts_are_refused_in_both_forms() {
    for (form, expected) in
        [(Experts::Apart, "experts.6.gate_proj.weight` is missing"), (Experts::Fused, "[4096, 192, 64]")]
    {
        let (_folder, opened) = open_changed("olmoe", form, |config, _| config["num_experts"] = json!(4096));
        let found = opened.err().expect("an error").problems;
        assert!(found.len() <= 40, "{}", found.len());
        assert!(found.iter().any(|p| p.to_string().contains(expected)), "{found:?}");
    }
}

#[test]
fn every_problem_of_a_config_is_listed() {
    let found = problems("llama", |config, _| {
        config["hidden_size"] = json!(0);
        config["vocab_size"] = json!(null);
        config["hidden_act"] = json!(7);
    });
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn what_is_unknown_keeps_its_weights_and_says_why() {
    let unknown: [(&str, &str, Value, &str); 4] = [
        ("llama", "model_type", json!("mamba"), "architecture `mamba`"),
        ("llama", "hidden_act", json!("relu6"), "hidden_act = relu6"),
        ("llama", "rope_scaling", json!({"rope_type": "spiral"}), "rope_type = spiral"),
        ("olmoe", "clip_qkv", json!(8.0), "clip_qkv"),
    ];
    for (name, key, value, expected) in unknown {
        let (_folder, opened) = open_changed(name, Experts::Apart, |config, _| config[key] = value.clone());
        let model = opened.unwrap().model;
        let graph::Body::Unknown { reason } = &model.body else { panic!("{key}: known") };
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(model.weights.len(), tensors(&case(name), Experts::Apart).len());
    }
}

#[test]
fn numbers_that_are_none_are_found_with_their_place() {
    let (_folder, opened) = open_changed("llama", Experts::Apart, |_, tensors| {
        let t = tensors.iter_mut().find(|t| t.name.contains("layers.2.mlp.down_proj")).unwrap();
        t.data[96 * 5 + 7] = f32::NAN;
    });
    let found = import::check_finite(&opened.unwrap().model, Path::new("model"));
    let [problem] = &found[..] else { panic!("{found:?}") };
    let text = problem.to_string();
    assert!(text.contains("model.layers.2.mlp.down_proj.weight") && text.contains("row 5, column 7"), "{text}");
}

#[test]
fn paths_that_hold_no_model_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let first = |path: &Path| import::open(path).err().unwrap().problems.remove(0);
    assert!(matches!(first(&folder.path().join("nothing")), Problem::NotFound(_)));
    fs::write(folder.path().join("notes.txt"), "text").unwrap();
    assert!(matches!(first(&folder.path().join("notes.txt")), Problem::NotAModel(_)));
    fs::write(folder.path().join("cut.gguf"), "GGUF\u{3}").unwrap();
    assert!(matches!(first(&folder.path().join("cut.gguf")), Problem::Gguf(_)));
    assert!(matches!(first(folder.path()), Problem::Config(_)));
}
