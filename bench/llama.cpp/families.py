"""Every family in stock llama.cpp: perplexity of random models, run by llama.cpp from our GGUF and by transformers.

    python families.py CONVERT LLAMA_PERPLEXITY TOKENIZER_FOLDER TEXT [FAMILY…]

CONVERT is `target/release/examples/convert`. The models are those of `golden/logits`, wider, with weights large enough
that logits differ from token to token. Both sides use float32 weights, windows of 64 tokens, the second half of each
scored, no BOS. llama.cpp attends with an f16 cache. Needs torch and transformers.
"""

import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

WINDOW, WINDOWS = 64, 12
GOLDEN = Path(__file__).parents[2] / "golden" / "logits"


def model_of(case, vocab, layers=3):
    config = json.loads((GOLDEN / case / "config.json").read_text())
    # llama.cpp has no notion of windows outside the Gemmas.
    if "gemma" not in case:
        config |= {"sliding_window": None, "use_sliding_window": False, "layer_types": None}
    if case == "phi3_long":  # llama.cpp takes the long factors by the size of its cache, never below 256
        config |= {"max_position_embeddings": 2048, "original_max_position_embeddings": 512}
        config["rope_parameters"] |= {"original_max_position_embeddings": 512}
    if layers != config["num_hidden_layers"]:
        config |= {"num_hidden_layers": layers, "layer_types": None}
    config |= {"vocab_size": vocab, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None, "dtype": "float32"}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=1.5 / math.sqrt(p.shape[-1]))
            else:
                torch.nn.init.normal_(p, mean=0.0 if "gemma" in case and "norm" in name or "bias" in name else 1.0, std=0.1)
    return model.float().eval()


def by_transformers(model, ids):
    total, count = 0.0, 0
    for i in range(WINDOWS):
        window = torch.tensor([ids[i * WINDOW : (i + 1) * WINDOW]])
        with torch.no_grad():
            logits = model(window).logits[0, WINDOW // 2 : -1]
        total += torch.nn.functional.cross_entropy(logits, window[0, WINDOW // 2 + 1 :], reduction="sum").item()
        count += logits.shape[0]
    return math.exp(total / count)


def by_llama_cpp(tool, path, text):
    # Now and then the tool loses the end of its own log.
    for _ in range(5):
        run = subprocess.run(
            [tool, "-m", path, "-f", text, "-c", str(WINDOW), "--chunks", str(WINDOWS), "-t", "2", "-b", str(WINDOW)],
            capture_output=True, text=True,
        )
        if found := re.search(r"Final estimate: PPL = ([\d.]+)", run.stdout + run.stderr):
            return float(found[1])
    return (run.stdout + run.stderr)[-800:]


def main():
    convert, tool, tokenizer, text, *only = sys.argv[1:]
    words = AutoTokenizer.from_pretrained(tokenizer)
    ids = words(Path(text).read_text()[:40000], add_special_tokens=False)["input_ids"]
    for case in only or sorted(p.name for p in GOLDEN.iterdir() if p.is_dir()):
        with tempfile.TemporaryDirectory() as folder:
            model = model_of(case, len(words))
            model.save_pretrained(f"{folder}/model")
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(f"{tokenizer}/{file}", f"{folder}/model/{file}")
            run = subprocess.run([convert, f"{folder}/model", f"{folder}/m.gguf", "F32"], capture_output=True, text=True)
            if run.returncode:
                print(f"{case:14} refused: {run.stderr.strip()}")
                continue
            ours, theirs = by_transformers(model, ids), by_llama_cpp(tool, f"{folder}/m.gguf", text)
            if isinstance(theirs, str):
                print(f"{case:14} llama.cpp failed: {theirs}")
                continue
            note = " ".join(line for line in run.stdout.splitlines() if line.startswith("note"))
            print(f"{case:14} transformers {ours:12.3f}  llama.cpp {theirs:12.3f}  ratio {theirs / ours:.5f}  {note}")


if __name__ == "__main__":
    main()
