//! Folders written here and opened again: every weight as it was encoded, and a config that says so.

mod common;

use codec::packed::Packed;
use codec::{Encoding, Part};
use common::{INNER, Tensor, WIDTH, damage, encode, open, source};
use export::{ExportError, compressed_tensors};
use formats::hf::QuantizationConfig;
use formats::hf::quantization::Format;
use formats::safetensors::Safetensors;
use graph::{CacheScales, InputQuant, Role};
use import::Imported;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn mixed(role: Role) -> Option<&'static str> {
    Some(match role {
        Role::AttnQ => "int4-g32",
        Role::AttnK => "int8-channel",
        Role::AttnV => "int4-g32-asym",
        Role::AttnOut => "fp8-channel",
        Role::FfnGate | Role::FfnUp => "nvfp4-g16",
        Role::FfnDown => "int3-channel-asym",
        _ => return None,
    })
}

fn write(model: &Imported, out: &Path, max_shard: u64) -> Result<export::Written, ExportError> {
    compressed_tensors::write(model, out, max_shard, &|_| {})
}

fn config(folder: &Path) -> QuantizationConfig {
    let config = formats::hf::Json::open(&folder.join("config.json")).unwrap();
    QuantizationConfig::of(&config.root()).unwrap().unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    encode(&mut model, mixed);
    let out = dir.path().join("packed");
    let written = write(&model, &out, 20_000).unwrap();
    assert!(written.files.len() > 1 && written.files.iter().all(|f| f.is_file()));
    assert_eq!(fs::read(out.join("tokenizer.json")).unwrap(), b"{}");
    let again = open(&out);
    for (_, weight) in model.model.weights.iter() {
        let found = again.model.weights.get(again.model.weights.find(&weight.name).unwrap());
        assert_eq!((found.encoding, found.place), (weight.encoding, weight.place), "{}", weight.name);
        assert_eq!(found.read().unwrap(), weight.read().unwrap(), "{}", weight.name);
    }
    // What was packed is written again without being packed anew.
    let twice = dir.path().join("twice");
    write(&again, &twice, u64::MAX).unwrap();
    let (a, b) = (Safetensors::open(&out).unwrap(), Safetensors::open(&twice).unwrap());
    assert!(a.tensors().iter().all(|t| a.bytes(&t.name) == b.bytes(&t.name)));
    assert_eq!(config(&out), config(&twice));
}

#[test]
fn the_config_names_what_is_packed() {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    encode(&mut model, |role| mixed(role).map(|_| "int4-g32"));
    write(&model, &dir.path().join("one"), u64::MAX).unwrap();
    let one = config(&dir.path().join("one"));
    assert_eq!((one.format, one.config_groups.len()), (Format::PackQuantized, 1));
    assert_eq!(one.ignore, ["lm_head"]);

    let mut model = open(dir.path());
    encode(&mut model, |role| mixed(role).filter(|_| role != Role::AttnK));
    write(&model, &dir.path().join("many"), u64::MAX).unwrap();
    let many = config(&dir.path().join("many"));
    assert_eq!((many.format, many.config_groups.len()), (Format::MixedPrecision, 5));
    assert_eq!(many.config_groups["group_0"].targets.len(), 4, "servers that join layers match classes first");
    assert_eq!(many.config_groups["group_0"].format, Some(Format::Nvfp4PackQuantized));
    assert_eq!(many.ignore, ["model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.k_proj", "lm_head"]);
    let fp8 = many.config_groups.values().find(|g| g.format == Some(Format::FloatQuantized)).unwrap();
    assert_eq!(fp8.targets, ["model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj"]);
}

#[test]
fn refuses_what_the_folder_cannot_hold() {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    encode(&mut model, |role| (role == Role::AttnQ).then_some("q8_0"));
    let error = write(&model, &dir.path().join("out"), u64::MAX).unwrap_err();
    assert!(
        matches!(&error, ExportError::Encoding { weight, .. } if weight == "model.layers.0.self_attn.q_proj.weight")
    );
    let model = open(dir.path());
    assert!(write(&model, dir.path(), u64::MAX).unwrap_err().to_string().contains("exists already"));
    let partial = fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(partial, 0, "something was left behind");
}

/// What opening says after the tensors of packed q projections were changed.
fn damaged(of: impl Fn(&mut Vec<Tensor>)) -> String {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    encode(&mut model, |role| (role == Role::AttnQ).then_some("int4-g32"));
    let out = dir.path().join("packed");
    write(&model, &out, u64::MAX).unwrap();
    damage(&out, of)
}

#[test]
fn damage_is_named() {
    const PACKED: &str = "model.layers.1.self_attn.q_proj.weight_packed";
    const SHAPE: &str = "model.layers.1.self_attn.q_proj.weight_shape";
    assert_eq!(damaged(|_| ()), "");
    let missing = damaged(|tensors| tensors.retain(|(t, _)| t.name != PACKED));
    assert!(missing.contains(&format!("tensor `{PACKED}` is missing")), "{missing}");
    let find = |tensors: &mut Vec<Tensor>, name: &str| tensors.iter().position(|(t, _)| t.name == name).unwrap();
    let contradicting = damaged(|tensors| {
        let at = find(tensors, SHAPE);
        tensors[at].1[0] = 32;
    });
    assert!(
        contradicting.contains(PACKED) && contradicting.contains("its encoding needs I32 [32, 8]"),
        "{contradicting}"
    );
    let absurd = damaged(|tensors| {
        let at = find(tensors, SHAPE);
        tensors[at].1.fill(0x7f);
    });
    assert!(absurd.contains("model.layers.1.self_attn.q_proj"), "{absurd}");
}

/// Fused weights share the range of both; what the folder holds is then what [`Packed::encode`] made.
#[test]
fn parts_of_a_caller_are_written_as_they_are() {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    let id = model.model.weights.find("model.layers.0.mlp.gate_proj.weight").unwrap();
    let weight = model.model.weights.get(id).clone();
    let data = weight.read().unwrap();
    let matrix = codec::Matrix { rows: INNER, cols: WIDTH, data: &data };
    let parts: Vec<Part> = Packed::Nvfp4.encode(matrix, Some(codec::packed::Range::of(&[4.0]))).unwrap();
    let global = parts.last().unwrap().bytes.clone();
    let source = Arc::new(graph::Buffer::new(weight.name.clone(), INNER, parts));
    model.model.weights.replace(id, Encoding::Packed(Packed::Nvfp4), weight.shape.clone(), source);
    let out = dir.path().join("out");
    write(&model, &out, u64::MAX).unwrap();
    let all = Safetensors::open(&out).unwrap();
    assert_eq!(all.bytes("model.layers.0.mlp.gate_proj.weight_global_scale"), Some(&global[..]));
}

/// Calibrated numbers of inputs and of the cache come back, and their kinds stand in the config.
#[test]
fn how_the_model_is_run_is_written_and_read_back() {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    encode(&mut model, |role| match role {
        Role::AttnQ | Role::AttnK | Role::AttnV => Some("fp8-tensor"),
        Role::AttnOut => Some("int8-channel-bytes"),
        Role::FfnGate | Role::FfnUp => Some("nvfp4-g16"),
        Role::FfnDown => Some("mxfp4-g32"),
        _ => None,
    });
    let inputs = model.model.weights.iter().filter_map(|(id, weight)| {
        let input = match weight.place.role {
            Role::AttnQ | Role::AttnK | Role::AttnV => InputQuant::Fp8 { scale: 0.0 }.calibrated(5.0),
            Role::AttnOut => InputQuant::Int8PerToken,
            Role::FfnGate | Role::FfnUp => InputQuant::Nvfp4 { global: 0.0 }.calibrated(3.0),
            Role::FfnDown => InputQuant::Mxfp4,
            _ => return None,
        };
        Some((id, input))
    });
    model.model.weights.run.inputs = inputs.collect();
    model.model.weights.run.cache = (0..2).map(|l| (l, CacheScales { key: 0.5 + l as f32, value: 0.25 })).collect();
    let out = dir.path().join("out");
    write(&model, &out, u64::MAX).unwrap();
    assert_eq!(open(&out).model.weights.run, model.model.weights.run);
    let all = Safetensors::open(&out).unwrap();
    let scale = all.bytes("model.layers.1.self_attn.q_proj.input_scale").unwrap();
    assert_eq!(scale, (5.0f32 / 448.0).to_le_bytes());
    assert_eq!(all.bytes("model.layers.1.self_attn.k_scale").unwrap(), 1.5f32.to_le_bytes());
    let told = config(&out);
    assert_eq!((told.config_groups.len(), told.kv_cache_scheme.map(|s| s.num_bits)), (4, Some(8)));

    let id = model.model.weights.find("model.layers.0.self_attn.q_proj.weight").unwrap();
    model.model.weights.run.inputs.insert(id, InputQuant::Fp8 { scale: 0.0 });
    let error = write(&model, &dir.path().join("never"), u64::MAX).unwrap_err();
    assert!(
        matches!(&error, ExportError::Uncalibrated { tensor, .. } if tensor.ends_with("q_proj.input_scale")),
        "{error}"
    );
}
