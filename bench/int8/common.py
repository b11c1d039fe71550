"""Sets of samples, onnxruntime sessions and the operators that are left in them."""
import collections
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What stays between codes when it is not fused.
FLOAT = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat"}


def cifar(path, normalised):
    rows = np.fromfile(path, np.uint8).reshape(-1, 3073)
    x, y = rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32), rows[:, 0]
    if normalised:
        x = (x / 255 - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]
    return x.astype(np.float32), y


def task(name, data):
    """The file, samples to calibrate on, and named sets to measure on."""
    tiny, images = data / "mlperf_tiny", data / "cifar10"
    if name in ("resnet8", "resnet20"):
        file = tiny / "resnet8_cifar10.onnx" if name == "resnet8" else data / "resnet_cifar10/resnet20.onnx"
        part = lambda which: cifar(images / f"cifar10_{which}.bin", name == "resnet20")
        sets = {"lossless 200": part("lossless_test_200"), "JPEG 3000": part("jpeg_test_3000")}
        return file, part("lossless_train_4000")[0][:256], sets
    if name == "vww":
        x = np.fromfile(tiny / "vww_x_500x96x96x3_u8.bin", np.uint8).reshape(-1, 96, 96, 3)
        x = (x.transpose(0, 3, 1, 2) / 255).astype(np.float32)
        return tiny / "mobilenetv1_025_vww96.onnx", x[:100], {"500": (x, np.fromfile(tiny / "vww_y_500_u8.bin", np.uint8))}
    x = np.fromfile(tiny / "kws_x_500x49x10_i8.bin", np.int8).reshape(-1, 1, 49, 10).astype(np.float32)
    x = ((x - 83) * 0.5847029).astype(np.float32)
    return tiny / "dscnn_kws.onnx", x[:100], {"500": (x, np.fromfile(tiny / "kws_y_500_u8.bin", np.uint8))}


def session(path, threads=1):
    """A session at the highest level, and the operators that it runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    return made, collections.Counter(node.op_type for node in nodes)


def outputs(made, x):
    name = made.get_inputs()[0].name
    return np.concatenate([made.run(None, {name: x[i : i + 50]})[0] for i in range(0, len(x), 50)])


def medians(sessions, x, seconds):
    """Milliseconds of one run, in turn: the median on the wall, and of the thread's own time."""
    times = {key: ([], []) for key in sessions}
    for made in sessions.values():
        for _ in range(3):
            made.run(None, {made.get_inputs()[0].name: x})
    end = time.time() + seconds
    while time.time() < end:
        for key in np.random.permutation(list(sessions)):
            made, (wall, own) = sessions[key], times[key]
            feed = {made.get_inputs()[0].name: x}
            start, begun = time.perf_counter(), time.thread_time()
            made.run(None, feed)
            own.append(time.thread_time() - begun)
            wall.append(time.perf_counter() - start)
    return {key: [float(np.median(t)) * 1e3 for t in pair] for key, pair in times.items()}


def here(path):
    return Path(__file__).parent / path
