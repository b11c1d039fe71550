//! Phi-3 and Phi-4 mini: one matrix for queries, keys and values, one for gate and up; LongRoPE in the long variants.

use super::{Arch, DEFAULTS, Defaults, Sliding, common};

/// See the module. llama.cpp keeps the fused gate and up under the name of up, and ignores the window.
pub(super) static PHI3: Arch = Arch {
    model_type: "phi3",
    class: "Phi3ForCausalLM",
    gguf: "phi3",
    interleaved: false,
    names: &[],
    config: |keys| {
        let sliding = Sliding::everywhere(keys);
        let mut config = common(keys, &PHI3, sliding, &Defaults { eps: 1e-5, ..DEFAULTS });
        config.fused_qkv = true;
        config.fused_gate_up = true;
        config
    },
    // llama.cpp lets every token see all others.
    gguf_unsaid: |config| drop(config.remove("sliding_window")),
};
