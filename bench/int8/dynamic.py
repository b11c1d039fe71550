"""Networks quantized without samples, by tinier and by onnxruntime's quantize_dynamic, both run in onnxruntime.

`python bench/int8/dynamic.py TINIER DATA`: the binary, the folder of shared data. Prints a table in Markdown.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from common import outputs, session, task

MOST = 500


def main(tinier, data):
    print("| network | samples | float | tinier | quantize_dynamic | bytes | bytes of theirs |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("resnet20", "vww", "kws"):
            source, _, sets = task(name, Path(data))
            ours, theirs = Path(folder) / f"{name}.onnx", Path(folder) / f"{name}-ort.onnx"
            command = [tinier, "compress", source, ours, "--int8", "--dynamic", "--quiet"]
            subprocess.run([str(c) for c in command], check=True, capture_output=True)
            quantize_dynamic(source, theirs, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "MatMul", "Gemm"])
            sessions = [session(path)[0] for path in (source, ours, theirs)]
            for which, (x, y) in sets.items():
                x, y = x[:MOST], y[:MOST]
                right = " | ".join(f"{100 * (outputs(s, x).argmax(1) == y).mean():.2f} %" for s in sessions)
                print(f"| {name} | {which.split()[0] if len(y) == MOST else which}, {len(y)} | {right} | {ours.stat().st_size:,} | {theirs.stat().st_size:,} |")


main(*sys.argv[1:3])
