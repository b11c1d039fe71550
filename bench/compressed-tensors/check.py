"""Loads packed folders in stock transformers and compares their logits with those of our own decoding.

    cargo build --release -p export --example pack
    python bench/compressed-tensors/check.py MODEL target/release/examples/pack [ENCODING ...]

For every encoding: `pack` writes the model packed, then reads that folder and writes what it decodes to as a plain
checkpoint. transformers with compressed-tensors loads the first, transformers alone the second; both run in f32 on the
same tokens. Prints the largest difference between logits and fails above 1e-2. Recorded in `results.txt`.

transformers keeps weights packed where it can (`packed`). Zero points it cannot load so (the module it prepares has them
unpacked), and four-bit floats it unpacks to bf16 only; these are loaded with `dequantize=True` (`dequantized`), which rounds
weights to bf16, so our plain checkpoint is written in bf16 too.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import compressed_tensors
import torch
import transformers
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

ENCODINGS = ["int4-g128", "int4-g32", "int4-g128-asym", "int3-g64", "int8-channel", "int8-channel-bytes"]
ENCODINGS += ["fp8-channel", "fp8-block", "mxfp4-g32", "nvfp4-g16"]
BAR = 1e-2


def logits(folder, tokens, **options):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    with torch.no_grad():
        return model(tokens).logits


def main():
    model, pack, *encodings = sys.argv[1:]
    print(f"transformers {transformers.__version__}, compressed-tensors {compressed_tensors.__version__}, ", end="")
    print(f"torch {torch.__version__}, {Path(model).name}, 2 × 128 random tokens, f32")
    tokens = torch.randint(0, 512, (2, 128), generator=torch.Generator().manual_seed(1))
    source = logits(model, tokens)
    worst = 0.0
    with tempfile.TemporaryDirectory() as tmp:
        for name in encodings or ENCODINGS:
            packed, plain = f"{tmp}/{name}", f"{tmp}/{name}-plain"
            subprocess.run([pack, model, name, packed], check=True)
            dequantize = name.endswith("-asym") or "fp4" in name
            options = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if dequantize else {}
            subprocess.run([pack, packed, "bf16" if dequantize else "f32", plain], check=True)
            theirs, ours = logits(packed, tokens, **options), logits(plain, tokens)
            difference = (theirs - ours).abs().max().item()
            kl = torch.nn.functional.kl_div(
                theirs.log_softmax(-1), source.log_softmax(-1), log_target=True, reduction="sum"
            ).item() / tokens.numel()
            how = "dequantized" if dequantize else "packed"
            print(f"{name:20} {how:12} max |Δ logit| {difference:.2e}   mean KL from the source {kl:.5f}", flush=True)
            worst = max(worst, difference)
    sys.exit(0 if worst <= BAR else f"{worst:.2e} is above {BAR}")


if __name__ == "__main__":
    main()
