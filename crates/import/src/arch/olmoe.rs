//! OLMoE: experts everywhere, norms over whole query and key projections.

use super::{Arch, DEFAULTS, Defaults, Sliding, add_experts, common, experts, nothing};
use graph::QkNorm;

/// See the module. llama.cpp never makes the chosen probabilities sum to one, as the published model.
pub(super) static OLMOE: Arch = Arch {
    model_type: "olmoe",
    class: "OlmoeForCausalLM",
    gguf: "olmoe",
    interleaved: false,
    names: &[],
    config: |keys| {
        let mut config = common(keys, &OLMOE, Sliding::NEVER, &Defaults { eps: 1e-5, ..DEFAULTS });
        config.qk_norm = Some(QkNorm::Full);
        config.qkv_bias = keys.flag_or("attention_bias", false);
        config.out_bias = config.qkv_bias;
        if keys.find::<f64>("clip_qkv").is_some() {
            keys.unsupported("clip_qkv");
        }
        let normalize = keys.flag_or("norm_topk_prob", false);
        let experts = experts(keys, &["num_experts", "num_local_experts"], "intermediate_size", normalize);
        add_experts(&mut config, experts, |_| true);
        config
    },
    gguf_unsaid: nothing,
};
