//! Mixtral: Mistral with experts whose probabilities sum to one.

use super::{Arch, DEFAULTS, Defaults, Sliding, add_experts, common, experts};
use crate::names::Stem;
use graph::Role;

/// See the module. Checkpoints in the names of transformers 5 use the common ones.
pub(super) static MIXTRAL: Arch = Arch {
    model_type: "mixtral",
    class: "MixtralForCausalLM",
    gguf: "llama",
    interleaved: true,
    names: &[
        Stem { role: Role::Router, hf: &["block_sparse_moe.gate", "mlp.gate"], gguf: "ffn_gate_inp" },
        Stem {
            role: Role::ExpertGate,
            hf: &["block_sparse_moe.experts.{e}.w1", "mlp.experts.{e}.gate_proj"],
            gguf: "ffn_gate_exps",
        },
        Stem {
            role: Role::ExpertUp,
            hf: &["block_sparse_moe.experts.{e}.w3", "mlp.experts.{e}.up_proj"],
            gguf: "ffn_up_exps",
        },
        Stem {
            role: Role::ExpertDown,
            hf: &["block_sparse_moe.experts.{e}.w2", "mlp.experts.{e}.down_proj"],
            gguf: "ffn_down_exps",
        },
    ],
    config: |keys| {
        let sliding = Sliding::everywhere(keys);
        let defaults = Defaults { theta: 1e6, eps: 1e-5, kv_heads: Some(8), ..DEFAULTS };
        let mut config = common(keys, &MIXTRAL, sliding, &defaults);
        let experts = experts(keys, &["num_local_experts", "num_experts"], "intermediate_size", true);
        add_experts(&mut config, experts, |_| true);
        config
    },
    // llama.cpp lets every token see all others.
    gguf_unsaid: |config| drop(config.remove("sliding_window")),
};
