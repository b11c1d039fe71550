//! Gemma 3, its text part: norms of query and key heads, five sliding layers to one global one, each with its own θ.

use super::gemma2::{GEMMA, NAMES, attention_scalar, gemma};
use super::{Arch, Defaults, Sliding, common};
use crate::keys::MAX_LAYERS;
use graph::QkNorm;

/// See the module.
pub(super) static GEMMA3: Arch = Arch {
    model_type: "gemma3_text",
    class: "Gemma3ForCausalLM",
    gguf: "gemma3",
    interleaved: false,
    names: &NAMES,
    config: |keys| {
        let sliding = Sliding {
            full_every: Some(keys.size_or("sliding_window_pattern", 6, MAX_LAYERS)),
            ..Sliding::everywhere(keys)
        };
        let defaults = Defaults { theta: 1e6, local_theta: Some(10_000.0), ..GEMMA };
        let mut config = common(keys, &GEMMA3, sliding, &defaults);
        gemma(keys, &mut config);
        config.qk_norm = Some(QkNorm::Head);
        config.attention_softcap = keys.find::<f32>("attn_logit_softcapping");
        config.logit_softcap = keys.find::<f32>("final_logit_softcapping");
        config
    },
    gguf_unsaid: |config| attention_scalar(config, 62),
};
