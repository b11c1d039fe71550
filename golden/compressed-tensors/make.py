"""Golden vectors of the packed encodings, made by the compressed-tensors package itself.

Made with compressed-tensors 0.20.0, torch 2.15.0 (CPU), safetensors 0.8.0, Python 3.11:

    python golden/compressed-tensors/make.py

Writes `packed.safetensors` beside this script: the inputs (`input/<shape>-<dtype>`) and, for every encoding and input
(`<encoding>/<input>/<part>`), the parts that the package's own compressor makes. Scales come from the package's
`calculate_qparams` over the minimum and maximum of every tile (what llm-compressor's `memoryless_minmax` observer does), in
the weight's dtype. The weight goes to the compressor as float32, so that the quotient weight / scale is a float32 as in the
package's GPU kernel; its CPU fallback would round the quotient to the weight's dtype before rounding it to a code.
"""

from pathlib import Path

import torch
from compressed_tensors import __version__
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import save_file

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def inputs():
    """Shape name → matrix. `wide`: 40 rows of 256 with the awkward rows first; `odd`: shapes that divide nothing."""
    gen = torch.Generator().manual_seed(7)
    wide = torch.randn(40, 256, generator=gen) * 0.02
    wide[0] = 0.0
    wide[1] = 0.01
    wide[2, 37] = 3e4
    wide[3] = -wide[3].abs()
    wide[4] = wide[4].abs() + 0.1
    wide[5] = torch.arange(256) * 0.5 - 64.0  # many ties
    wide[6] = -0.0
    wide[7] *= 1e-3
    wide[8, ::2] = 0.0
    wide[9, :128] = -1.0
    odd = torch.randn(37, 45, generator=gen)
    odd[0] = 0.0
    odd[1, 3] = -900.0
    tall = torch.randn(150, 200, generator=gen) * 0.05
    tall[:, 130] *= 40
    return {"wide": wide, "odd": odd, "tall": tall}


def per(granularity):
    if granularity.startswith("g"):
        return {"strategy": "group", "group_size": int(granularity[1:])}
    return {"strategy": granularity, **({"block_structure": [128, 128]} if granularity == "block" else {})}


def tiles(w, args):
    """Minimum and maximum of every tile that shares a scale, in the shape of the scale."""
    if args.strategy == "tensor":
        return torch.aminmax(w)
    if args.strategy == "channel":
        return w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    if args.strategy == "block":
        h, v = args.block_structure
        split = [[c for c in r.split(v, dim=1)] for r in w.split(h, dim=0)]
        return tuple(torch.stack([torch.stack([f(c) for c in r]) for r in split]) for f in (torch.amin, torch.amax))
    groups = w.unflatten(1, (-1, args.group_size))
    return groups.amin(-1), groups.amax(-1)


def compress(w, args, fmt, global_scale=None):
    low, high = tiles(w, args)
    scale, zero = calculate_qparams(low, high, args, global_scale=global_scale)
    state = {"weight": w.float(), "weight_scale": scale}
    if not args.symmetric:
        state["weight_zero_point"] = zero
    if global_scale is not None:
        state["weight_global_scale"] = global_scale
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=fmt)
    return BaseCompressor.get_value_from_registry(fmt).compress(state, scheme)


def cases():
    """(encoding name, format, args, shape name, dtype name)"""

    def named(name, fmt, shapes, dtypes=("bf16",), **args):
        for dtype in dtypes:
            for shape in shapes:
                suffix = "" if dtype == "bf16" else f"-{dtype}"
                yield name + suffix, fmt, QuantizationArgs(**args), shape, dtype

    for bits in range(2, 9):
        for symmetric, tail in ((True, ""), (False, "-asym")):
            common = {"num_bits": bits, "type": "int", "symmetric": symmetric}
            for g, shapes in (("channel", ["odd"]), ("g32", ["wide"]) if bits != 4 else ("g128", ["wide"])):
                yield from named(f"int{bits}-{g}{tail}", "pack-quantized", shapes, **common, **per(g))
    for name, symmetric in (("int4-g32", True), ("int4-g32-asym", False), ("int8-channel-asym", False)):
        args = {"num_bits": int(name[3]), "type": "int", "symmetric": symmetric, **per(name.split("-")[1])}
        yield from named(name, "pack-quantized", ["wide"], DTYPES, **args)
    for name, symmetric in (("int4-tensor", True), ("int4-tensor-asym", False)):
        args = {"num_bits": 4, "type": "int", "symmetric": symmetric, **per("tensor")}
        yield from named(name, "pack-quantized", ["odd"], **args)
    for g, shape in (("tensor", "odd"), ("channel", "wide")):
        args = {"num_bits": 8, "type": "int", **per(g)}
        yield from named(f"int8-{g}-bytes", "int-quantized", [shape], DTYPES if g == "channel" else ["bf16"], **args)
    for g, shape in (("tensor", "odd"), ("channel", "wide"), ("block", "tall")):
        args = {"num_bits": 8, "type": "float", **per(g)}
        yield from named(f"fp8-{g}", "float-quantized", [shape], DTYPES if g == "channel" else ["bf16"], **args)
    mx = {"num_bits": 4, "type": "float", "scale_dtype": torch.uint8, "zp_dtype": torch.uint8, **per("g32")}
    yield "mxfp4-g32", "mxfp4-pack-quantized", QuantizationArgs(**mx), "wide", "f32"
    nv = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    nv |= {"scale_dtype": torch.float8_e4m3fn, "zp_dtype": torch.float8_e4m3fn}
    yield "nvfp4-g16", "nvfp4-pack-quantized", QuantizationArgs(**nv), "wide", "f32"


def main():
    out, matrices = {}, inputs()
    for name, fmt, args, shape, dtype in cases():
        w = matrices[shape].to(DTYPES[dtype])
        source = f"{shape}-{dtype}"
        out[f"input/{source}"] = w
        global_scale = generate_gparam(*torch.aminmax(w)) if args.strategy == "tensor_group" else None
        for part, value in compress(w, args, fmt, global_scale).items():
            out[f"{name}/{source}/{part}"] = value.contiguous()
    path = Path(__file__).with_name("packed.safetensors")
    save_file(out, path, metadata={"compressed-tensors": __version__, "torch": torch.__version__})
    print(f"{len(out)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
