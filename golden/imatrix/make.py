"""Imatrix files by llama-imatrix (llama.cpp 2026-09) in both layouts, of two tiny models.

    python make.py CONVERT LLAMA_IMATRIX STORIES260K TEXT          (needs torch and transformers)

`dense.*`: stories260K, two chunks of 64 tokens. `experts.*`: the random model of ../logits/mixtral with 16 experts, one
chunk of 16 tokens, so that some experts see nothing. CONVERT is `target/release/examples/convert`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).resolve().parent


def imatrix(convert, tool, model, text, name, context, chunks):
    Path("model.gguf").unlink(missing_ok=True)
    subprocess.run([convert, model, "model.gguf", "F32"], check=True)
    for form in ("gguf", "dat"):
        command = [tool, "-m", "model.gguf", "-f", text, "-c", context, "-b", context, "--chunks", chunks, "-t", "1"]
        command += ["--output-format", form, "-o", HERE / f"{name}.{form}"]
        subprocess.run([str(c) for c in command], check=True, capture_output=True)


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
    convert, tool, stories, text = (Path(p).resolve() for p in sys.argv[1:5])
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(text, f"{folder}/text.txt")
        os.chdir(folder)
        imatrix(convert, tool, stories, "text.txt", "dense", 64, 2)
        experts(stories, Path("experts"))
        imatrix(convert, tool, "experts", "text.txt", "experts", 16, 1)


main()
