"""Pruned decoders in stock transformers and stock llama.cpp: perplexity by three programs.

    python decoders.py TINIER LLAMA_PERPLEXITY MODEL TEXT [CASE…]

MODEL is a Hugging Face folder (`novels-7m`), TEXT any file; it is calibrated on, too. Of MODEL layers, heads and channels go; of random
models of other families, made by transformers under seed 0 as `bench/llama.cpp/families.py` makes them, layers and experts. Each is
written as a folder, which transformers and tinier run, and as GGUF, which llama.cpp and tinier run. Float32 but for MODEL's own weights; windows of
64 tokens, the second half of each scored, no BOS. llama.cpp attends with an f16 cache, and knows no windows outside the Gemmas.
Needs torch and transformers.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "llama.cpp"))
from families import WINDOW, WINDOWS, by_llama_cpp, by_transformers, model_of

QUERIES = 'prune = { channels = 0.5, only = ["attn_q"] }'
KEYS = 'prune = { channels = 0.5, only = ["attn_k"] }'
CASES = {
    "MODEL, 6 of its layers": (None, "prune = { layers = 6 }"),
    "MODEL, half of its key heads": (None, KEYS),
    "MODEL, half of its queries": (None, QUERIES),
    "gemma2, 4 of 6 layers": ("gemma2", "prune = { layers = 4 }"),
    "gemma3, 4 of 6 layers": ("gemma3", "prune = { layers = 4 }"),
    "qwen3_moe, 4 of 6 experts": ("qwen3_moe", "prune = { experts = 4 }"),
    "mixtral, 3 of 4 experts": ("mixtral", "prune = { experts = 3 }"),
    "olmoe, half of its experts": ("olmoe", "prune = { experts = 0.5 }"),
    "olmoe, 2 layers, half its experts": ("olmoe", "prune = { layers = 2 }\n[[step]]\nprune = { experts = 0.5 }"),
}


def by_tinier(tinier, model, text):
    asked = [tinier, "-q", "eval", str(model), "--text", text, "--context", str(WINDOW), "--json"]
    out = subprocess.run([*asked, "--tokens", str(WINDOW * WINDOWS)], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["perplexity"]["value"]


def pruned(tinier, source, out, steps, text, container):
    recipe = out.with_suffix(".toml")
    recipe.write_text(f'[[step]]\n{steps}\n[output]\nformat = "{container}"\n')
    asked = [tinier, "-q", "compress", str(source), str(out), "--recipe", str(recipe), "--calibration", text]
    asked += ["--samples", "8", "--length", "64", "--text", text, "--tokens", "512"]
    run = subprocess.run(asked, capture_output=True, text=True)
    return None if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


def source_of(family, model, folder):
    if family is None:
        return Path(model)
    made, words = folder / "source", AutoTokenizer.from_pretrained(model)
    random = model_of(family, len(words), layers=6 if "gemma" in family else 3)
    random.save_pretrained(made)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{model}/{file}", made / file)
    return made


def main():
    tinier, tool, model, text, *only = sys.argv[1:]
    ids = AutoTokenizer.from_pretrained(model)(Path(text).read_text()[:40000], add_special_tokens=False)["input_ids"]
    for case, (family, steps) in CASES.items():
        if only and not any(word in case for word in only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            source = source_of(family, model, folder)
            line = f"{case:34}"
            if why := pruned(tinier, source, folder / "out", steps, text, "safetensors"):
                print(f"{line} folder refused: {why}")
            else:
                ours = by_tinier(tinier, folder / "out", text)
                theirs = AutoModelForCausalLM.from_pretrained(folder / "out", dtype=torch.float32).eval()
                line += f"  folder: tinier {ours:10.4f}, transformers {by_transformers(theirs, ids):10.4f}"
            if why := pruned(tinier, source, folder / "file.gguf", steps, text, "gguf"):
                line += f"  gguf refused: {why}"
            else:
                ours, theirs = by_tinier(tinier, folder / "file.gguf", text), by_llama_cpp(tool, str(folder / "file.gguf"), text)
                line += f"  gguf: tinier {ours:10.4f}, llama.cpp {theirs}"
            print(line, flush=True)


main()
