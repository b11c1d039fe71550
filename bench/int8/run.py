"""Int8 networks made by tinier, in onnxruntime: accuracy, what is fused, and latency beside onnxruntime's own quantizer.

`python bench/int8/run.py TINIER DATA NETS [SECONDS]`: the binary, the folder of shared data, a folder with `resnet18.onnx` and
`mobilenet_v2.onnx` (`bench/onnx/export_torchvision.py`), and how long each network is timed. Prints tables in Markdown.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from common import FLOAT, medians, outputs, session, task


def compress(tinier, source, target, samples, *more):
    np.save(target.with_suffix(".npy"), samples)
    command = [tinier, "compress", source, target, "--int8", "--data", target.with_suffix(".npy"), "--force", *more]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads(target.with_suffix(".report.json").read_text())
    return report["journal"]["network"]["fusion"]


def accuracy(tinier, data, folder):
    print("| network | samples | float | int8 | same class | in float between codes |\n|---|---|---|---|---|---|")
    for name in ("resnet8", "resnet20", "vww", "kws"):
        source, samples, sets = task(name, data)
        target = folder / f"{name}.onnx"
        said = compress(tinier, source, target, samples)
        (before, _), (after, ops) = session(source), session(target)
        left = {op: n for op, n in ops.items() if op in FLOAT}
        # The report is a prediction: it must name as many kernels on codes as onnxruntime has.
        codes = sum(isinstance(node["runs"], dict) and "on-codes" in node["runs"] for node in said["nodes"])
        kernels = sum(n for op, n in ops.items() if op.startswith(("QLinear", "QGemm", "MatMulInteger")))
        if codes != kernels:
            sys.exit(f"{name}: the fusion report says {codes} kernels, onnxruntime has {kernels}: {dict(ops)}")
        for which, (x, y) in sets.items():
            a, b = outputs(before, x).argmax(1), outputs(after, x).argmax(1)
            right = lambda made: f"{100 * (made == y).mean():.2f} %"
            print(f"| {name} | {which} | {right(a)} | {right(b)} | {100 * (a == b).mean():.2f} % | {left or 'none'} |")


class Reader(CalibrationDataReader):
    def __init__(self, x):
        self.left = iter([{"input": x[i : i + 1]} for i in range(len(x))])

    def get_next(self):
        return next(self.left, None)


def latency(tinier, nets, folder, seconds):
    print("\n| network | file | wall, ms | thread, ms | thread, against ours | on codes | in float |\n|---|---|---|---|---|---|---|")
    x = np.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype(np.float32)
    best = dict(per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    for name in ("resnet18", "mobilenet_v2"):
        source, files = nets / f"{name}.onnx", {}
        files["float"] = source
        prepared = folder / f"{name}.prepared.onnx"
        quant_pre_process(str(source), str(prepared))
        for label, options in {"quantize_static": {}, "quantize_static, its best settings": best}.items():
            files[label] = folder / f"{name}.{len(files)}.onnx"
            quantize_static(str(prepared), str(files[label]), Reader(x), **options)
        files["tinier"] = folder / f"{name}.onnx"
        compress(tinier, source, files["tinier"], x)
        made = {label: session(path) for label, path in files.items()}
        times = medians({label: s for label, (s, _) in made.items()}, x[:1], seconds)
        for label, (wall, own) in times.items():
            ops = made[label][1]
            codes = sum(n for op, n in ops.items() if op.startswith(("QLinear", "QGemm")))
            left = sum(n for op, n in ops.items() if op in FLOAT)
            ratio = own / times["tinier"][1]
            print(f"| {name} | {label} | {wall:.2f} | {own:.2f} | {ratio:.3f} | {codes} | {left} |")


def main():
    tinier, data, nets, *rest = [Path(argument) for argument in sys.argv[1:]]
    seconds = float(str(rest[0])) if rest else 30.0
    with tempfile.TemporaryDirectory() as folder:
        accuracy(tinier.resolve(), data, Path(folder))
        latency(tinier.resolve(), nets, Path(folder), seconds)


if __name__ == "__main__":
    main()
