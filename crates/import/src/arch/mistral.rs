//! Mistral: Llama with a window over every layer. llama.cpp knows it as `llama`, without the window.

use super::{Arch, DEFAULTS, Defaults, Sliding, common, nothing};

/// See the module.
pub(super) static MISTRAL: Arch = Arch {
    model_type: "mistral",
    class: "MistralForCausalLM",
    gguf: "llama",
    interleaved: true,
    names: &[],
    config: |keys| {
        let sliding = Sliding::everywhere(keys);
        common(keys, &MISTRAL, sliding, &Defaults { kv_heads: Some(8), ..DEFAULTS })
    },
    gguf_unsaid: nothing,
};
