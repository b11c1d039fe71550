//! Llama 1 to 3, and the many models of its shape (SmolLM, TinyLlama, Yi, …).

use super::{Arch, DEFAULTS, Sliding, common, nothing};

/// See the module.
pub(super) static LLAMA: Arch = Arch {
    model_type: "llama",
    class: "LlamaForCausalLM",
    gguf: "llama",
    interleaved: true,
    names: &[],
    config: |keys| {
        let mut config = common(keys, &LLAMA, Sliding::NEVER, &DEFAULTS);
        config.qkv_bias = keys.flag_or("attention_bias", false);
        config.out_bias = config.qkv_bias;
        config.ffn_bias = keys.flag_or("mlp_bias", false);
        config
    },
    gguf_unsaid: nothing,
};
