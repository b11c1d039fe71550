//! Qwen 3 with experts, in every layer or in some.

use super::qwen2::upper_layers;
use super::{Arch, DEFAULTS, Defaults, Sliding, add_experts, common, experts};
use graph::QkNorm;

/// See the module. llama.cpp always makes the chosen probabilities sum to one.
pub(super) static QWEN3_MOE: Arch = Arch {
    model_type: "qwen3_moe",
    class: "Qwen3MoeForCausalLM",
    gguf: "qwen3moe",
    interleaved: false,
    names: &[],
    config: |keys| {
        let sliding = Sliding { first: 0, ..upper_layers(keys) };
        let mut config = common(keys, &QWEN3_MOE, sliding, &Defaults { kv_heads: Some(4), ..DEFAULTS });
        config.qk_norm = Some(QkNorm::Head);
        config.qkv_bias = keys.flag_or("attention_bias", false);
        config.out_bias = config.qkv_bias;
        let normalize = keys.flag_or("norm_topk_prob", false);
        let experts = experts(keys, &["num_experts", "num_local_experts"], "moe_intermediate_size", normalize);
        let dense: Vec<usize> = keys.find("mlp_only_layers").unwrap_or_default();
        let step = keys.size_or("decoder_sparse_step", 1, usize::MAX);
        add_experts(&mut config, experts, |i| !dense.contains(&i) && (i + 1) % step == 0);
        config
    },
    gguf_unsaid: |config| {
        config.insert("norm_topk_prob".into(), true.into());
    },
};
