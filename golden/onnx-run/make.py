#!/usr/bin/env python3
"""What onnxruntime computes for networks that are not in the repository.

Made with onnxruntime 1.31.1 and onnx 1.23.2 (CPU, optimisation off). Run: `python make.py DATA [MODEL..]`, with DATA the folder with the
networks that `testkit::data_dir` finds. Writes one `<name>.f32` per network: for each output up to 512 numbers, evenly spaced, float32,
little endian, one output after the other; and `nets.txt`: name, path below DATA, samples, and of each output its shape and the step
between the numbers kept.

Inputs are not stored: they are `testkit::values(name of the input, count, 1/64)` (crates/testkit/src/random.rs makes the same). An
open first dimension gets 2 samples.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

NETS = {
    "resnet20": "resnet_cifar10/resnet20.onnx",
    "resnet56": "resnet_cifar10/resnet56.onnx",
    "resnet8": "mlperf_tiny/resnet8_cifar10.onnx",
    "resnet8_large": "mlperf_tiny/resnet8_large_cifar10.onnx",
    "dscnn_kws": "mlperf_tiny/dscnn_kws.onnx",
    "mobilenet_vww": "mlperf_tiny/mobilenetv1_025_vww96.onnx",
    "ad_autoencoder": "mlperf_tiny/ad_autoencoder.onnx",
    "mnist": "mnist_cnn_burn/mnist.onnx",
    "squeezenet": "squeezenet/squeezenet1_1_fp32.onnx",
    "ultraface": "onnx_small/ultraface_rfb_320.onnx",
    "fastestdet": "onnx_small/FastestDet.onnx",
}
KEPT = 512
MASK = (1 << 64) - 1


def values(name, count, scale):
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    z = (np.uint64(seed) + np.arange(count, dtype=np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(56)).astype(np.uint8).view(np.int8).astype(np.float32) * np.float32(scale)


def run(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {}
    for value in session.get_inputs():
        shape = [d if isinstance(d, int) and d > 0 else 2 for d in value.shape]
        feeds[value.name] = values(value.name, int(np.prod(shape)), 1 / 64).reshape(shape)
    return next(iter(feeds.values())).shape[0], session.run(None, feeds)


def main():
    np.seterr(over="ignore")
    lines = []
    for name, path in NETS.items():
        samples, outputs = run(str(Path(sys.argv[1]) / path))
        kept, line = [], [name, path, str(samples)]
        for output in outputs:
            step = -(-output.size // KEPT)
            kept.append(output.reshape(-1)[::step].astype("<f4"))
            line.append("x".join(map(str, output.shape)) + f"/{step}")
        np.concatenate(kept).tofile(f"{name}.f32")
        lines.append(" ".join(line))
    Path("nets.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
