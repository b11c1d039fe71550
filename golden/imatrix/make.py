"""Imatrix files by llama-imatrix (llama.cpp 2026-09) in both layouts, of two tiny models.

    python make.py CONVERT LLAMA_BIN STORIES260K TEXT          (needs torch, transformers and gguf)

`dense.*`: stories260K, two chunks of 64 tokens. `experts.*`: the random model of ../logits/mixtral with 16 experts, one
chunk of 16 tokens, so that some experts see nothing. `dense-q3_k_m.json`: SHA-256 of every tensor that llama-quantize makes
of stories260K with `dense.gguf`. CONVERT is `target/release/examples/convert`, LLAMA_BIN the folder
of llama-imatrix and llama-quantize.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).resolve().parent


def imatrix(convert, tool, model, text, name, context, chunks):
    Path("model.gguf").unlink(missing_ok=True)
    subprocess.run([convert, model, "model.gguf", "F32"], check=True)
    for form in ("gguf", "dat"):
        command = [tool, "-m", "model.gguf", "-f", text, "-c", context, "-b", context, "--chunks", chunks, "-t", "1"]
        command += ["--output-format", form, "-o", HERE / f"{name}.{form}"]
        subprocess.run([str(c) for c in command], check=True, capture_output=True)


def quantized(tool, preset):
    command = [tool, "--imatrix", HERE / "dense.gguf", "model.gguf", "out.gguf", preset, "1"]
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    hashes = {t.name: hashlib.sha256(t.data.tobytes()).hexdigest() for t in GGUFReader("out.gguf").tensors}
    (HERE / f"dense-{preset.lower()}.json").write_text(json.dumps(hashes, indent=0) + "\n")


def experts(stories, out):
    config = json.loads((HERE.parent / "logits" / "mixtral" / "config.json").read_text())
    config |= {"vocab_size": 512, "num_local_experts": 16, "sliding_window": None, "dtype": "float32", "hidden_size": 32}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64}
    config |= {"bos_token_id": 1, "eos_token_id": 2, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    model.float().save_pretrained(out)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(stories / file, out / file)


def main():
    convert, tools, stories, text = (Path(p).resolve() for p in sys.argv[1:5])
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(text, f"{folder}/text.txt")
        os.chdir(folder)
        imatrix(convert, tools / "llama-imatrix", stories, "text.txt", "dense", 64, 2)
        quantized(tools / "llama-quantize", "Q3_K_M")
        experts(stories, Path("experts"))
        imatrix(convert, tools / "llama-imatrix", "experts", "text.txt", "experts", 16, 1)


main()
