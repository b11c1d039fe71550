//! Folders written here and opened again: every weight as it was encoded, and a config that says so.

use codec::packed::Packed;
use codec::{Dtype, Encoding, Part};
use export::{ExportError, compressed_tensors};
use formats::hf::QuantizationConfig;
use formats::hf::quantization::Format;
use formats::safetensors::{Safetensors, TensorSpec, Writer};
use graph::{Encoded, Role};
use import::Imported;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const WIDTH: usize = 64;
const INNER: usize = 96;

/// A random decoder of two layers in bf16, its head tied.
fn source(folder: &Path) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 40,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let mut tensors = vec![("embed_tokens".to_owned(), vec![40, WIDTH]), ("norm".to_owned(), vec![WIDTH])];
    for layer in 0..2 {
        let matrices = [
            ("input_layernorm", vec![WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
            ("self_attn.q_proj", vec![WIDTH, WIDTH]),
            ("self_attn.k_proj", vec![WIDTH / 2, WIDTH]),
            ("self_attn.v_proj", vec![WIDTH / 2, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, WIDTH]),
            ("mlp.gate_proj", vec![INNER, WIDTH]),
            ("mlp.up_proj", vec![INNER, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, INNER]),
        ];
        tensors.extend(matrices.map(|(name, shape)| (format!("layers.{layer}.{name}"), shape)));
    }
    let specs: Vec<TensorSpec> = tensors
        .into_iter()
        .map(|(name, shape)| TensorSpec { name: format!("model.{name}.weight"), dtype: Dtype::BF16, shape })
        .collect();
    let mut writer = Writer::folder(folder, &specs, u64::MAX).unwrap();
    let mut state = 1u32;
    for spec in &specs {
        let number = |_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            half_bits(state as f32 / u32::MAX as f32 - 0.5)
        };
        let bytes: Vec<u8> = (0..spec.shape.iter().product::<usize>()).flat_map(number).collect();
        writer.write(&spec.name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn half_bits(v: f32) -> [u8; 2] {
    half::bf16::from_f32(v).to_le_bytes()
}

/// Gives every matrix whose role has one another encoding.
fn encode(model: &mut Imported, of: impl Fn(Role) -> Option<&'static str>) {
    let weights = &mut model.model.weights;
    let all: Vec<_> = weights.iter().map(|(id, w)| (id, w.clone())).collect();
    for (id, weight) in all {
        let Some(name) = of(weight.place.role) else { continue };
        let encoding: Encoding = name.parse().unwrap();
        let encoded = Encoded::new(weight.clone(), encoding, None, Encoding::encode);
        weights.replace(id, encoding, weight.shape.clone(), Arc::new(encoded));
    }
}

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

fn open(folder: &Path) -> Imported {
    import::open(folder).unwrap_or_else(|e| panic!("{e}"))
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
    assert_eq!(many.config_groups["group_0"].targets, ["Linear"]);
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

/// Writes the q projections of a one-tensor-per-part folder again, with one part changed or left out.
fn damaged(of: impl Fn(&mut Vec<(TensorSpec, Vec<u8>)>)) -> String {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    encode(&mut model, |role| (role == Role::AttnQ).then_some("int4-g32"));
    let out = dir.path().join("packed");
    write(&model, &out, u64::MAX).unwrap();
    let all = Safetensors::open(&out).unwrap();
    let spec = |t: &formats::safetensors::TensorInfo| TensorSpec {
        name: t.name.clone(),
        dtype: t.dtype,
        shape: t.shape.clone(),
    };
    let mut tensors: Vec<_> = all.tensors().iter().map(|t| (spec(t), all.bytes(&t.name).unwrap().to_vec())).collect();
    of(&mut tensors);
    fs::remove_file(out.join("model.safetensors")).unwrap();
    let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let mut writer = Writer::folder(&out, &specs, u64::MAX).unwrap();
    tensors.iter().for_each(|(spec, bytes)| writer.write(&spec.name, bytes).unwrap());
    writer.finish().unwrap();
    let opened = import::open(&out);
    opened.err().map_or(String::new(), |e| e.to_string())
}

#[test]
fn damage_is_named() {
    const PACKED: &str = "model.layers.1.self_attn.q_proj.weight_packed";
    const SHAPE: &str = "model.layers.1.self_attn.q_proj.weight_shape";
    assert_eq!(damaged(|_| ()), "");
    let missing = damaged(|tensors| tensors.retain(|(t, _)| t.name != PACKED));
    assert!(missing.contains(&format!("tensor `{PACKED}` is missing")), "{missing}");
    let find = |tensors: &mut Vec<(TensorSpec, Vec<u8>)>, name: &str| {
        tensors.iter().position(|(t, _)| t.name == name).unwrap()
    };
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
