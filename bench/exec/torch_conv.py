"""The training step of `cargo run --release -p exec --example bench_conv`, in PyTorch on the CPU.

`python bench/exec/torch_conv.py [THREADS] [plain|channels-last]`: ResNet-20 (He et al. 2015) on CIFAR shapes, batch 64, f32: forward
with live batch norm, cross-entropy, backward, SGD with momentum 0.9 and weight decay. Prints CPU and wall seconds of the best
and the median run, and peak memory (what importing torch takes stands beside it).
"""
import resource
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
LAYOUT = torch.contiguous_format if "plain" in sys.argv[2:] else torch.channels_last
torch.manual_seed(0)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.short = None
        if stride > 1:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.short(x) if self.short else x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*[Block(*w) for w in widths])
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.head(x.mean((2, 3)))


before = peak()
model = ResNet20().to(memory_format=LAYOUT)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
x = torch.randn(64, 3, 32, 32).to(memory_format=LAYOUT)
target = torch.randint(0, 10, (64,))
cpu, wall = [], []
for _ in range(23):
    start = time.process_time(), time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(model(x), target).backward()
    optimizer.step()
    cpu.append(time.process_time() - start[0])
    wall.append(time.perf_counter() - start[1])
cpu, wall = sorted(cpu[3:]), sorted(wall[3:])
print(f"resnet20 step    cpu best {cpu[0]:.4f} median {statistics.median(cpu):.4f} s  wall best {wall[0]:.4f} "
      f"median {statistics.median(wall):.4f} s  peak {peak():.1f} MiB (before: {before:.1f})")
