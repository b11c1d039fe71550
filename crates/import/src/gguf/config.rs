//! GGUF metadata in the form of a `config.json`, so that there is one reading of a config.
//!
//! | GGUF, under the architecture's name | `config.json` |
//! |---|---|
//! | the keys in [`SIZES`] and [`NUMBERS`] | one for one |
//! | `attention.sliding_window`, `….sliding_window_pattern` | `sliding_window`, `layer_types` |
//! | `rope.*`, tensors `rope_freqs`, `rope_factors_short`, `rope_factors_long` | `rope_parameters` |
//! | which tensors there are | `tie_word_embeddings`, `attention_bias`, `mlp_bias`, `vocab_size` |
//!
//! llama.cpp divides rotary frequencies by the tensor `rope_freqs`; here that is `longrope` with the same factors at any
//! length.
//!
//! Source: llama.cpp's `src/llama-model.cpp` and `src/models/`.

use crate::Arch;
use formats::gguf::{Array, Gguf, Metadata, Problem, Value as Stored};
use serde_json::{Map, Value, json};

/// Whole numbers: GGUF's key, and those in `config.json`.
const SIZES: [(&str, &[&str]); 10] = [
    ("block_count", &["num_hidden_layers"]),
    ("context_length", &["max_position_embeddings"]),
    ("embedding_length", &["hidden_size"]),
    ("feed_forward_length", &["intermediate_size"]),
    ("attention.head_count", &["num_attention_heads"]),
    ("attention.head_count_kv", &["num_key_value_heads"]),
    ("attention.key_length", &["head_dim"]),
    ("expert_count", &["num_experts", "num_local_experts"]),
    ("expert_used_count", &["num_experts_per_tok"]),
    ("expert_feed_forward_length", &["moe_intermediate_size"]),
];

/// Numbers with fractions, likewise.
const NUMBERS: [(&str, &str); 3] = [
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
];

/// Ids, under keys of their own.
const IDS: [(&str, &str); 3] = [
    ("tokenizer.ggml.bos_token_id", "bos_token_id"),
    ("tokenizer.ggml.eos_token_id", "eos_token_id"),
    ("tokenizer.ggml.padding_token_id", "pad_token_id"),
];

/// The config. `factors` reads a one-dimensional tensor.
pub(super) fn config(
    all: &Gguf,
    arch: &Arch,
    factors: impl Fn(&str) -> Option<Vec<f32>>,
) -> Result<Map<String, Value>, Problem> {
    let keys = Keys { metadata: all.metadata(), arch: arch.gguf };
    let mut config = Map::new();
    let mut set = |name: &str, value: Value| drop(config.insert(name.into(), value));
    set("architectures", json!([arch.class]));
    set("model_type", arch.model_type.into());
    for (key, names) in SIZES {
        if let Some(value) = keys.size(key)? {
            names.iter().for_each(|name| set(name, value.into()));
        }
    }
    for (key, name) in NUMBERS {
        if let Some(value) = keys.number(key)? {
            set(name, decimal(value));
        }
    }
    for (key, name) in IDS {
        if let Some(id) = keys.metadata.find::<u32>(key)? {
            set(name, id.into());
        }
    }
    let has = |tensor: &str| all.get(tensor).is_some();
    set("tie_word_embeddings", (!has("output.weight")).into());
    set("attention_bias", has("blk.0.attn_q.bias").into());
    set("mlp_bias", has("blk.0.ffn_up.bias").into());
    set("vocab_size", all.get("token_embd.weight").and_then(|t| t.shape.first()).copied().into());
    keys.windows(&mut config)?;
    let rope = keys.rope(&config, factors)?;
    config.insert("rope_parameters".into(), rope);
    (arch.gguf_unsaid)(&mut config);
    Ok(config)
}

/// A 32-bit number as people write it: `1e-5`, not `0.000009999999747378752`.
fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().unwrap_or(value.into()).into()
}

/// Keys under the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    arch: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    /// A whole number; also a list of one for each layer, where all are the same.
    fn size(&self, key: &str) -> Result<Option<u64>, Problem> {
        let name = self.name(key);
        let list: Vec<i64> = match self.metadata.get(&name) {
            Some(Stored::Array(Array::U32(list))) => list.iter().map(|n| i64::from(*n)).collect(),
            Some(Stored::Array(Array::I32(list))) => list.iter().map(|n| i64::from(*n)).collect(),
            _ => return self.metadata.find(&name),
        };
        let first = list.first().filter(|n| list.iter().all(|other| other == *n));
        let one = first.and_then(|n| u64::try_from(*n).ok());
        one.map(Some).ok_or(Problem::KeyType { key: name, expected: "the same for every layer", got: "different" })
    }

    fn number(&self, key: &str) -> Result<Option<f32>, Problem> {
        self.metadata.find(&self.name(key))
    }

    fn windows(&self, config: &mut Map<String, Value>) -> Result<(), Problem> {
        let window = self.size("attention.sliding_window")?.filter(|n| *n > 0);
        config.insert("sliding_window".into(), window.into());
        match self.metadata.get(&self.name("attention.sliding_window_pattern")) {
            Some(Stored::Array(Array::Bool(slides))) => {
                let name = |slides: &bool| if *slides { "sliding_attention" } else { "full_attention" };
                config.insert("layer_types".into(), slides.iter().map(name).collect());
            }
            Some(_) => {
                let every = self.size("attention.sliding_window_pattern")?;
                config.insert("sliding_window_pattern".into(), every.into());
            }
            None => {}
        }
        Ok(())
    }

    fn rope(&self, config: &Map<String, Value>, factors: impl Fn(&str) -> Option<Vec<f32>>) -> Result<Value, Problem> {
        let mut rope = Map::new();
        let mut set = |key: &str, value: Value| drop(rope.insert(key.into(), value));
        set("rope_theta", decimal(self.number("rope.freq_base")?.unwrap_or(10_000.0)));
        set("rope_type", "default".into());
        if let (Some(dims), Some(head)) = (self.size("rope.dimension_count")?, head_dim(config)) {
            // llama.cpp rotates this many channels of a head; more than there are would be refused below.
            set("partial_rotary_factor", (dims as f64 / head as f64).into());
        }
        let scale = self.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let kind = self.metadata.find::<&str>(&self.name("rope.scaling.type"))?.unwrap_or("none");
        let original = self.size("rope.scaling.original_context_length")?;
        let factor = self.number("rope.scaling.factor")?;
        let lists = |short: &str, long: &str| factors(short).zip(factors(long));
        if let Some((short, long)) = lists("rope_factors_short.weight", "rope_factors_long.weight")
            .or_else(|| lists("rope_freqs.weight", "rope_freqs.weight"))
        {
            set("rope_type", "longrope".into());
            set("short_factor", short.into());
            set("long_factor", long.into());
            set("attention_factor", decimal(scale));
        } else if let ("linear" | "yarn", Some(factor)) = (kind, factor) {
            set("rope_type", kind.into());
            set("factor", decimal(factor));
        } else if kind != "none" {
            set("rope_type", format!("{kind} without factors").into());
        }
        if let Some(original) = original {
            set("original_max_position_embeddings", original.into());
        }
        let Some(local) = self.number("rope.freq_base_swa")? else { return Ok(rope.into()) };
        let local = json!({ "rope_type": "default", "rope_theta": decimal(local) });
        Ok(json!({ "full_attention": rope, "sliding_attention": local }))
    }
}

/// Channels of a head, as said, or as follows.
fn head_dim(config: &Map<String, Value>) -> Option<u64> {
    let get = |key: &str| config.get(key).and_then(Value::as_u64);
    get("head_dim").or_else(|| get("hidden_size")?.checked_div(get("num_attention_heads")?)).filter(|n| *n > 0)
}
