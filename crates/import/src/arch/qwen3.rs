//! Qwen 3: norms of each query and key head in place of biases.

use super::qwen2::upper_layers;
use super::{Arch, DEFAULTS, Defaults, common, nothing};
use graph::QkNorm;

/// See the module.
pub(super) static QWEN3: Arch = Arch {
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    gguf: "qwen3",
    interleaved: false,
    names: &[],
    config: |keys| {
        let sliding = upper_layers(keys);
        let mut config = common(keys, &QWEN3, sliding, &Defaults { head_dim: Some(128), ..DEFAULTS });
        config.qk_norm = Some(QkNorm::Head);
        config.qkv_bias = keys.flag_or("attention_bias", false);
        config.out_bias = config.qkv_bias;
        config
    },
    gguf_unsaid: nothing,
};
