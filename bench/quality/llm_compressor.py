"""llm-compressor's GPTQ, four bits symmetric, at its defaults, on given windows of token ids; writes compressed-tensors.

    python llm_compressor.py MODEL WINDOWS.json OUT GROUP [IGNORED_PATTERN…]      (its own virtual environment)

Weights are loaded in the type that the checkpoint stores. THREADS in the environment says how many (2). Prints seconds.
"""

import json
import os
import sys
import time

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def main():
    folder, windows, out, group, *ignored = sys.argv[1:]
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    windows = json.loads(open(windows).read())
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=config.dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=int(group))
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    data = Dataset.from_dict({"input_ids": windows, "attention_mask": [[1] * len(w) for w in windows]})
    start = time.time()
    oneshot(
        model=model,
        dataset=data,
        recipe=GPTQModifier(config_groups=groups, ignore=["lm_head", *ignored]),
        max_seq_length=len(windows[0]),
        num_calibration_samples=len(windows),
    )
    model.save_pretrained(out, save_compressed=True)
    tokenizer.save_pretrained(out)
    print(f"seconds {time.time() - start:.1f}")


main()
