//! Qwen 2 and 2.5: biases on queries, keys and values; an optional window over the upper layers.

use super::{Arch, DEFAULTS, Sliding, common, nothing};
use crate::keys::{Keys, MAX_WIDTH};

/// See the module.
pub(super) static QWEN2: Arch = Arch {
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    gguf: "qwen2",
    interleaved: false,
    names: &[],
    config: |keys| {
        let sliding = upper_layers(keys);
        let mut config = common(keys, &QWEN2, sliding, &DEFAULTS);
        config.qkv_bias = true;
        config
    },
    gguf_unsaid: nothing,
};

/// The window, where the config asks for one, over the layers from `max_window_layers`.
pub(super) fn upper_layers(keys: &mut Keys<'_>) -> Sliding {
    if !keys.flag_or("use_sliding_window", false) {
        return Sliding::NEVER;
    }
    let window = Some(keys.size_or("sliding_window", 4096, MAX_WIDTH));
    Sliding { window, first: keys.find("max_window_layers").unwrap_or(28), full_every: None }
}
