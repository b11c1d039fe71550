//! Gemma 2: norms around both parts of a layer, soft caps, a window over every other layer.

use super::{Arch, DEFAULTS, Defaults, Sliding, common};
use crate::keys::Keys;
use crate::names::Stem;
use graph::ops::Activation;
use graph::{DecoderConfig, Role};

/// See the module.
pub(super) static GEMMA2: Arch = Arch {
    model_type: "gemma2",
    class: "Gemma2ForCausalLM",
    gguf: "gemma2",
    interleaved: false,
    names: &NAMES,
    config: |keys| {
        let sliding = Sliding { full_every: Some(2), ..Sliding::everywhere(keys) };
        let mut config = common(keys, &GEMMA2, sliding, &GEMMA);
        gemma(keys, &mut config);
        config.attention_softcap = Some(keys.number_or("attn_logit_softcapping", 50.0) as f32);
        config.logit_softcap = Some(keys.number_or("final_logit_softcapping", 30.0) as f32);
        config
    },
    gguf_unsaid: |config| attention_scalar(config, 46),
};

/// Names of the norms, of Gemma 2 and 3.
pub(super) const NAMES: [Stem; 3] = [
    Stem { role: Role::AttnPostNorm, hf: &["post_attention_layernorm"], gguf: "post_attention_norm" },
    Stem { role: Role::FfnNorm, hf: &["pre_feedforward_layernorm"], gguf: "ffn_norm" },
    Stem { role: Role::FfnPostNorm, hf: &["post_feedforward_layernorm"], gguf: "post_ffw_norm" },
];

/// What Gemma takes for granted.
pub(super) const GEMMA: Defaults = Defaults { tied: true, kv_heads: Some(4), head_dim: Some(256), ..DEFAULTS };

/// What Gemma 2 and 3 share.
pub(super) fn gemma(keys: &mut Keys<'_>, config: &mut DecoderConfig) {
    config.activation = keys.activation(&["hidden_activation", "hidden_act"], Activation::GeluTanh);
    config.norm_offset = 1.0;
    config.post_norms = true;
    config.embed_scale = Some((config.hidden as f32).sqrt());
    config.attention_scale = (keys.number_or("query_pre_attn_scalar", 256.0) as f32).powf(-0.5);
    config.qkv_bias = keys.flag_or("attention_bias", false);
    config.out_bias = config.qkv_bias;
    if keys.flag_or("use_bidirectional_attention", false) {
        keys.unsupported("use_bidirectional_attention");
    }
}

/// llama.cpp scales queries by the head's width, except in the largest model, which it knows by its layers.
pub(super) fn attention_scalar(config: &mut serde_json::Map<String, serde_json::Value>, largest: u64) {
    let get = |key: &str| config.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let by_width = get("hidden_size").checked_div(get("num_attention_heads")).unwrap_or(0);
    let scalar = if get("num_hidden_layers") == largest { by_width } else { get("head_dim") };
    config.insert("query_pre_attn_scalar".into(), scalar.into());
}
