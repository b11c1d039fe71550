#!/usr/bin/env python3
"""Golden vectors of ggml's block formats, from ggml itself.

    golden/ggml/make.py GGML_DIR            # a ggml source tree: GGML_DIR/src/ggml-quants.c
    golden/ggml/make.py GGML_DIR --time     # prints ns of CPU time per weight of ggml's encoders instead
    golden/ggml/make.py LIBGGML.so --time   # the same of a built library

Builds ggml's own encoders and decoders in a temporary folder (gcc -O2 -ffp-contract=off -DNDEBUG: IEEE arithmetic in
the order of the source) and writes beside this script

  encode.txt   per format and with or without importance: hash (see `fnv1a`) of the bytes of 1024 rows × 1024 columns
  decode.txt   per format: hash (see `fnv1a`) of the numbers that 4096 blocks of random bytes decode to (NaNs made one)
  FORMAT[_w].bin   the bytes of the first row of each kind below (256 columns), to find the place of a difference

Inputs are not stored. Everything comes from SplitMix64 streams, `word(seed, i)` being output i (from 0) of the stream:

  unit(seed, i)   = (word >> 40) · 2⁻²⁴ as f32, in [0, 1)
  normal(seed, i) = (sum of the four 16-bit quarters of word − 131070) · 2⁻¹⁶ as f32, about N(0, 0.58²)

Row r is of kind r mod 12 (see `row`), column c of it draws number r · 1024 + c. Importance of column c is unit(3, c)²,
but 0 in columns 64..96, and 1e-20 times as much in columns 128..160.

Made with ggml 0.25.3 (llama.cpp, commit 0c1e5709), gcc 12.2, numpy 2.4.
"""

import ctypes, pathlib, subprocess, sys, tempfile, time
import numpy as np

HERE = pathlib.Path(__file__).parent
FORMATS = {
    "q1_0": 41, "q2_0": 42, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10, "q3_K": 11, "q4_K": 12,
    "q5_K": 13, "q6_K": 14, "iq4_nl": 20, "iq4_xs": 23, "tq1_0": 34, "tq2_0": 35, "mxfp4": 39, "nvfp4": 40,
}
NO_IMPORTANCE = {"q1_0", "q2_0", "q8_0", "tq1_0", "tq2_0", "mxfp4", "nvfp4"}
KINDS, ROWS, COLS = 12, 1024, 1024


def word(seed, i):
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (i.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def unit(seed, i):
    return (word(seed, i) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def normal(seed, i):
    w = word(seed, i)
    quarters = sum((w >> np.uint64(16 * k)) & np.uint64(0xFFFF) for k in range(4))
    return (quarters.astype(np.int64) - 131070).astype(np.float32) * np.float32(2.0**-16)


def row(r, cols):
    i = np.arange(cols) + r * COLS
    x = normal(1, i)
    kind = r % KINDS
    if kind == 0:  # weights of a layer
        return x * np.float32(0.03)
    if kind == 1:  # each run of 32 of its own magnitude, 2^-20 … 2^3
        return np.ldexp(x, (word(2, i // 32) % np.uint64(24)).astype(np.int32) - 20)
    if kind == 2:
        return np.zeros(cols, np.float32)
    if kind == 3:
        return np.full(cols, 0.37, np.float32)
    if kind == 4:  # one huge value
        x[r % cols] = 1e30
        return x
    if kind == 5:  # negative only
        return -np.abs(x) - np.float32(0.001)
    if kind == 6:  # positive only, far from zero, half of the runs of 16 constant
        return np.where(i // 16 % 2 == 0, np.float32(2.5), np.float32(2.5) + x * np.float32(0.001)).astype(np.float32)
    if kind == 7:  # tiny: around 2^-120
        return x * np.float32(2.0**-120)
    if kind == 8:  # around the smallest normal number, many subnormal
        return x * np.float32(2.0**-100) * np.float32(2.0**-26)
    if kind == 9:  # sparse
        return np.where(word(2, i) % np.uint64(8) == 0, x, np.float32(0)).astype(np.float32)
    if kind == 10:  # halves, so that roundings tie
        return (word(2, i) % np.uint64(17)).astype(np.float32) * np.float32(0.5) - np.float32(4)
    return x * np.float32(2.0**60)  # too large for f16 scales


def importance(cols):
    c = np.arange(cols)
    w = unit(3, c) * unit(3, c)
    w[64:96] = 0
    w[128:160] *= np.float32(1e-20)
    return w.astype(np.float32)


def fnv1a(data):
    """FNV-1a over 8-byte little-endian words (zero-padded), high half folded into the low one after each."""
    h = 0xCBF29CE484222325
    data = bytes(data) + bytes(-len(data) % 8)
    for w in np.frombuffer(data, "<u8").tolist():
        h = ((h ^ w) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        h ^= h >> 32
    return h


def build(ggml, tmp):
    src, inc = ggml / "src", ["-I", str(tmp), "-I", str(ggml / "include"), "-I", str(ggml / "src")]
    (tmp / "ggml-version.h").write_text('#define GGML_VERSION "golden"\n#define GGML_COMMIT "golden"\n')
    names = "ggml_quantize_chunk; ggml_get_type_traits; ggml_row_size;"
    (tmp / "exports").write_text("{ global: %s local: *; };\n" % names)
    flags = ["-O2", "-ffp-contract=off", "-DNDEBUG", "-D_GNU_SOURCE", "-fPIC", "-ffunction-sections", "-fdata-sections"]
    objects = []
    for name, compiler in [("ggml.c", "gcc"), ("ggml-quants.c", "gcc"), ("ggml-threading.cpp", "g++")]:
        objects.append(str(tmp / (name + ".o")))
        subprocess.run([compiler, *flags, *inc, "-c", str(src / name), "-o", objects[-1]], check=True)
    lib = tmp / "libgolden.so"
    link = ["-shared", "-Wl,--gc-sections", f"-Wl,--version-script={tmp}/exports", "-o", str(lib)]
    subprocess.run(["g++", *objects, *link, "-lm"], check=True)
    return lib


def load(path):
    lib = ctypes.CDLL(str(path))
    lib.ggml_quantize_chunk.restype = lib.ggml_row_size.restype = ctypes.c_size_t
    lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    return lib


class Traits(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("block_len", ctypes.c_int64), ("interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t), ("quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float", ctypes.c_void_p),
    ]


def encode(lib, kind, x, weights):
    rows, cols = x.shape
    out = np.zeros(rows * lib.ggml_row_size(kind, cols), np.uint8)
    w = None if weights is None else weights.ctypes.data
    lib.ggml_quantize_chunk(kind, x.ctypes.data, out.ctypes.data, 0, rows, cols, w)
    return out


def decode(lib, kind, data):
    traits = lib.ggml_get_type_traits(kind).contents
    out = np.zeros(len(data) // traits.block_bytes * traits.block_len, np.float32)
    traits.to_float(data.ctypes.data, out.ctypes.data, len(out))
    bits = out.view(np.uint32)
    bits[np.isnan(out)] = 0x7FC00000
    return bits


def variants():
    for name, kind in FORMATS.items():
        yield name, kind, False
        if name not in NO_IMPORTANCE:
            yield name, kind, True


def write(lib):
    full = np.stack([row(r, COLS) for r in range(ROWS)]).astype(np.float32)
    small = np.stack([row(r, 256) for r in range(KINDS)]).astype(np.float32)
    lines = []
    for name, kind, weighted in variants():
        label = name + ("_w" if weighted else "")
        encode(lib, kind, small, importance(256) if weighted else None).tofile(HERE / f"{label}.bin")
        data = encode(lib, kind, full, importance(COLS) if weighted else None)
        lines.append(f"{label} {fnv1a(data):016x}\n")
    (HERE / "encode.txt").write_text("".join(lines))
    lines = []
    for name, kind in FORMATS.items():
        n = 4096 * lib.ggml_get_type_traits(kind).contents.block_bytes
        data = (word(4, np.arange(n)) >> np.uint64(56)).astype(np.uint8)
        lines.append(f"{name} {fnv1a(decode(lib, kind, data).tobytes()):016x}\n")
    (HERE / "decode.txt").write_text("".join(lines))


def measure(lib):
    x = (normal(1, np.arange(ROWS * COLS)) * np.float32(0.03)).reshape(ROWS, COLS)
    for name, kind, weighted in variants():
        w = importance(COLS) if weighted else None
        seconds = []
        for _ in range(3):
            start = time.process_time()
            encode(lib, kind, x, w)
            seconds.append(time.process_time() - start)
        print(f"{name + ('_w' if weighted else ''):10} {min(seconds) / x.size * 1e9:8.2f} ns/weight")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as tmp:
        source = pathlib.Path(sys.argv[1])
        lib = load(source if source.is_file() else build(source, pathlib.Path(tmp)))
        measure(lib) if "--time" in sys.argv else write(lib)
