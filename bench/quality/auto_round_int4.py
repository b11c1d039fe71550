"""AutoRound, four bits symmetric, 200 iterations, else at its defaults, on given windows of token ids.

    python auto_round_int4.py MODEL WINDOWS.json OUT GROUP      (its own virtual environment)

Weights are loaded in the type that the checkpoint stores. THREADS in the environment says how many (2). It writes its own packed form into OUT/packed;
OUT/plain is the same numbers decoded (integers times scales, in float32), a folder that everything can open.
Prints seconds.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch
from auto_round import AutoRound
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

ITERATIONS = 200


def unpack(words, along):
    """Eight four-bit numbers of each int32 word, lowest bits first, laid out along an axis."""
    words = words if along == 0 else words.T
    nibbles = (words.unsqueeze(1) >> torch.arange(0, 32, 4, dtype=torch.int32).view(1, 8, 1)) & 15
    nibbles = nibbles.reshape(-1, words.shape[1])
    return nibbles if along == 0 else nibbles.T


def decode(packed, plain, model):
    """GPTQ's layout: qweight [inputs/8, outputs], scales [groups, outputs]; zero points of symmetric scales are 8."""
    tensors = {}
    for shard in packed.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    known = load_file(model / "model.safetensors")
    out = {name: tensors.get(name, value).float() for name, value in known.items()}
    for name, words in tensors.items():
        if name.endswith(".qweight"):
            stem = name.removesuffix(".qweight")
            codes, scales = unpack(words, 0), tensors[f"{stem}.scales"].float()
            zeros = unpack(tensors[f"{stem}.qzeros"], 1)
            # The first version of the format stores zero points less one.
            assert bool((zeros == 7).all()), "not symmetric"
            group = codes.shape[0] // scales.shape[0]
            out[f"{stem}.weight"] = ((codes - 8) * scales.repeat_interleave(group, 0)).T.contiguous()
    plain.mkdir()
    save_file(out, plain / "model.safetensors", metadata={"format": "pt"})
    for file in model.glob("*.json"):
        shutil.copy(file, plain)


def main():
    folder, windows, out, group = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    windows = json.loads(open(windows).read())
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=config.dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = time.time()
    rounding = AutoRound(
        model,
        tokenizer,
        scheme="W4A16",
        group_size=group,
        iters=ITERATIONS,
        nsamples=len(windows),
        seqlen=len(windows[0]),
        dataset=[torch.tensor([ids]) for ids in windows],
        device_map="cpu",
    )
    rounding.quantize_and_save(str(out / "packed"), format="auto_gptq")
    print(f"seconds {time.time() - start:.1f}")
    packed = next(p.parent for p in (out / "packed").rglob("quantization_config.json"))
    decode(packed, out / "plain", folder)


main()
