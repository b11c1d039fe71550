"""GPTQ and AWQ tensors written out from the layout facts alone, with the numbers that they decode to.

The packing below is AutoGPTQ's and AutoAWQ's, bit by bit and slowly: GPTQ puts bit k of the code of column i into bit
i*bits + k of a stream down each output column (that is what its shifts amount to, also where 3-bit codes straddle
words), AWQ puts eight outputs into a word in the order 0 2 4 6 1 3 5 7.

Run: python make.py  (numpy 2.4, safetensors 0.8); writes transposed.safetensors beside itself.
Tensors: <layout>/<qweight|qzeros|scales|decoded>, layout = gptq-<bits>-<v1|v2> or awq.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

OUT, IN, GROUP = 32, 64, 32
rng = np.random.default_rng(7)


def stream(codes, bits):
    """Codes of the first axis as int32 words along it."""
    n, across = codes.shape
    words = np.zeros((n * bits // 32, across), np.uint32)
    for i in range(n):
        for k in range(bits):
            at = i * bits + k
            words[at // 32] |= ((codes[i] >> k) & 1).astype(np.uint32) << np.uint32(at % 32)
    return words.view(np.int32)


def awq(codes):
    """Codes [n, out], eight outputs to a word."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), np.uint32)
    for slot, output in enumerate(order):
        words |= codes[:, output::8].astype(np.uint32) << np.uint32(4 * slot)
    return words.view(np.int32)


def case(bits):
    q = rng.integers(0, 2**bits, (IN, OUT))
    z = rng.integers(1, 2**bits, (IN // GROUP, OUT))
    s = rng.uniform(0.001, 0.1, (IN // GROUP, OUT)).astype(np.float16)
    rows = np.repeat(np.arange(IN // GROUP), GROUP)
    decoded = (q - z[rows]).astype(np.float32) * s[rows].astype(np.float32)
    return q, z, s, np.ascontiguousarray(decoded.T)


tensors = {}
for bits in (2, 3, 4, 8):
    for version, less in (("v1", 1), ("v2", 0)):
        q, z, s, decoded = case(bits)
        name = f"gptq-{bits}-{version}"
        tensors[f"{name}/qweight"] = stream(q, bits)
        tensors[f"{name}/qzeros"] = np.ascontiguousarray(stream((z - less).T, bits).T)
        tensors[f"{name}/scales"] = s
        tensors[f"{name}/decoded"] = decoded
q, z, s, decoded = case(4)
tensors |= {"awq/qweight": awq(q), "awq/qzeros": awq(z), "awq/scales": s, "awq/decoded": decoded}
save_file(tensors, Path(__file__).with_name("transposed.safetensors"))
