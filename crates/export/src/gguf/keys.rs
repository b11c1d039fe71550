//! What a file says of the architecture, and what of a model llama.cpp cannot be told.

use super::Options;
use formats::gguf::Metadata;
use graph::ops::Activation;
use graph::{DecoderConfig, Layer};
use import::arch::Arch;

/// Version of the block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Keys of the model, without the tokenizer.
pub(super) fn metadata(config: &DecoderConfig, arch: &Arch, options: &Options<'_>) -> Metadata {
    let mut keys = Keys { keys: Metadata::default(), arch: arch.gguf };
    keys.keys.set("general.architecture", arch.gguf);
    keys.keys.set("general.type", "model");
    keys.keys.set("general.name", options.name);
    keys.keys.set("general.file_type", options.file_type);
    keys.keys.set("general.quantization_version", QUANTIZATION_VERSION);
    keys.size("block_count", config.layers.len());
    keys.size("context_length", config.context);
    keys.size("embedding_length", config.hidden);
    keys.size("feed_forward_length", config.ffn);
    keys.size("vocab_size", config.vocab);
    keys.size("attention.head_count", config.heads);
    keys.size("attention.head_count_kv", config.kv_heads);
    keys.size("attention.key_length", config.head_dim);
    keys.size("attention.value_length", config.head_dim);
    keys.number("attention.layer_norm_rms_epsilon", config.norm_eps as f32);
    config.attention_softcap.inspect(|cap| keys.number("attn_logit_softcapping", *cap));
    config.logit_softcap.inspect(|cap| keys.number("final_logit_softcapping", *cap));
    if let Some(experts) = &config.experts {
        keys.size("expert_count", experts.count);
        keys.size("expert_used_count", experts.used);
        keys.size("expert_feed_forward_length", experts.ffn);
    }
    keys.rope(config);
    keys.windows(config);
    keys.keys
}

/// Keys under the architecture's name.
struct Keys {
    keys: Metadata,
    arch: &'static str,
}

impl Keys {
    fn size(&mut self, key: &str, value: usize) {
        // Configs are capped far below 2³² when they are read.
        self.keys.set(format!("{}.{key}", self.arch), value as u32);
    }

    fn number(&mut self, key: &str, value: f32) {
        self.keys.set(format!("{}.{key}", self.arch), value);
    }

    fn rope(&mut self, config: &DecoderConfig) {
        let Some(Layer { rope, .. }) = full_layer(config) else { return };
        self.number("rope.freq_base", rope.base);
        self.size("rope.dimension_count", 2 * rope.frequencies.len());
        if let Some(layer) = config.layers.iter().find(|l| l.window.is_some() && l.rope.base != rope.base) {
            self.number("rope.freq_base_swa", layer.rope.base);
        }
        if rope.linear != 1.0 {
            self.keys.set(format!("{}.rope.scaling.type", self.arch), "linear");
            self.number("rope.scaling.factor", rope.linear);
        }
        if let Some(long) = &rope.long {
            self.keys.set(format!("{}.rope.scaling.type", self.arch), "longrope");
            self.size("rope.scaling.original_context_length", long.original_context);
        }
        if rope.scale != 1.0 {
            self.number("rope.scaling.attn_factor", rope.scale);
        }
    }

    /// llama.cpp slides in the Gemmas only, by a pattern of its own unless it is told another. Phi-3 has to say that it
    /// does not slide: older versions slide where nothing is said.
    fn windows(&mut self, config: &DecoderConfig) {
        let window = config.layers.iter().find_map(|l| l.window);
        let Some(window) = window.or((self.arch == "phi3").then_some(0)) else { return };
        self.size("attention.sliding_window", window);
        let slides: Vec<bool> = config.layers.iter().map(|l| l.window.is_some()).collect();
        let usual = |every: usize| slides.iter().enumerate().all(|(i, slides)| *slides == ((i + 1) % every != 0));
        let known = match self.arch {
            "gemma2" => usual(2),
            "gemma3" => usual(6),
            _ => true,
        };
        if !known {
            self.keys.set(format!("{}.attention.sliding_window_pattern", self.arch), slides);
        }
    }
}

/// A layer that sees everything, where there is one.
fn full_layer(config: &DecoderConfig) -> Option<&Layer> {
    config.layers.iter().find(|l| l.window.is_none()).or(config.layers.first())
}

/// What llama.cpp takes for granted of an architecture and this model has otherwise.
pub(super) fn obstacles(config: &DecoderConfig, arch: &Arch) -> Vec<String> {
    let is = |names: &[&str]| names.contains(&arch.gguf);
    let (gemma, olmoe) = (is(&["gemma2", "gemma3"]), is(&["olmoe"]));
    let activation = if gemma { Activation::GeluTanh } else { Activation::Silu };
    let narrow = config.head_dim * config.heads != config.hidden;
    let normalized = config.experts.as_ref().map(|e| e.normalize);
    let checks = [
        (config.activation != activation, "its activation is another"),
        (!close(config.attention_scale, attention_scale(config, gemma)), "its attention scale is another"),
        (narrow && is(&["qwen2", "phi3", "olmoe"]), "its heads do not add up to its width"),
        (config.kv_heads != config.heads && olmoe, "it has fewer key heads than query heads"),
        (config.out_bias && !is(&["llama"]), "its attention output has a bias"),
        (config.ffn_bias && !is(&["llama"]), "its feed-forward part has biases"),
        (config.attention_softcap.is_some() != is(&["gemma2"]), "its attention scores are capped otherwise"),
        (config.logit_softcap.is_some() && !gemma, "its logits are capped"),
        (config.logit_softcap.is_none() && is(&["gemma2"]), "its logits are not capped"),
        (!config.tied && is(&["gemma2"]), "its output head is not the embedding table"),
        (config.tied && olmoe, "its output head is the embedding table"),
        (config.experts.is_some() && !config.layers.iter().all(|l| l.moe), "only some of its layers have experts"),
        (normalized == Some(olmoe), "its expert probabilities are normalised otherwise"),
    ];
    let rope = rope_obstacles(config, arch);
    checks.into_iter().chain(rope).filter(|(wrong, _)| *wrong).map(|(_, what)| what.to_owned()).collect()
}

/// llama.cpp has one rotary embedding for all layers, and one more θ for those that slide.
fn rope_obstacles(config: &DecoderConfig, arch: &Arch) -> [(bool, &'static str); 3] {
    let Some(Layer { rope, .. }) = full_layer(config) else { return [(false, ""); 3] };
    let mut full = config.layers.iter().filter(|l| l.window.is_none());
    [
        (full.any(|l| l.rope != *rope), "its layers are rotated differently"),
        (arch.gguf == "llama" && 2 * rope.frequencies.len() != config.head_dim, "only a part of each head is rotated"),
        (rope.factors.is_some() && !matches!(arch.gguf, "llama" | "phi3"), "its rotary scaling has no key"),
    ]
}

/// The scale that llama.cpp derives. It knows the largest Gemmas by their number of layers.
fn attention_scale(config: &DecoderConfig, gemma: bool) -> f32 {
    let largest = gemma && config.layers.len() == if config.qk_norm.is_some() { 62 } else { 46 };
    let channels = if largest { config.hidden / config.heads.max(1) } else { config.head_dim };
    1.0 / (channels as f32).sqrt()
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}

/// Where llama.cpp will run the model a little differently.
pub(super) fn notes(config: &DecoderConfig, arch: &Arch) -> Vec<String> {
    let slides = config.layers.iter().find_map(|l| l.window).filter(|_| !matches!(arch.gguf, "gemma2" | "gemma3"));
    let note = |window| format!("llama.cpp lets every token see all others; the model was made to see {window}");
    slides.filter(|window| *window < config.context).map(note).into_iter().collect()
}
