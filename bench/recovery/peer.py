"""Prunes a CIFAR ResNet with Torch-Pruning, recovers it with PyTorch, and says what was lost: the peer of `run`.

    python peer.py resnet20.onnx --data DIR --speedup 2.1 --epochs 2

The checkpoint is the one in the ONNX file; samples, epochs, batch, schedule, augmentation and weight decay are those of the
recipes in this folder. Versions: torch 2.15, torch-pruning 1.6.1, onnx 1.20 (any close ones do).
"""

import argparse
import json
import math
import time

import numpy as np
import onnx
import onnx.numpy_helper
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch_pruning as tp

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class Shortcut(nn.Module):
    """Option A of He et al. 2015: every second point, zeros for the new channels."""

    def __init__(self, planes):
        super().__init__()
        self.pad = planes // 4

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class Block(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = Shortcut(planes) if inputs != planes else nn.Identity()

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages, inputs = [], 16
        for planes in (16, 32, 64):
            stage = []
            for n in range(blocks):
                stage.append(Block(inputs, planes, 2 if n == 0 and planes > 16 else 1))
                inputs = planes
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stages(F.relu(self.bn1(self.conv1(x))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def load(path):
    """The network of an ONNX file, weights in the order in which its nodes read them."""
    graph = onnx.load(path).graph
    tensors = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
    nodes = [n for n in graph.node if n.op_type in ("Conv", "BatchNormalization", "Gemm")]
    net = ResNet((sum(n.op_type == "Conv" for n in nodes) - 1) // 6)
    modules = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    assert len(modules) == len(nodes)
    with torch.no_grad():
        for module, node in zip(modules, nodes):
            weights = [tensors[name] for name in node.input[1:]]
            into = [module.weight, module.bias]
            if isinstance(module, nn.BatchNorm2d):
                into += [module.running_mean, module.running_var]
            for to, weight in zip([p for p in into if p is not None], weights):
                to.copy_(weight)
    return net.eval()


def cifar(*paths):
    records = np.concatenate([np.fromfile(p, np.uint8).reshape(-1, 3073) for p in paths])
    x = torch.tensor(records[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    return (x - MEAN) / STD, torch.tensor(records[:, 0].astype(np.int64))


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        return sum((net(a).argmax(1) == b).sum().item() for a, b in zip(x.split(100), y.split(100))) / len(y)


def prune(net, speedup, importance):
    """Global pruning in small steps until the multiply-adds are down, as the package's own CIFAR script does."""
    x = torch.zeros(1, 3, 32, 32)
    before, _ = tp.utils.count_ops_and_params(net, x)
    ignored = [net.linear]
    # The residual stream goes through slices and pads that the package does not follow: only what is inside blocks may go.
    ignored += [net.conv1] + [m.conv2 for m in net.modules() if isinstance(m, Block)]
    pruner = tp.pruner.MetaPruner(
        net, x, importance=importance, iterative_steps=100, global_pruning=True, pruning_ratio=1.0,
        max_pruning_ratio=0.95, ignored_layers=ignored,
    )
    for _ in range(100):
        pruner.step()
        now, _ = tp.utils.count_ops_and_params(net, x)
        if before / now >= speedup:
            break
    return before / now


def train(net, x, y, args):
    decayed = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=args.rate, momentum=0.9, nesterov=True)
    steps = args.epochs * (len(y) // args.batch)
    step = 0
    net.train()
    for _ in range(args.epochs):
        order = torch.randperm(len(y))[: len(y) // args.batch * args.batch]
        for indices in order.split(args.batch):
            for group in optimizer.param_groups:
                group["lr"] = args.rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            batch = F.pad(x[indices], (4, 4, 4, 4))
            shifts = torch.randint(0, 9, (len(indices), 2))
            batch = torch.stack([b[:, i : i + 32, j : j + 32] for b, (i, j) in zip(batch, shifts.tolist())])
            flip = torch.rand(len(indices)) < 0.5
            batch[flip] = batch[flip].flip(3)
            loss = F.cross_entropy(net(batch), y[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("net")
    parser.add_argument("--data", required=True)
    parser.add_argument("--speedup", type=float, default=2.1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    tests = {name: cifar(f"{args.data}/cifar10_{name}.bin") for name in ("lossless_test_200", "jpeg_test_3000")}
    train_set = cifar(f"{args.data}/cifar10_lossless_train_4000.bin", f"{args.data}/cifar10_jpeg_train_6000.bin")
    net = load(args.net)
    measure = lambda: {name: round(100 * accuracy(net, *test), 2) for name, test in tests.items()}
    out = {"net": args.net.split("/")[-1], "epochs": args.epochs, "seed": args.seed, "before": measure()}
    out["speedup"] = round(prune(net, args.speedup, tp.pruner.importance.GroupMagnitudeImportance(p=2)), 3)
    out["pruned"] = measure()
    start = time.process_time()
    if args.epochs:
        train(net, *train_set, args)
    out["recovered"], out["cpu_seconds"] = measure(), round(time.process_time() - start, 1)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
