"""Strided perplexity of a model folder in transformers, f32: what `Protocol::Strided` must equal.

The loop of the transformers documentation ("Perplexity of fixed-length models"), but every scored token counts once:
the documentation weighs a window by one token less than it scores.

    python bench/eval/strided.py MODEL TEXT CONTEXT STRIDE [TOKENS]

Made with transformers 5.23, torch 2.15.
"""

import math
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model_path, text_path, context, stride = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
limit = int(sys.argv[5]) if len(sys.argv) > 5 else None
tokenizer = AutoTokenizer.from_pretrained(model_path)
model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
ids = tokenizer(open(text_path, encoding="utf-8").read(), return_tensors="pt").input_ids[:, :limit]

nll, scored, previous = 0.0, 0, 0
for begin in range(0, ids.size(1), stride):
    end = min(begin + context, ids.size(1))
    window = ids[:, begin:end]
    first = max(previous, begin + 1)  # the first token of a window has nothing before it
    if first < end:
        with torch.no_grad():
            logits = model(window).logits[0].double()
        rows = slice(first - 1 - begin, end - 1 - begin)
        chosen = torch.log_softmax(logits[rows], -1).gather(1, window[0, first - begin :, None])
        nll, scored = nll - chosen.sum().item(), scored + end - first
    previous = end
    if end == ids.size(1):
        break
print(f"perplexity {math.exp(nll / scored):.6f} over {scored} tokens")
