"""Writes ten torchvision networks with random weights as ONNX files: export_torchvision.py FOLDER.

Batch norms get statistics and scales as a trained network has them, so that activations stay alive and no two channels are
alike. Made with torch 2.x, torchvision 0.2x, opset 17, a dynamic batch.
"""
import sys
from pathlib import Path

import torch
import torchvision.models as zoo

NETS = [
    "resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x1_0", "densenet121",
    "googlenet", "squeezenet1_1", "regnet_y_400mf", "resnext50_32x4d",
]


def randomize(net):
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        torch.manual_seed(0)
        options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
        net = getattr(zoo, name)(weights=None, **options).eval()
        randomize(net)
        torch.onnx.export(
            net, torch.zeros(1, 3, 224, 224), folder / f"{name}.onnx", dynamo=False, opset_version=17,
            do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE, input_names=["input"],
            output_names=["logits"], dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        )
        print(name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
