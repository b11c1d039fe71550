"""Ten torchvision networks at "50 %" (half the channels of every group), here and in Torch-Pruning.

`python bench/prune/compare.py TINIER FOLDER [NET..]`, with TINIER the built binary and FOLDER what
`bench/onnx/export_torchvision.py` wrote. Needs torch, torchvision, torch-pruning, onnx, onnxruntime.

MACs are counted by `tinier inspect` on both files, so that both columns count the same. Torch-Pruning gets the same weights, its
group magnitude, and the last linear layer as `ignored_layers`; it knows no other protection. Our file is opened in
onnxruntime: its output must have the shape that it had, finite numbers, and be what `tinier` computed.
"""
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch_pruning as tp
import torchvision.models as zoo

spec = importlib.util.spec_from_file_location("zoo_export", Path(__file__).parents[1] / "onnx/export_torchvision.py")
exporter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exporter)


def tinier(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(json.loads(done.stderr.splitlines()[-1])["error"])
    return json.loads(done.stdout)


def macs(binary, path):
    return sum(tinier(binary, "inspect", path)["counters"]["macs"].values())


def torch_pruning(binary, name, folder):
    """Share of MACs left, classes left."""
    torch.manual_seed(0)
    options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    net = getattr(zoo, name)(weights=None, **options).eval()
    exporter.randomize(net)
    image = torch.zeros(1, 3, 224, 224)
    heads = [m for m in net.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.MetaPruner(net, image, importance, pruning_ratio=0.5, ignored_layers=heads)
    pruner.step()
    path = folder / "theirs.onnx"
    torch.onnx.export(
        net, image, path, dynamo=False, opset_version=17, do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["input"], output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    return macs(binary, path), net(image).shape[1]


def run(path, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})


def compare(binary, source, folder):
    before = macs(binary, source)
    ours = folder / "ours.onnx"
    network = tinier(binary, "compress", source, ours, "--prune", "channels=0.5", "--force")["journal"]["network"]
    left = sum(network["after"]["macs"].values()) / before
    figures = dict(network["steps"][0]["figures"])
    image = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    old, new = run(source, image), run(ours, image)
    fits = [a.shape for a in old] == [b.shape for b in new] and all(np.isfinite(b).all() for b in new)
    try:
        theirs, classes = torch_pruning(binary, source.stem, folder)
        theirs = f"{theirs / before:.3f}" + (f" ({classes} classes!)" if classes != 1000 else "")
    except Exception as error:  # noqa: BLE001: whatever it raises is the result
        theirs = type(error).__name__
    memory = network["after"]["memory"]
    arena = memory["planned"] / memory["live"]
    cells = [
        source.stem, f"{left:.3f}", theirs, f"{network['after']['parameters'] / network['before']['parameters']:.3f}",
        f"{figures['groups']:.0f}", f"{figures['largest difference of a masked group']:.1e}", "yes" if fits else "NO",
        f"{arena:.3f}", f"{network['steps'][0]['seconds']:.1f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    binary, zoo_folder, *names = sys.argv[1:]
    print("| net | MACs left | Torch-Pruning | parameters left | groups | invariance | onnxruntime | arena / live | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names or exporter.NETS:
        with tempfile.TemporaryDirectory() as folder:
            compare(binary, Path(zoo_folder) / f"{name}.onnx", Path(folder))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
