//! GGUF files of every family against those of llama.cpp's converter (`golden/gguf`), and how they are written.

use codec::{BlockFormat, Encoding};
use export::gguf::{Options, write};
use export::{ExportError, Written};
use formats::gguf::{Array, Gguf, TensorInfo, Value};
use formats::hf::Json;
use graph::{Body, Graph, Model, Role, Weight, WeightStore};
use import::Parsed;
use import::tokenizer::Tokenizer;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    architecture: String,
    keys: BTreeMap<String, serde_json::Value>,
    /// Type, shape, checksum.
    tensors: BTreeMap<String, (String, Vec<usize>, u64)>,
}

/// The random decoder of a case of `golden/logits`.
fn model(case: &str) -> Model {
    let file = testkit::golden_dir("logits").join(case).join("config.json");
    let Ok(Parsed::Decoder(arch, config)) = import::parse_config(&Json::open(&file).unwrap(), &file) else {
        panic!("{case} is not a decoder");
    };
    let mut weights = WeightStore::default();
    for (place, shape) in import::places(&config) {
        let name = arch.hf_name(place).unwrap();
        let data = testkit::weight_value(&name, shape.iter().product(), config.norm_offset != 0.0);
        weights.insert(Weight::from_f32(&name, place, shape, &data).unwrap());
    }
    Model { body: Body::Decoder { config, graph: Graph::default() }, weights }
}

fn tokenizer() -> Tokenizer {
    let json = r#"{"version": "1.0", "added_tokens": [{"id": 3, "content": "<s>", "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false}], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}"#;
    Tokenizer::from_json(Path::new("tokenizer.json"), json.into()).unwrap()
}

const OPTIONS: Options<'_> = Options { name: "tiny", file_type: 0, split_max_bytes: None };

fn export(model: &Model, path: &Path, options: Options<'_>) -> Result<Written, ExportError> {
    write(model, &tokenizer(), path, options, &|_| ())
}

/// Gives every matrix of a role another encoding.
fn round(model: &mut Model, encoding: BlockFormat, role: Role) {
    let of_role: Vec<_> = model.weights.iter().filter(|(_, w)| w.place.role == role).map(|(id, _)| id).collect();
    let encoding = Encoding::Block(encoding);
    for id in of_role {
        let encoded = graph::Encoded::new(model.weights.get(id).clone(), encoding, None, Encoding::encode);
        let shape = model.weights.get(id).shape.clone();
        model.weights.replace(id, encoding, shape, std::sync::Arc::new(encoded));
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().zip(1u64..).fold(0, |sum, (b, i)| sum.wrapping_add(u64::from(*b).wrapping_mul(i)))
}

fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
    match ours {
        Value::U32(v) => theirs.as_u64() == Some(u64::from(*v)),
        Value::F32(v) => theirs.as_f64() == Some(f64::from(*v)),
        Value::String(v) => theirs.as_str() == Some(v),
        _ => false,
    }
}

#[test]
fn every_family_is_what_the_converter_makes() {
    let dir = TempDir::new().unwrap();
    let mut cases = 0;
    for file in fs::read_dir(testkit::golden_dir("gguf")).unwrap().map(|e| e.unwrap().path()) {
        let Some(case) = file.to_str().and_then(|f| f.strip_suffix(".json")) else { continue };
        let case = Path::new(case).file_name().unwrap().to_str().unwrap();
        let golden: Golden = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let path = dir.path().join(format!("{case}.gguf"));
        export(&model(case), &path, OPTIONS).unwrap();
        compare(case, &golden, &Gguf::open(&path).unwrap());
        cases += 1;
    }
    assert!(cases >= 14, "golden cases are missing");
}

fn compare(case: &str, golden: &Golden, ours: &Gguf) {
    assert_eq!(ours.metadata().need::<&str>("general.architecture").unwrap(), golden.architecture, "{case}");
    // YaRN is written as the factors it comes to, the converter writes its parameters; an original context means
    // nothing without factors.
    let yarn = case == "llama_yarn";
    let other = |key: &str| key.contains("rope.scaling") && (yarn || case == "phi3");
    for (key, theirs) in golden.keys.iter().filter(|(key, _)| !other(key)) {
        let found = ours.metadata().get(key).unwrap_or_else(|| panic!("{case}: {key} is missing"));
        assert!(same(found, theirs), "{case}: {key} is {found:?}, the converter says {theirs}");
    }
    for (name, (ty, shape, sum)) in &golden.tensors {
        let found = ours.get(name).unwrap_or_else(|| panic!("{case}: {name} is missing"));
        assert_eq!((found.ty.to_string().to_uppercase(), &found.shape), (ty.clone(), shape), "{case}: {name}");
        assert_eq!(checksum(ours.bytes(name).unwrap()), *sum, "{case}: {name}");
    }
    assert_eq!(ours.tensors().len(), golden.tensors.len() + usize::from(yarn), "{case}");
}

#[test]
fn what_llama_cpp_cannot_run_is_refused() {
    let dir = TempDir::new().unwrap();
    let refused = |model: &Model| export(model, &dir.path().join("m.gguf"), OPTIONS).unwrap_err().to_string();
    assert!(refused(&model("gemma2_scaled")).contains("attention scale"));
    let mut olmoe = model("olmoe");
    let Body::Decoder { config, .. } = &mut olmoe.body else { panic!() };
    config.kv_heads /= 2;
    assert!(refused(&olmoe).contains("fewer key heads"));
    let mixed = refused(&model("qwen3_moe_mixed"));
    assert!(mixed.contains("only some of its layers have experts; its expert probabilities"), "{mixed}");
    let unknown = Model { body: Body::Unknown { reason: "model_type = odd".into() }, weights: WeightStore::default() };
    assert!(refused(&unknown).contains("model_type = odd") && refused(&unknown).contains("safetensors"));
    let mut small = model("llama");
    let Body::Decoder { config, .. } = &mut small.body else { panic!() };
    config.vocab = 3;
    assert!(refused(&small).contains("4 tokens, the embedding only 3 rows"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn rows_are_permuted_beneath_their_encoding_and_experts_stacked() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.gguf");
    let mut model = model("mixtral");
    round(&mut model, BlockFormat::Q8_0, Role::AttnQ);
    round(&mut model, BlockFormat::Q4_0, Role::ExpertUp);
    let written = export(&model, &path, OPTIONS).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(written.bytes, file.tensors().iter().map(|t| t.range.len() as u64).sum::<u64>());
    let q = model.weights.iter().find(|(_, w)| w.place.role == Role::AttnQ).unwrap().1;
    let row = q.bytes().unwrap() / q.rows();
    let (ours, source) = (file.bytes("blk.0.attn_q.weight").unwrap(), q.source.rows(0..q.rows()).unwrap());
    // Heads of 16: channels 0 and 8 are a pair.
    assert_eq!(ours[row..2 * row], source[8 * row..9 * row]);
    let up: Vec<_> = model.weights.iter().filter(|(_, w)| w.place.role == Role::ExpertUp).map(|(_, w)| w).collect();
    let stacked: Vec<u8> = up[..4].iter().flat_map(|w| w.source.rows(0..w.rows()).unwrap().into_owned()).collect();
    assert_eq!(file.bytes("blk.0.ffn_up_exps.weight").unwrap(), stacked);
}

#[test]
fn the_tokenizer_fills_the_embedding() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.gguf");
    export(&model("llama"), &path, OPTIONS).unwrap();
    let file = Gguf::open(&path).unwrap();
    let keys = file.metadata();
    let tokens: &[String] = keys.need("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), &tokens[2], &tokens[4]), (96, &"ab".to_owned(), &"[PAD4]".to_owned()));
    assert_eq!(keys.need::<&[i32]>("tokenizer.ggml.token_type").unwrap()[..5], [1, 1, 1, 3, 5]);
    assert_eq!(keys.get("tokenizer.ggml.merges"), Some(&Value::Array(Array::String(vec!["a b".into()]))));
    assert_eq!(keys.need::<&str>("tokenizer.ggml.pre").unwrap(), "gpt-2");
}

#[test]
fn bytes_do_not_depend_on_threads_and_a_split_holds_the_same() {
    let dir = TempDir::new().unwrap();
    let mut model = model("qwen3");
    round(&mut model, BlockFormat::Q8_0, Role::FfnUp);
    let heard = AtomicU64::new(0);
    let mut files = Vec::new();
    for threads in [1, 4] {
        let path = dir.path().join(format!("{threads}.gguf"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let hear = |bytes| heard.store(bytes, Ordering::Relaxed);
        let written = pool.install(|| write(&model, &tokenizer(), &path, OPTIONS, &hear)).unwrap();
        assert_eq!((heard.load(Ordering::Relaxed), &written.files), (written.bytes, &vec![path.clone()]));
        files.push(fs::read(path).unwrap());
    }
    assert_eq!(files[0], files[1]);
    let options = Options { split_max_bytes: Some(50_000), ..OPTIONS };
    let written = export(&model, &dir.path().join("split.gguf"), options).unwrap();
    assert!(written.files.len() > 2 && written.files.iter().all(|f| f.is_file()));
    let (whole, split) = (Gguf::open(&dir.path().join("1.gguf")).unwrap(), Gguf::open(&written.files[0]).unwrap());
    let bytes = |file: &Gguf, t: &TensorInfo| file.bytes(&t.name).unwrap().to_vec();
    assert!(whole.tensors().iter().all(|t| bytes(&whole, t) == bytes(&split, t)));
}

#[test]
fn a_bad_number_is_named_and_nothing_is_left_behind() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("m.gguf");
    for role in [Role::FfnDown, Role::AttnNorm] {
        let mut model = model("llama");
        let weight = model.weights.iter().find(|(_, w)| w.place.role == role).unwrap().1.clone();
        let mut data = weight.read().unwrap();
        data[5] = f32::NAN;
        let bad = Weight::from_f32(&weight.name, weight.place, weight.shape.clone(), &data).unwrap();
        model.weights.insert(bad);
        round(&mut model, BlockFormat::Q8_0, Role::FfnDown);
        let error = export(&model, &path, OPTIONS).unwrap_err().to_string();
        assert!(error.contains(&weight.name) && error.contains("element 5"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something was left behind");
    }
    export(&model("llama"), &path, OPTIONS).unwrap();
    let before = fs::read(&path).unwrap();
    assert!(export(&model("llama"), &path, OPTIONS).unwrap_err().to_string().contains("exists already"));
    assert_eq!(fs::read(&path).unwrap(), before);
}
