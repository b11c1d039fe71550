"""What is measured: models, the text each is calibrated on, the text each is evaluated on.

    python cases.py DATA WORK            (needs `tokenizers`)

Lays out `WORK/<case>/`: `model` (a Hugging Face folder), `calibration.txt` and `evaluation.txt`, and `windows.json`, the
token ids that every tool calibrates on: the first WINDOWS windows of WINDOW tokens of calibration.txt, as llama-imatrix
cuts them. Both sides read the same text; no text is used for both purposes.
"""

import gzip
import json
import shutil
import sys
from pathlib import Path

WINDOW, WINDOWS = 256, 128
EVALUATION_TOKENS = 131072

# case: folder, calibration, evaluation, group sizes of four-bit folders, whether the output projections of the
# feed-forward part fit groups of that size
CASES = {
    "novels-7m": ("DATA/novels-7m", "novels_train.txt.gz", "novels_valid.txt", (128, 32), True),
    "novels-4m": ("REPOSITORY/models/novels-4m", "novels_train.txt.gz", "novels_valid.txt", (128, 32), True),
    "stories260K": ("DATA/stories260K", "tinystories_calib.txt", "tinystories_eval.txt", (32,), False),
    "babyllama_tok361": ("DATA/babyllama_tok361", "tinystories_calib.txt", "tinystories_eval.txt", (32,), True),
}
REPOSITORY = Path(__file__).parents[2]


def characters(folder):
    """A tokenizer for the model whose vocabulary is characters: SentencePiece with bytes to fall back on, no merges."""
    chars = json.loads((folder / "chars.json").read_text())["char_to_id"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocab |= {char: i for char, i in chars.items() if i >= 259}
    special = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, text in enumerate(("<unk>", "<s>", "</s>"))
    ]  # fmt: skip
    start = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    bos = {"type": "TemplateProcessing", "single": start, "pair": start + [{"Sequence": {"id": "B", "type_id": 1}}],
           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}  # fmt: skip
    spaces = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    steps = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
             {"type": "Strip", "content": " ", "start": 1, "stop": 0}]  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": spaces}, "pre_tokenizer": None, "post_processor": bos,
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocab, "merges": []},
    }  # fmt: skip


def lay_out(case, data, work):
    from tokenizers import Tokenizer

    folder, calibration, evaluation, *_ = CASES[case]
    source = Path(folder.replace("DATA", str(data)).replace("REPOSITORY", str(REPOSITORY)))
    model = work / case / "model"
    model.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix in (".json", ".safetensors") and file.name != "chars.json":
            shutil.copyfile(file, model / file.name)
    if (source / "chars.json").exists():
        (model / "tokenizer.json").write_text(json.dumps(characters(source)))
        shutil.copyfile(data / "stories260K" / "tokenizer_config.json", model / "tokenizer_config.json")

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    adds_bos = json.loads((model / "tokenizer_config.json").read_text()).get("add_bos_token", False)
    text = read(data / "text" / calibration)
    text, ids = cut(tokenizer, text, WINDOW * WINDOWS, adds_bos)
    windows = [ids[i : i + WINDOW] for i in range(0, WINDOW * WINDOWS, WINDOW)]
    if adds_bos:
        windows = [ids[:1] + window[1:] for window in windows]
    (work / case / "calibration.txt").write_text(text)
    (work / case / "windows.json").write_text(json.dumps(windows))
    text, ids = cut(tokenizer, read(data / "text" / evaluation), EVALUATION_TOKENS, adds_bos)
    (work / case / "evaluation.txt").write_text(text)


def read(path):
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


def cut(tokenizer, text, tokens, adds_bos):
    """The shortest run of whole lines from the start that gives so many tokens (all of it if it has fewer), and its ids."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=adds_bos).ids
    lines = text[: 12 * tokens].splitlines(keepends=True)
    low, high = 1, len(lines)
    while low < high:
        middle = (low + high) // 2
        enough = len(encode("".join(lines[:middle]))) >= tokens
        low, high = (low, middle) if enough else (middle + 1, high)
    text = "".join(lines[:low])
    return text, encode(text)


if __name__ == "__main__":
    for case in CASES:
        lay_out(case, Path(sys.argv[1]), Path(sys.argv[2]))
        print(f"{case}: laid out")
