//! GPTQ and AWQ folders written here and opened again, and what is wrong with damaged ones.

mod common;

use codec::Dtype;
use codec::packed::ZeroPoints;
use common::{Tensor, damage, encode, open, source};
use export::ExportError;
use export::transposed::{Target, write};
use formats::safetensors::Safetensors;
use graph::Role;
use import::Imported;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const V1: Target = Target::Gptq(ZeroPoints::LessOne);
const V2: Target = Target::Gptq(ZeroPoints::Plain);

/// Every linear layer of the folder's model in one encoding.
fn model(dir: &Path, encoding: &'static str) -> Imported {
    source(dir);
    let mut model = open(dir);
    encode(&mut model, |role| linear(role).then_some(encoding));
    model
}

fn linear(role: Role) -> bool {
    use Role::{AttnK, AttnOut, AttnQ, AttnV, FfnDown, FfnGate, FfnUp};
    [AttnQ, AttnK, AttnV, AttnOut, FfnGate, FfnUp, FfnDown].contains(&role)
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
}

fn quantization(folder: &Path) -> Value {
    config(folder)["quantization_config"].clone()
}

fn same_numbers(a: &Imported, b: &Imported) {
    for (_, weight) in a.model.weights.iter() {
        let other = b.model.weights.get(b.model.weights.find(&weight.name).unwrap());
        assert_eq!(weight.read().unwrap(), other.read().unwrap(), "{}", weight.name);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let encodings = [
        (V1, "int4-g32-f16"),
        (V1, "int2-g32-f16"),
        (V1, "int3-g32-f16"),
        (V1, "int8-channel-f16"),
        (V2, "int4-g32-asym-f16"),
        (V2, "int3-channel-asym-f16"),
        (Target::Awq, "int4-g32-f16"),
        (Target::Awq, "int4-g32-asym-f16"),
    ];
    for (target, encoding) in encodings {
        let dir = TempDir::new().unwrap();
        let model = model(dir.path(), encoding);
        let (out, twice) = (dir.path().join("out"), dir.path().join("twice"));
        write(&model, target, &out, u64::MAX, &|_| {}).unwrap_or_else(|e| panic!("{encoding}: {e}"));
        let again = open(&out);
        same_numbers(&model, &again);
        for (_, weight) in model.model.weights.iter() {
            let found = again.model.weights.get(again.model.weights.find(&weight.name).unwrap());
            assert_eq!((found.encoding, found.place), (weight.encoding, weight.place), "{}", weight.name);
        }
        write(&again, target, &twice, u64::MAX, &|_| {}).unwrap();
        let (a, b) = (Safetensors::open(&out).unwrap(), Safetensors::open(&twice).unwrap());
        assert!(a.tensors().iter().all(|t| a.bytes(&t.name) == b.bytes(&t.name)));
        assert_eq!(config(&out), config(&twice));
        assert_eq!(config(&out)["torch_dtype"], "float16");
        assert_eq!(out.join("quantize_config.json").exists(), target != Target::Awq);
    }
}

#[test]
fn the_config_says_what_differs() {
    let dir = TempDir::new().unwrap();
    source(dir.path());
    let mut model = open(dir.path());
    encode(&mut model, |role| match role {
        Role::FfnDown => Some("int8-g32-f16"),
        Role::AttnK => None,
        role => linear(role).then_some("int4-g32-f16"),
    });
    let out = dir.path().join("out");
    write(&model, V1, &out, u64::MAX, &|_| {}).unwrap();
    let told = quantization(&out);
    assert_eq!((&told["bits"], &told["group_size"], &told["sym"]), (&json!(4), &json!(32), &json!(true)));
    assert_eq!(told["dynamic"]["+:^model\\.layers\\.1\\.mlp\\.down_proj$"], json!({"bits": 8, "group_size": 32}));
    for module in ["k_proj", "qkv_proj"] {
        assert_eq!(told["dynamic"][format!("-:^model\\.layers\\.0\\.self_attn\\.{module}$")], json!({}), "{module}");
    }
    same_numbers(&model, &open(&out));
    // An older checkpoint has its config in a file of its own.
    let mut bare = config(&out);
    bare.as_object_mut().unwrap().remove("quantization_config");
    fs::write(out.join("config.json"), bare.to_string()).unwrap();
    same_numbers(&model, &open(&out));
    let error = write(&model, Target::Awq, &dir.path().join("awq"), u64::MAX, &|_| {}).unwrap_err();
    assert!(matches!(error, ExportError::Encoding { .. }), "{error}");
}

#[test]
fn refuses_what_the_folder_cannot_hold() {
    for (target, encoding) in [
        (V1, "int5-g32-f16"),
        (V1, "int4-g32"),
        (V1, "fp8-channel"),
        (V1, "int4-tensor-f16"),
        (Target::Awq, "int8-g32-f16"),
    ] {
        let dir = TempDir::new().unwrap();
        let error =
            write(&model(dir.path(), encoding), target, &dir.path().join("out"), u64::MAX, &|_| {}).unwrap_err();
        assert!(matches!(error, ExportError::Encoding { .. }), "{encoding}: {error}");
    }
}

const MODULE: &str = "model.layers.1.self_attn.q_proj";

/// A folder of four-bit groups of 32.
fn folder(dir: &TempDir, target: Target) -> PathBuf {
    let out = dir.path().join("out");
    write(&model(dir.path(), "int4-g32-f16"), target, &out, u64::MAX, &|_| {}).unwrap();
    out
}

fn with_config(target: Target, change: impl Fn(&mut Value)) -> String {
    let dir = TempDir::new().unwrap();
    let out = folder(&dir, target);
    let mut all = config(&out);
    change(&mut all["quantization_config"]);
    fs::write(out.join("config.json"), all.to_string()).unwrap();
    import::open(&out).err().map_or(String::new(), |e| e.to_string())
}

#[test]
fn hostile_configs_are_errors() {
    for (key, value) in [
        ("bits", json!(0)),
        ("bits", json!(5)),
        ("bits", json!("four")),
        ("bits", json!(3)),
        ("group_size", json!(0)),
        ("group_size", json!(-2)),
        ("group_size", json!(64)),
        ("group_size", json!(7)),
        ("group_size", json!(u64::MAX / 2)),
        ("group_size", json!(5_000_000_000u64)),
        ("checkpoint_format", json!("marlin")),
        ("pack_dtype", json!("int64")),
        ("dynamic", json!({"+:(": {"bits": 8}})),
        ("dynamic", json!({"+:.*": {"bits": 7}})),
        ("quant_method", json!("bitsandbytes")),
    ] {
        let error = with_config(V1, |config| config[key] = value.clone());
        assert!(!error.is_empty(), "{key} = {value} was accepted");
    }
    for (key, value) in [("bits", json!(8)), ("group_size", json!(0)), ("version", json!("gemv"))] {
        let error = with_config(Target::Awq, |config| config[key] = value.clone());
        assert!(error.contains(key), "{key} = {value}: {error}");
    }
}

fn damaged(of: impl Fn(&mut Vec<Tensor>)) -> String {
    let dir = TempDir::new().unwrap();
    damage(&folder(&dir, V1), of)
}

fn at(tensors: &mut [Tensor], part: &str) -> usize {
    tensors.iter().position(|(t, _)| t.name == format!("{MODULE}.{part}")).unwrap()
}

#[test]
fn damage_is_named() {
    assert_eq!(damaged(|_| ()), "");
    for part in ["qzeros", "scales"] {
        let missing = damaged(|tensors| {
            let at = at(tensors, part);
            tensors.remove(at);
        });
        assert!(missing.contains(&format!("tensor `{MODULE}.{part}` is missing")), "{missing}");
    }
    let flat = damaged(|tensors| {
        let at = at(tensors, "qweight");
        tensors[at].0.shape = vec![tensors[at].0.shape.iter().product()];
    });
    assert!(flat.contains("is not a matrix"), "{flat}");
    let turned = damaged(|tensors| {
        let at = at(tensors, "scales");
        tensors[at].0.shape.reverse();
    });
    assert!(turned.contains("scales") && turned.contains("need F16 [2, 64]"), "{turned}");
    let zeros = damaged(|tensors| {
        let at = at(tensors, "qzeros");
        tensors[at].1[0] = 0x17;
    });
    assert!(zeros.contains("zero points are not in the middle"), "{zeros}");
    let far = damaged(|tensors| tensors.push(g_idx(&[9; 64])));
    assert!(far.contains("puts column 0 into group 9, of 2 groups"), "{far}");
    let negative = damaged(|tensors| tensors.push(g_idx(&[-1; 64])));
    assert!(negative.contains("into group -1"), "{negative}");
    let short = damaged(|tensors| tensors.push(g_idx(&[0; 3])));
    assert!(short.contains("expected I32 [64]"), "{short}");
}

fn g_idx(groups: &[i32]) -> Tensor {
    let spec = formats::safetensors::TensorSpec {
        name: format!("{MODULE}.g_idx"),
        dtype: Dtype::I32,
        shape: vec![groups.len()],
    };
    (spec, groups.iter().flat_map(|g| g.to_le_bytes()).collect())
}

#[test]
fn scattered_groups_are_read_as_numbers_and_told() {
    let dir = TempDir::new().unwrap();
    let out = folder(&dir, V1);
    let sorted = open(&out).model;
    let in_order: Vec<i32> = (0..64).map(|column| column / 32).collect();
    assert_eq!(damage(&out, |tensors| tensors.push(g_idx(&in_order))), "");
    assert_eq!(open(&out).scattered, Vec::<String>::new());
    let turned: Vec<i32> = in_order.iter().rev().copied().collect();
    assert_eq!(
        damage(&out, |tensors| {
            tensors.retain(|(t, _)| !t.name.ends_with("g_idx"));
            tensors.push(g_idx(&turned));
        }),
        ""
    );
    let again = open(&out);
    let name = format!("{MODULE}.weight");
    assert_eq!(again.scattered, std::slice::from_ref(&name));
    assert!(again.notes.iter().any(|n| n.contains("order of activations")), "{:?}", again.notes);
    let read = |model: &graph::Model| model.weights.get(model.weights.find(&name).unwrap()).read().unwrap();
    let (old, new) = (read(&sorted), read(&again.model));
    let weight = again.model.weights.get(again.model.weights.find(&name).unwrap());
    assert_eq!(weight.read_rows(3..5).unwrap(), new[3 * 64..5 * 64]);
    let all = Safetensors::open(&out).unwrap();
    let scales: Vec<f32> = all
        .bytes(&format!("{MODULE}.scales"))
        .unwrap()
        .chunks_exact(2)
        .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
        .collect();
    for (i, (old, new)) in old.iter().zip(&new).enumerate() {
        let (row, column) = (i / 64, i % 64);
        let code = (old / scales[column / 32 * 64 + row]).round();
        assert_eq!(*new, code * scales[turned[column] as usize * 64 + row], "{i}");
    }
}

/// Checkpoints are known that say `gptq` and store zero points as `gptq_v2` does.
#[test]
fn a_wrong_convention_is_noticed_where_it_can_be() {
    let dir = TempDir::new().unwrap();
    let out = folder(&dir, V2);
    let right = open(&out);
    let mut wrong = config(&out);
    wrong["quantization_config"]["checkpoint_format"] = json!("gptq");
    fs::write(out.join("config.json"), wrong.to_string()).unwrap();
    let read = open(&out);
    same_numbers(&right, &read);
    assert!(read.notes.iter().any(|n| n.contains("zero points of 14 weights")), "{:?}", read.notes);
}
