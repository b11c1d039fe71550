"""Compares two GGUF files: keys, tensors, and the bytes of every tensor.

    python compare.py OURS.gguf THEIRS.gguf          (needs the `gguf` package)

Prints every key that differs or is on one side only, every tensor whose shape or type differs, and per tensor type the
share of bytes that differ.
"""

import sys
from collections import Counter

import numpy as np
from gguf import GGUFReader


def short(value):
    text = str(value)
    return text if len(text) < 100 else f"{text[:60]}… ({len(value)} of them)"


def keys(reader):
    return {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}


def compare_keys(ours, theirs):
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in theirs:
            print(f"key, ours only    {key} = {short(ours[key])}")
        elif key not in ours:
            print(f"key, theirs only  {key} = {short(theirs[key])}")
        elif ours[key] != theirs[key]:
            print(f"key differs       {key}: {short(ours[key])} | {short(theirs[key])}")
            if isinstance(ours[key], list) and len(ours[key]) == len(theirs[key]):
                different = [(i, a, b) for i, (a, b) in enumerate(zip(ours[key], theirs[key])) if a != b]
                print(f"                  {len(different)} entries, first {different[:3]}")


def compare_tensors(ours, theirs):
    total, different = Counter(), Counter()
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            print(f"tensor {'theirs' if name not in ours else 'ours'} only  {name}")
            continue
        a, b = ours[name], theirs[name]
        if list(a.shape) != list(b.shape) or a.tensor_type != b.tensor_type:
            print(f"tensor differs    {name}: {a.shape} {a.tensor_type.name} | {b.shape} {b.tensor_type.name}")
            continue
        x, y = a.data.reshape(-1).view(np.uint8), b.data.reshape(-1).view(np.uint8)
        total[a.tensor_type.name] += x.size
        different[a.tensor_type.name] += int(np.count_nonzero(x != y))
    for kind, n in total.items():
        print(f"bytes             {kind}: {different[kind]} of {n} differ ({100 * different[kind] / n:.5f} %)")


def main():
    ours, theirs = (GGUFReader(path) for path in sys.argv[1:3])
    compare_keys(keys(ours), keys(theirs))
    compare_tensors({t.name: t for t in ours.tensors}, {t.name: t for t in theirs.tensors})


main()
