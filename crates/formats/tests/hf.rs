//! Config files in the forms of transformers 4 and 5, and their errors.

use codec::Dtype;
use formats::hf::quantization::{Format, Group, NumberKind, QuantizationArgs, Strategy};
use formats::hf::{Error, Json, QuantizationConfig, Rope};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn json(text: &str) -> Json {
    Json::parse(Path::new("config.json"), text.as_bytes()).unwrap()
}

fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn getters_name_file_and_key() {
    let config = json(r#"{"hidden_size": 64, "act": "silu", "n": null, "inner": {"x": "y"}, "eos_token_id": [1, 2]}"#);
    let c = config.root();
    assert_eq!(c.need::<usize>("hidden_size").unwrap(), 64);
    assert_eq!(c.find::<usize>("n").unwrap(), None, "null counts as absent");
    assert_eq!(c.token_ids("eos_token_id").unwrap(), [1, 2]);
    assert_eq!(c.token_ids("hidden_size").unwrap(), [64]);
    assert!(message(c.need::<usize>("layers")).contains("config.json: key `layers` is missing"));
    assert!(message(c.need::<usize>("act")).contains("`act` is \"silu\", expected a whole number"));
    let inner = c.object("inner").unwrap().unwrap();
    assert!(message(inner.need::<f64>("x")).contains("`inner.x`"));
    assert!(message(c.object("act")).contains("expected an object"));
}

#[test]
fn bad_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    assert!(message(Json::open(&path)).contains("cannot read"));
    assert!(Json::open_if_there(&path).unwrap().is_none());
    for (text, what) in [("[]", "not a JSON object"), ("{\"a\": 1", "not valid JSON"), ("\u{0}", "not valid JSON")] {
        fs::write(&path, text).unwrap();
        assert!(message(Json::open(&path)).contains(what));
    }
    fs::write(&path, "[".repeat(100_000)).unwrap();
    assert!(message(Json::open(&path)).contains("not valid JSON"), "deep nesting");
    fs::File::create(&path).unwrap().set_len(17 << 20).unwrap();
    assert!(message(Json::open(&path)).contains("at most"));
}

#[test]
fn dtype_in_both_forms() {
    let dtype = |text| json(text).root().dtype();
    assert_eq!(dtype(r#"{"torch_dtype": "bfloat16"}"#).unwrap(), Some(Dtype::BF16));
    assert_eq!(dtype(r#"{"dtype": "float32"}"#).unwrap(), Some(Dtype::F32));
    assert_eq!(dtype("{}").unwrap(), None);
    assert!(message(dtype(r#"{"dtype": "int3"}"#)).contains("`int3`; supported: float32"));
}

/// One kind of layer, printed: theta, kind, factor.
fn shown(p: &formats::hf::RopeParameters<'_>) -> (Option<f64>, String, Option<f64>) {
    let factor = p.options.as_ref().and_then(|o| o.find("factor").unwrap());
    (p.theta, p.kind.to_owned(), factor)
}

fn shared(text: &str) -> (Option<f64>, String, Option<f64>) {
    match json(text).root().rope().unwrap() {
        Rope::Shared(p) => shown(&p),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rope_in_every_form() {
    let llama3 = (Some(5e5), "llama3".to_owned(), Some(8.0));
    assert_eq!(shared(r#"{"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}"#), llama3);
    assert_eq!(shared(r#"{"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", "factor": 8}}"#), llama3);
    let v5 = r#"{"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0}}"#;
    assert_eq!(shared(v5), llama3);
    assert_eq!(shared(r#"{"rope_theta": 10000.0, "rope_scaling": null}"#), (Some(1e4), "default".into(), None));
    assert_eq!(shared("{}"), (None, "default".into(), None));
    let gemma4 = r#"{"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}}"#;
    let gemma5 = r#"{"rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}"#;
    for text in [gemma4, gemma5] {
        let config = json(text);
        let Rope::ByLayerType { full, sliding } = config.root().rope().unwrap() else { panic!("{text}") };
        assert_eq!(shown(&full), (Some(1e6), "linear".into(), Some(8.0)));
        assert_eq!(shown(&sliding), (Some(1e4), "default".into(), None));
    }
    assert!(message(json(r#"{"rope_scaling": {"rope_type": 3}}"#).root().rope()).contains("`rope_scaling.rope_type`"));
}

fn w4() -> QuantizationConfig {
    let weights = QuantizationArgs::weights(4, NumberKind::Int, true, Strategy::Group, Some(128));
    let group = Group {
        targets: vec!["Linear".into()],
        weights: Some(weights),
        input_activations: None,
        output_activations: None,
        format: Some(Format::PackQuantized),
    };
    QuantizationConfig {
        format: Format::PackQuantized,
        ignore: vec!["lm_head".into()],
        config_groups: BTreeMap::from([("group_0".into(), group)]),
        kv_cache_scheme: None,
    }
}

#[test]
fn quantization_config_round_trip() {
    let text = serde_json::json!({"quantization_config": w4().to_json()}).to_string();
    assert_eq!(QuantizationConfig::of(&json(&text).root()).unwrap().unwrap(), w4());
    assert!(QuantizationConfig::of(&json("{}").root()).unwrap().is_none());
    let gptq = json(r#"{"quantization_config": {"quant_method": "gptq"}}"#);
    assert!(message(QuantizationConfig::of(&gptq.root())).contains("`quantization_config.quant_method` is `gptq`"));
    let odd = json(&text.replace("pack-quantized", "odd"));
    assert!(message(QuantizationConfig::of(&odd.root())).contains("unknown variant `odd`"));
}
