"""Runs llama.cpp's own converter, with a name for pre-tokenizers whose hash it has not met.

    LLAMA_CPP=/path/to/llama.cpp python stock_convert.py MODEL --outfile OUT.gguf --outtype bf16

Environment: PRE is the name (default `gpt-2`, right for novels-7m). Needs torch, transformers, gguf, sentencepiece.
"""

import os
import sys

sys.path.insert(0, os.environ["LLAMA_CPP"])

import convert_hf_to_gguf  # noqa: E402
from conversion import base  # noqa: E402

known = base.TextModel.get_vocab_base_pre


def named(self, tokenizer):
    try:
        return known(self, tokenizer)
    except NotImplementedError:
        return os.environ.get("PRE", "gpt-2")


base.TextModel.get_vocab_base_pre = named
convert_hf_to_gguf.main()
