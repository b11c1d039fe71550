//! The architectures: one file each, one line in [`ALL`].
//!
//! A file says what the family is called, which names its weights have where they differ from the common ones
//! (`names.rs`), and how its `config.json` fills a [`DecoderConfig`]: it starts from `common`, which reads the
//! keys that every family shares, and changes what is its own. GGUF metadata are first put into the form of a
//! `config.json` (`gguf/config.rs`), so that there is one reading of a config; what llama.cpp knows of a family without
//! writing it down is `Arch::gguf_unsaid`.

mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod mixtral;
mod olmoe;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;

use crate::keys::{Keys, MAX_EXPERTS, MAX_HEAD_DIM, MAX_LAYERS, MAX_WIDTH};
use crate::names::Stem;
use crate::rope::{self, Around};
use graph::ops::Activation;
use graph::{DecoderConfig, Experts, Layer};
use serde_json::{Map, Value};

/// A family of decoders.
pub struct Arch {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// What `architectures` in `config.json` lists.
    pub class: &'static str,
    /// `general.architecture` in GGUF. Llama, Mistral and Mixtral share one.
    pub gguf: &'static str,
    /// Whether GGUF has the rows of query and key projections interleaved (llama.cpp's older rotary convention).
    pub interleaved: bool,
    /// Names of its weights that are its own.
    pub(crate) names: &'static [Stem],
    /// Fills a [`DecoderConfig`] from a `config.json`.
    pub(crate) config: fn(&mut Keys<'_>) -> DecoderConfig,
    /// Adds to a config made of GGUF metadata what llama.cpp takes for granted.
    pub(crate) gguf_unsaid: fn(&mut Map<String, Value>),
}

/// Every architecture.
pub static ALL: [&Arch; 10] = [
    &llama::LLAMA,
    &mistral::MISTRAL,
    &mixtral::MIXTRAL,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
    &qwen3_moe::QWEN3_MOE,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &phi3::PHI3,
    &olmoe::OLMOE,
];

/// The architecture with this `model_type` (also [`DecoderConfig::family`]).
pub fn by_model_type(name: &str) -> Option<&'static Arch> {
    ALL.into_iter().find(|a| a.model_type == name)
}

/// The architecture that llama.cpp calls so; with experts, the first that has them.
pub fn by_gguf_name(name: &str, experts: bool) -> Option<&'static Arch> {
    let mixtral = |a: &&Arch| a.gguf != "llama" || experts == (a.model_type == "mixtral");
    ALL.into_iter().filter(mixtral).find(|a| a.gguf == name)
}

impl std::fmt::Debug for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.model_type)
    }
}

/// What a family takes for granted where its config is silent.
struct Defaults {
    /// θ of the rotary embedding.
    theta: f64,
    /// θ of sliding layers, in families that give them their own.
    local_theta: Option<f64>,
    /// ε of norms.
    eps: f64,
    /// Whether the head is the embedding table.
    tied: bool,
    /// Key heads; as many as query heads where `None`.
    kv_heads: Option<usize>,
    /// Channels of a head; width over heads where `None`.
    head_dim: Option<usize>,
}

const DEFAULTS: Defaults =
    Defaults { theta: 10_000.0, local_theta: None, eps: 1e-6, tied: false, kv_heads: None, head_dim: None };

/// The window of each layer where the config has no `layer_types`.
struct Sliding {
    /// Positions that a sliding layer sees; none slides where `None`.
    window: Option<usize>,
    /// The first layer that slides.
    first: usize,
    /// From there, one layer in so many sees everything.
    full_every: Option<usize>,
}

impl Sliding {
    /// No layer slides.
    const NEVER: Sliding = Sliding { window: None, first: 0, full_every: None };

    /// Every layer, or none: `sliding_window` alone decides.
    fn everywhere(keys: &mut Keys<'_>) -> Sliding {
        Sliding { window: keys.find("sliding_window"), ..Sliding::NEVER }
    }

    fn slides(&self, layer: usize) -> bool {
        layer >= self.first && self.full_every.is_none_or(|n| !(layer + 1).is_multiple_of(n))
    }
}

/// The config of a Llama-like decoder, from the keys that every family shares. No biases, no experts.
fn common(keys: &mut Keys<'_>, family: &Arch, sliding: Sliding, defaults: &Defaults) -> DecoderConfig {
    let hidden = keys.size("hidden_size", MAX_WIDTH);
    let heads = keys.size("num_attention_heads", MAX_WIDTH);
    let head_dim = defaults.head_dim.unwrap_or((hidden / heads).max(2));
    let head_dim = keys.size_or("head_dim", head_dim, MAX_HEAD_DIM);
    if !head_dim.is_multiple_of(2) {
        keys.wrong("head_dim", format!("is {head_dim}; rotary channels come in pairs"));
    }
    let context = keys.size_or("max_position_embeddings", 2048, MAX_WIDTH);
    let layers = keys.size("num_hidden_layers", MAX_LAYERS);
    let around = Around { head_dim, context, theta: defaults.theta };
    let (full, local) = rope::read(keys, around, defaults.local_theta);
    let layer = |window: Option<usize>| {
        let rope = if window.is_some() { local.clone() } else { full.clone() };
        Layer { window, rope, moe: false }
    };
    DecoderConfig {
        family: family.model_type.into(),
        vocab: keys.size("vocab_size", MAX_WIDTH),
        hidden,
        heads,
        kv_heads: keys.size_or("num_key_value_heads", defaults.kv_heads.unwrap_or(heads), MAX_WIDTH),
        head_dim,
        ffn: keys.size("intermediate_size", MAX_WIDTH),
        context,
        norm_eps: keys.number_or("rms_norm_eps", defaults.eps),
        norm_offset: 0.0,
        post_norms: false,
        qk_norm: None,
        qkv_bias: false,
        out_bias: false,
        ffn_bias: false,
        fused_qkv: false,
        fused_gate_up: false,
        activation: keys.activation(&["hidden_act", "hidden_activation"], Activation::Silu),
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        attention_softcap: None,
        logit_softcap: None,
        embed_scale: None,
        tied: keys.flag_or("tie_word_embeddings", defaults.tied),
        layers: keys.windows(layers, sliding.window, |i| sliding.slides(i)).into_iter().map(layer).collect(),
        experts: None,
    }
}

/// Puts experts into every layer that `has` says.
fn add_experts(config: &mut DecoderConfig, experts: Experts, has: impl Fn(usize) -> bool) {
    config.layers.iter_mut().enumerate().for_each(|(i, layer)| layer.moe = has(i));
    config.experts = Some(experts);
}

/// Experts by these keys for their count and width.
fn experts(keys: &mut Keys<'_>, count: &[&str], ffn: &str, normalize: bool) -> Experts {
    let count = count.iter().find(|k| keys.node().get(k).is_some()).or(count.first()).copied().unwrap_or_default();
    let count = keys.size(count, MAX_EXPERTS);
    Experts { count, used: keys.size("num_experts_per_tok", count), ffn: keys.size(ffn, MAX_WIDTH), normalize }
}

/// Nothing is unsaid.
fn nothing(_: &mut Map<String, Value>) {}
