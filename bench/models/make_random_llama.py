"""Random models of real shapes, for measurements of speed and memory.

    python make_random_llama.py SHAPE OUT TOKENIZER_FOLDER

SHAPE is `tinyllama-1.1b` or `smollm-135m`. Weights are normal, bf16; the tokenizer is copied (the vocabulary is padded
to the shape's). Needs torch and safetensors.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

# hidden, ffn, layers, heads, kv_heads, vocab, tied
SHAPES = {
    "tinyllama-1.1b": (2048, 5632, 22, 32, 4, 32000, False),
    "smollm-135m": (576, 1536, 30, 9, 3, 49152, True),
}


def main():
    shape, out, tokenizer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    hidden, ffn, layers, heads, kv_heads, vocab, tied = SHAPES[shape]
    out.mkdir(parents=True)
    rng = torch.Generator().manual_seed(0)

    def matrix(rows, cols):
        return (torch.randn(rows, cols, generator=rng) * 0.02).bfloat16()

    def ones():
        return torch.ones(hidden, dtype=torch.bfloat16)

    tensors = {"model.embed_tokens.weight": matrix(vocab, hidden), "model.norm.weight": ones()}
    if not tied:
        tensors["lm_head.weight"] = matrix(vocab, hidden)
    for i in range(layers):
        name = f"model.layers.{i}"
        kv = hidden // heads * kv_heads
        tensors[f"{name}.input_layernorm.weight"] = ones()
        tensors[f"{name}.post_attention_layernorm.weight"] = ones()
        for part, rows, cols in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", kv, hidden),
            ("self_attn.v_proj", kv, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ):
            tensors[f"{name}.{part}.weight"] = matrix(rows, cols)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": tied,
    }  # fmt: skip
    (out / "config.json").write_text(json.dumps(config, indent=1))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        if (tokenizer / file).exists():
            shutil.copy(tokenizer / file, out / file)


main()
