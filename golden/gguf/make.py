#!/usr/bin/env python3
"""Golden GGUF files: what llama.cpp's own converter makes of the models of `golden/logits`.

    LLAMA_CPP=/path/to/llama.cpp python make.py        (in this folder; llama.cpp of 2026-09, transformers 5.23.0)

For each case `<name>.json`: every key of the architecture (`<arch>.*`), and of every tensor its type, its shape,
outermost dimension first, and a checksum: the sum of (position + 1) · byte, modulo 2⁶⁴. All tensors are F32. There is no
tokenizer.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "logits"))
import make as logits  # noqa: E402

CONVERT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import convert_hf_to_gguf, conversion
from conversion import base, gemma, llama, olmo, phi, qwen
for module in (base, gemma, llama, olmo, phi, qwen):
    for kind in vars(module).values():
        if isinstance(kind, type) and "set_vocab" in vars(kind):
            kind.set_vocab = lambda self: None
convert_hf_to_gguf.main()
"""


def weights(case):
    """By the names of a checkpoint, one tensor per expert."""
    family = case["model_type"]
    config = AutoConfig.for_model(**json.loads(json.dumps(case)))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    gate, up, down = ("w1", "w3", "w2") if family == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    for name, parameter in model.named_parameters():
        if ".experts." not in name:
            name = name.replace("mlp.gate.", "block_sparse_moe.gate.") if family == "mixtral" else name
            yield name, logits.weight(name, parameter.shape, family)
            continue
        prefix, kind = name.rsplit(".", 1)
        prefix = prefix.replace(".mlp.", ".block_sparse_moe.") if family == "mixtral" else prefix
        experts, rows, cols = parameter.shape
        parts = [(down, rows)] if kind == "down_proj" else [(gate, rows // 2), (up, rows // 2)]
        for e in range(experts):
            for part, rows in parts:
                key = f"{prefix}.{e}.{part}.weight"
                yield key, logits.weight(key, (rows, cols), family)


def checksum(data):
    data = np.ascontiguousarray(data).reshape(-1).view(np.uint8).astype(np.uint64)
    with np.errstate(over="ignore"):
        return int((data * np.arange(1, data.size + 1, dtype=np.uint64)).sum())


def make(name, case):
    config = json.loads((HERE.parent / "logits" / name / "config.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save_file({k: v.contiguous() for k, v in weights(case)}, folder / "model.safetensors")
        classes = AutoModelForCausalLM._model_mapping[type(AutoConfig.for_model(case["model_type"]))]
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [classes.__name__]}))
        vocabulary = {"model": {"vocab": {str(i): i for i in range(case["vocab_size"])}}, "added_tokens": []}
        (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
        out = folder / "out.gguf"
        run = [sys.executable, "-c", CONVERT, os.environ["LLAMA_CPP"], folder, "--outfile", out, "--outtype", "f32"]
        done = subprocess.run(run, capture_output=True, text=True)
        if done.returncode:
            print(f"{name}: refused by the converter: {done.stderr.strip().splitlines()[-1]}")
            return
        reader = GGUFReader(out)
        arch = reader.fields["general.architecture"].contents()
        keys = {k: f.contents() for k, f in reader.fields.items() if k.startswith(f"{arch}.")}
        tensors = {
            t.name: [t.tensor_type.name, [int(n) for n in reversed(t.shape)], checksum(t.data)] for t in reader.tensors
        }
    made = {"architecture": arch, "keys": keys, "tensors": tensors}
    (HERE / f"{name}.json").write_text(json.dumps(made, sort_keys=True).replace('], "', '],\n "') + "\n")


# The converter writes the one, but llama.cpp computes something else from it; the other it refuses.
WRONG = {"gemma2_scaled", "qwen3_moe_mixed"}
for name, case in logits.CASES.items():
    if name not in WRONG:
        make(name, case)
