#!/usr/bin/env python3
"""Golden logits: tiny random decoders of every family, run by transformers in float32.

Made with transformers 5.23.0 and torch 2.15.0 (CPU, eager attention). Run in this folder: `python make.py`.

For each case `<name>/`:
  config.v4.json  the config as hubs have it from before transformers 5 (`rope_theta`, `rope_scaling`)
  config.json     the same as transformers 5 saves it (`rope_parameters`)
  logits.f32      float32, little endian, [TOKENS, vocab_size]

Weights are not stored: they are a function of their names (crates/testkit/src/random.rs makes the same). Names are those
of a checkpoint with one tensor per expert, as hubs have them. Token i is (37 i + 11) mod vocab_size.
"""

import json
import re
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = 24
BASE = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=96, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
    tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)
GEMMA = {k: v for k, v in BASE.items() if k not in ("hidden_act", "tie_word_embeddings")} | dict(
    head_dim=32, hidden_activation="gelu_pytorch_tanh", sliding_window=8, query_pre_attn_scalar=32, attention_bias=False)
QWEN3_MOE = BASE | dict(
    model_type="qwen3_moe", head_dim=32, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=32,
    mlp_only_layers=[], decoder_sparse_step=1, attention_bias=False)
CASES = {
    "llama": BASE | dict(model_type="llama", tie_word_embeddings=True),
    "llama_3": BASE | dict(
        model_type="llama", attention_bias=True, mlp_bias=True, rope_theta=500000.0, max_position_embeddings=1024,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=64)),
    "llama_linear": BASE | dict(model_type="llama", rope_scaling=dict(type="linear", factor=4.0)),
    "llama_yarn": BASE | dict(
        model_type="llama", max_position_embeddings=512,
        rope_scaling=dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=64)),
    "mistral": BASE | dict(model_type="mistral", head_dim=24, sliding_window=8),
    "qwen2": BASE | dict(model_type="qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=2),
    "qwen3": BASE | dict(model_type="qwen3", head_dim=32, attention_bias=False, use_sliding_window=False,
                         sliding_window=8, tie_word_embeddings=True),
    "gemma2": GEMMA | dict(model_type="gemma2", attn_logit_softcapping=5.0, final_logit_softcapping=3.0),
    "gemma2_scaled": GEMMA | dict(model_type="gemma2", query_pre_attn_scalar=24, attn_logit_softcapping=50.0,
                                  final_logit_softcapping=30.0),
    "gemma3": GEMMA | dict(model_type="gemma3_text", rope_theta=1000000.0, rope_local_base_freq=10000.0,
                           rope_scaling=dict(rope_type="linear", factor=8.0), sliding_window_pattern=2),
    "phi3": BASE | dict(model_type="phi3", sliding_window=8),
    "phi3_long": BASE | dict(
        model_type="phi3", partial_rotary_factor=0.75, max_position_embeddings=256, original_max_position_embeddings=64,
        rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1, 1.2, 1.5, 2.0, 2.5],
                          long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
    "mixtral": BASE | dict(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2, sliding_window=None,
                           rope_theta=1000000.0),
    "qwen3_moe": QWEN3_MOE | dict(norm_topk_prob=True),
    "qwen3_moe_mixed": QWEN3_MOE | dict(norm_topk_prob=False, mlp_only_layers=[1]),
    "olmoe": BASE | dict(model_type="olmoe", num_key_value_heads=4, num_experts=6, num_experts_per_tok=3,
                         norm_topk_prob=False, attention_bias=False, clip_qkv=None),
}


def values(name, count):
    """SplitMix64 of the name's FNV-1a hash plus the index; the top byte, signed, over 512."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + np.uint64(h) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(56)).astype(np.uint8).view(np.int8).astype(np.float32) / 512


def weight(name, shape, family):
    data = values(name, int(np.prod(shape)))
    if "norm" in name and name.endswith(".weight") and "gemma" not in family:
        data = data + np.float32(1)
    return torch.from_numpy(data.reshape(shape))


def fill(name, parameter, family):
    """A parameter of the model, by its name or, where the model fuses experts, by theirs."""
    if family == "mixtral":
        name = name.replace(".mlp.gate.", ".block_sparse_moe.gate.").replace(".mlp.experts", ".block_sparse_moe.experts")
    gate, up, down = ("w1", "w3", "w2") if family == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    fused = re.fullmatch(r"(.*experts)\.(gate_up_proj|down_proj)", name)
    if not fused:
        return weight(name, parameter.shape, family)
    prefix, kind = fused.groups()
    experts, rows, cols = parameter.shape
    if kind == "down_proj":
        return torch.stack([weight(f"{prefix}.{e}.{down}.weight", (rows, cols), family) for e in range(experts)])
    half = lambda e, part: weight(f"{prefix}.{e}.{part}.weight", (rows // 2, cols), family)
    return torch.stack([torch.cat([half(e, gate), half(e, up)]) for e in range(experts)])


def make(name, case):
    family = case["model_type"]
    config = AutoConfig.for_model(**json.loads(json.dumps(case)))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    seen = set()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            seen.add(parameter)
            parameter.copy_(fill(key, parameter, family))
        ids = torch.tensor([[(37 * i + 11) % config.vocab_size for i in range(TOKENS)]])
        logits = model(ids).logits[0].float().numpy()
    assert logits.shape == (TOKENS, config.vocab_size) and np.isfinite(logits).all()
    folder = Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    (folder / "config.v4.json").write_text(json.dumps(case, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(json.loads(config.to_json_string()), indent=1) + "\n")
    logits.astype("<f4").tofile(folder / "logits.f32")
    print(f"{name}: logits within {np.abs(logits).max():.2f}, standard deviation {logits.std():.2f}")


if __name__ == "__main__":
    for name, case in CASES.items():
        make(name, case)
