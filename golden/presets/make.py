"""Golden tables: the type that stock llama-quantize gives every tensor, for each mix and a range of model shapes.

    python make.py LLAMA_QUANTIZE > types.json      (needs the `gguf` package; made with gguf 0.19, llama.cpp of 2026-09)

The models are random and tiny (the choice depends on names, shapes and keys only); `--dry-run` prints the types.
Per mix and tensor kind: runs of types over the layers, "q6_K*2 q4_K*6".
"""

import json
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import gguf
import numpy as np

MIXES = (
    "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "
    "IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE"
).split()

# name: arch, layers, heads, kv_heads, hidden, ffn, experts, tied, importance
CASES = {
    "llama-gqa8": ("llama", 22, 8, 1, 256, 512, 0, False, False),
    "llama-tied": ("llama", 8, 4, 2, 256, 768, 0, True, False),
    "llama-importance": ("llama", 32, 8, 2, 256, 512, 0, False, True),
    "llama-rows-of-172": ("llama", 5, 8, 4, 64, 172, 0, True, False),
    "llama-rows-of-288": ("llama", 17, 6, 6, 288, 768, 0, False, False),
    "llama-rows-of-40": ("llama", 3, 4, 4, 40, 80, 0, False, False),
    "llama-70b": ("llama", 80, 8, 1, 256, 256, 0, False, False),
    "llama-65b": ("llama", 80, 8, 8, 256, 256, 0, False, False),
    "qwen2-70b": ("qwen2", 80, 8, 8, 256, 256, 0, True, False),
    "mixtral-8": ("llama", 32, 8, 2, 256, 512, 8, False, False),
    "qwen3moe-16": ("qwen3moe", 13, 4, 2, 256, 256, 16, False, False),
    "phi3": ("phi3", 32, 8, 8, 256, 512, 0, False, False),
    "gemma3": ("gemma3", 26, 4, 1, 256, 512, 0, True, False),
}


def tensors(arch, layers, heads, kv_heads, hidden, ffn, experts, tied):
    """Name and shape, outermost first, in the order in which converters write them."""
    head = hidden // heads
    yield "token_embd.weight", (32, hidden)
    for i in range(layers):
        yield f"blk.{i}.attn_norm.weight", (hidden,)
        if arch == "phi3":
            yield f"blk.{i}.attn_qkv.weight", ((heads + 2 * kv_heads) * head, hidden)
        else:
            yield f"blk.{i}.attn_q.weight", (heads * head, hidden)
            yield f"blk.{i}.attn_k.weight", (kv_heads * head, hidden)
            yield f"blk.{i}.attn_v.weight", (kv_heads * head, hidden)
        yield f"blk.{i}.attn_output.weight", (hidden, heads * head)
        yield f"blk.{i}.ffn_norm.weight", (hidden,)
        if experts:
            yield f"blk.{i}.ffn_gate_inp.weight", (experts, hidden)
            yield f"blk.{i}.ffn_gate_exps.weight", (experts, ffn, hidden)
            yield f"blk.{i}.ffn_up_exps.weight", (experts, ffn, hidden)
            yield f"blk.{i}.ffn_down_exps.weight", (experts, hidden, ffn)
        else:
            if arch != "phi3":
                yield f"blk.{i}.ffn_gate.weight", (ffn, hidden)
            yield f"blk.{i}.ffn_up.weight", (2 * ffn if arch == "phi3" else ffn, hidden)
            yield f"blk.{i}.ffn_down.weight", (hidden, ffn)
    yield "output_norm.weight", (hidden,)
    if not tied:
        yield "output.weight", (32, hidden)


def write_model(path, case):
    arch, layers, heads, kv_heads, hidden, ffn, experts, tied, _ = case
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(layers)
    w.add_context_length(128)
    w.add_embedding_length(hidden)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(hidden // heads)
    w.add_sliding_window(64)
    w.add_vocab_size(32)
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(2)
        w.add_expert_feed_forward_length(ffn)
    for name, shape in tensors(*case[:-1]):
        plain = len(shape) == 1 or "ffn_gate_inp" in name
        w.add_tensor(name, np.zeros(shape, dtype=np.float32 if plain else np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_importance(path, case):
    """An importance matrix that covers every matrix."""
    w = gguf.GGUFWriter(path, "imatrix")
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["none"])
    w.add_uint32("imatrix.chunk_count", 1)
    w.add_uint32("imatrix.chunk_size", 1)
    for name, shape in tensors(*case[:-1]):
        if len(shape) > 1:
            w.add_tensor(name + ".in_sum2", np.ones((1, shape[-1]), dtype=np.float32))
            w.add_tensor(name + ".counts", np.ones((1, 1), dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


LINE = re.compile(r"\] +(\S+) +- \[.*?type = +(\S+), size = .*?MiB(?: *-> .*?\((\S+)\))?$")


def types(tool, folder, mix, importance):
    args = [tool, "--dry-run"] + (["--imatrix", folder / "imatrix.gguf"] if importance else [])
    run = subprocess.run(args + [folder / "model.gguf", folder / "out.gguf", mix], capture_output=True, text=True)
    lines = (LINE.search(line) for line in (run.stdout + run.stderr).splitlines())
    found = {m[1]: m[3] or m[2] for m in lines if m}
    assert found, run.stdout + run.stderr
    return found


def by_kind(found):
    """{"attn_v": "q6_K*2 q4_K*6"}: layers in order."""
    kinds = {}
    layer = lambda name: int(name.split(".")[1]) if name.startswith("blk.") else 0
    for name in sorted(found, key=layer):
        kind = re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")
        kinds.setdefault(kind, []).append(found[name])
    return {k: " ".join(f"{t}*{len(list(run))}" for t, run in groupby(kinds[k])) for k in sorted(kinds)}


def main():
    table = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            write_model(folder / "model.gguf", case)
            if case[-1]:
                write_importance(folder / "imatrix.gguf", case)
            keys = "arch layers heads kv_heads hidden ffn experts tied importance".split()
            mixes = {mix: by_kind(types(sys.argv[1], folder, mix, case[-1])) for mix in MIXES}
            table[name] = {"model": dict(zip(keys, case)), "mixes": mixes}
    json.dump(table, sys.stdout, indent=1)
    print()


main()
