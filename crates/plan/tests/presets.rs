//! Presets against what stock llama-quantize decided (`golden/presets`), tensor by tensor.

use codec::{Dtype, Encoding};
use graph::ops::Activation;
use graph::{Buffer, DecoderConfig, Layer, Place, Role, RopeConfig, Weight};
use plan::preset::{Facts, Preset};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Deserialize)]
struct Case {
    model: Shape,
    /// Mix, tensor kind, runs of types.
    mixes: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Shape {
    arch: String,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    hidden: usize,
    ffn: usize,
    experts: usize,
    tied: bool,
    importance: bool,
}

impl Shape {
    fn facts(&self) -> Facts {
        Facts {
            layers: self.layers,
            heads_per_kv: self.heads / self.kv_heads,
            experts: self.experts,
            tied: self.tied,
            seventy_b: self.layers == 80 && (self.arch == "qwen2" || self.heads != self.kv_heads),
            importance: self.importance,
        }
    }

    fn weight(&self, kind: &str, layer: usize) -> Weight {
        let (role, cols) = self.role(kind);
        let place = match role {
            Role::TokenEmbed | Role::OutputHead | Role::OutputNorm => Place::outer(role),
            _ if role.is_expert() => Place::expert(layer, role, 0),
            _ => Place::layer(layer, role),
        };
        let shape = if role.is_norm() { vec![cols] } else { vec![32, cols] };
        let source = Arc::new(Buffer::new(kind, 0, vec![]));
        Weight { name: kind.into(), place, shape, encoding: Encoding::Plain(Dtype::BF16), source }
    }

    /// The role and the row length of a tensor, by the kind in its GGUF name.
    fn role(&self, kind: &str) -> (Role, usize) {
        let hidden = self.hidden;
        match kind {
            "token_embd" => (Role::TokenEmbed, hidden),
            "output" => (Role::OutputHead, hidden),
            "output_norm" => (Role::OutputNorm, hidden),
            "attn_norm" => (Role::AttnNorm, hidden),
            "attn_q" => (Role::AttnQ, hidden),
            "attn_k" => (Role::AttnK, hidden),
            "attn_v" => (Role::AttnV, hidden),
            "attn_qkv" => (Role::AttnQkv, hidden),
            "attn_output" => (Role::AttnOut, hidden),
            "ffn_norm" => (Role::FfnNorm, hidden),
            "ffn_gate" => (Role::FfnGate, hidden),
            "ffn_up" => (Role::FfnUp, hidden),
            "ffn_down" => (Role::FfnDown, self.ffn),
            "ffn_gate_inp" => (Role::Router, hidden),
            "ffn_gate_exps" => (Role::ExpertGate, hidden),
            "ffn_up_exps" => (Role::ExpertUp, hidden),
            "ffn_down_exps" => (Role::ExpertDown, self.ffn),
            other => panic!("golden table has an unknown tensor kind {other}"),
        }
    }
}

/// 80 layers, 64 heads.
fn config(family: &str, kv_heads: usize) -> DecoderConfig {
    let rope = RopeConfig { base: 1e4, frequencies: vec![1.0], scale: 1.0, factors: None, linear: 1.0, long: None };
    DecoderConfig {
        family: family.into(),
        vocab: 32,
        hidden: 256,
        heads: 64,
        kv_heads,
        head_dim: 4,
        ffn: 256,
        context: 128,
        norm_eps: 1e-5,
        norm_offset: 0.0,
        post_norms: false,
        qk_norm: None,
        qkv_bias: false,
        out_bias: false,
        ffn_bias: false,
        fused_qkv: false,
        fused_gate_up: false,
        activation: Activation::Silu,
        attention_scale: 0.5,
        attention_softcap: None,
        logit_softcap: None,
        embed_scale: None,
        tied: false,
        layers: vec![Layer { window: None, rope, moe: false }; 80],
        experts: None,
    }
}

fn cases() -> BTreeMap<String, Case> {
    serde_json::from_str(include_str!("../../../golden/presets/types.json")).unwrap()
}

/// `q6_K*2 q4_K*6` as one type per layer.
fn expand(runs: &str) -> Vec<&str> {
    runs.split(' ')
        .flat_map(|run| {
            let (name, count) = run.split_once('*').unwrap();
            std::iter::repeat_n(name, count.parse().unwrap())
        })
        .collect()
}

#[test]
fn every_tensor_gets_the_type_that_llama_quantize_gives_it() {
    let mut compared = 0;
    for (name, case) in cases() {
        for (mix, kinds) in &case.mixes {
            let preset: Preset = mix.parse().unwrap();
            for (kind, runs) in kinds {
                for (layer, expected) in expand(runs).into_iter().enumerate() {
                    let got = preset.encoding(&case.model.facts(), &case.model.weight(kind, layer));
                    assert_eq!(got.to_string(), expected, "{name} {mix} {kind} {layer}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 60_000, "only {compared} tensors compared");
}

#[test]
fn facts_follow_from_the_configuration() {
    let expected = Facts { layers: 80, heads_per_kv: 8, seventy_b: true, ..Facts::default() };
    assert_eq!(Facts::of(&config("llama", 8)), expected);
    assert!(!Facts::of(&config("llama", 64)).seventy_b, "as many key heads as query heads: 65 B");
    assert!(Facts::of(&config("qwen2", 64)).seventy_b);
    assert!(!Facts::of(&config("qwen3", 8)).seventy_b);
}

#[test]
fn names_are_read_without_case_and_near_misses_are_named() {
    for preset in Preset::all() {
        assert_eq!(preset.name().to_lowercase().parse(), Ok(preset));
        assert_eq!(serde_json::from_value::<Preset>(serde_json::to_value(preset).unwrap()).unwrap(), preset);
    }
    let error = "q4_km".parse::<Preset>().unwrap_err();
    assert_eq!(error.suggestion.as_deref(), Some("Q4_K_M"));
}

#[test]
fn packed_presets_touch_linear_layers_only() {
    let shape = &cases()["llama-rows-of-288"].model;
    let preset: Preset = "w4a16".parse().unwrap();
    let name = |kind| preset.encoding(&shape.facts(), &shape.weight(kind, 0)).to_string();
    assert_eq!(name("attn_q"), "int4-g32", "288 is a multiple of 32 only");
    assert_eq!(name("ffn_down"), "int4-g128");
    for kept in ["token_embd", "output", "attn_norm", "ffn_gate_inp"] {
        assert_eq!(name(kept), "bf16", "{kept}");
    }
}
