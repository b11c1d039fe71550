//! Where a weight's place in a decoder is called what: in Hugging Face checkpoints and in GGUF files.
//!
//! The common names are below; a family lists in its file what it calls differently. Layers are
//! `model.layers.N.<stem>.weight` there and `blk.N.<stem>.weight` here. GGUF keeps all experts of a layer in one
//! tensor, so their places share a name.
//!
//! Source: transformers' modelling files; llama.cpp's `gguf-py/gguf/tensor_mapping.py`.

use crate::arch::Arch;
use graph::{Place, Role};

/// What one role is called.
#[derive(Clone, Copy)]
pub(crate) struct Stem {
    pub role: Role,
    /// The name that is written, then others that are read. `{e}` stands for the expert's number.
    pub hf: &'static [&'static str],
    pub gguf: &'static str,
}

const COMMON: [Stem; 20] = [
    Stem { role: Role::TokenEmbed, hf: &["embed_tokens"], gguf: "token_embd" },
    Stem { role: Role::OutputNorm, hf: &["norm"], gguf: "output_norm" },
    Stem { role: Role::OutputHead, hf: &["lm_head"], gguf: "output" },
    Stem { role: Role::AttnNorm, hf: &["input_layernorm"], gguf: "attn_norm" },
    Stem { role: Role::AttnQ, hf: &["self_attn.q_proj"], gguf: "attn_q" },
    Stem { role: Role::AttnK, hf: &["self_attn.k_proj"], gguf: "attn_k" },
    Stem { role: Role::AttnV, hf: &["self_attn.v_proj"], gguf: "attn_v" },
    Stem { role: Role::AttnQkv, hf: &["self_attn.qkv_proj"], gguf: "attn_qkv" },
    Stem { role: Role::AttnQNorm, hf: &["self_attn.q_norm"], gguf: "attn_q_norm" },
    Stem { role: Role::AttnKNorm, hf: &["self_attn.k_norm"], gguf: "attn_k_norm" },
    Stem { role: Role::AttnOut, hf: &["self_attn.o_proj"], gguf: "attn_output" },
    Stem { role: Role::FfnNorm, hf: &["post_attention_layernorm"], gguf: "ffn_norm" },
    Stem { role: Role::FfnGate, hf: &["mlp.gate_proj"], gguf: "ffn_gate" },
    Stem { role: Role::FfnUp, hf: &["mlp.up_proj"], gguf: "ffn_up" },
    Stem { role: Role::FfnGateUp, hf: &["mlp.gate_up_proj"], gguf: "ffn_up" },
    Stem { role: Role::FfnDown, hf: &["mlp.down_proj"], gguf: "ffn_down" },
    Stem { role: Role::Router, hf: &["mlp.gate"], gguf: "ffn_gate_inp" },
    Stem { role: Role::ExpertGate, hf: &["mlp.experts.{e}.gate_proj"], gguf: "ffn_gate_exps" },
    Stem { role: Role::ExpertUp, hf: &["mlp.experts.{e}.up_proj"], gguf: "ffn_up_exps" },
    Stem { role: Role::ExpertDown, hf: &["mlp.experts.{e}.down_proj"], gguf: "ffn_down_exps" },
];

/// Where the decoder is in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Before `layers`, `norm` and `embed_tokens`.
    pub body: &'static str,
    /// Before `lm_head`.
    pub head: &'static str,
}

impl Prefix {
    /// Every prefix in use: plain, inside a model of several modalities (two generations), without a head.
    pub const ALL: [Prefix; 4] = [
        Prefix { body: "model.", head: "" },
        Prefix { body: "model.language_model.", head: "" },
        Prefix { body: "language_model.model.", head: "language_model." },
        Prefix { body: "", head: "" },
    ];
}

impl Arch {
    /// What a place is called in a Hugging Face checkpoint; `None` for a role that decoders lack.
    pub fn hf_name(&self, place: Place) -> Option<String> {
        self.hf_names(place, Prefix::ALL[0]).into_iter().next()
    }

    /// What a place is called in a GGUF file; all experts of a layer share a name.
    pub fn gguf_name(&self, place: Place) -> Option<String> {
        let stem = self.stem(place.role)?.gguf;
        let suffix = suffix(place);
        Some(match place.layer {
            Some(layer) => format!("blk.{layer}.{stem}{suffix}"),
            None => format!("{stem}{suffix}"),
        })
    }

    /// Every name that a place may have in a checkpoint, the usual one first.
    pub(crate) fn hf_names(&self, place: Place, prefix: Prefix) -> Vec<String> {
        let Some(stem) = self.stem(place.role) else { return vec![] };
        let before = match (place.layer, place.role) {
            (Some(layer), _) => format!("{}layers.{layer}.", prefix.body),
            (None, Role::OutputHead) => prefix.head.to_owned(),
            (None, _) => prefix.body.to_owned(),
        };
        let expert = place.expert.unwrap_or_default().to_string();
        stem.hf.iter().map(|s| format!("{before}{}{}", s.replace("{e}", &expert), suffix(place))).collect()
    }

    fn stem(&self, role: Role) -> Option<&Stem> {
        self.names.iter().chain(&COMMON).find(|s| s.role == role)
    }
}

const fn suffix(place: Place) -> &'static str {
    if place.bias { ".bias" } else { ".weight" }
}
