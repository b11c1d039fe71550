"""CPU time and peak memory of making a GGUF by a preset, against llama-quantize, alternating in one run.

    python quantize.py CONVERT LLAMA_QUANTIZE MODEL_FOLDER [RUNS]

CONVERT is `target/release/examples/convert` (`cargo build --release -p export --example convert`). A folder goes in
on our side; llama-quantize gets the same weights as a BF16 GGUF, whose making is not counted. Two threads each.
Least CPU time and largest peak of RUNS (default 2). Peaks count mapped pages of the source.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def measure(command):
    """CPU seconds and peak MiB."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.execv(command[0], command)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, command
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    convert, quantize, model = sys.argv[1:4]
    runs = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    with tempfile.TemporaryDirectory(dir=Path(model).parent) as folder:
        bf16, out = f"{folder}/bf16.gguf", f"{folder}/out.gguf"
        subprocess.run([convert, model, bf16, "BF16", "2"], check=True, capture_output=True)
        for preset in ("Q4_K_M", "Q8_0"):
            tools = {"tinier": [convert, model, out, preset, "2"], "llama-quantize": [quantize, bf16, out, preset, "2"]}
            seen = {name: [] for name in tools}
            for _ in range(runs):
                for name, command in tools.items():
                    seen[name].append(measure(command))
                    os.remove(out)
            cpu = {name: min(c for c, _ in all) for name, all in seen.items()}
            peak = {name: max(p for _, p in all) for name, all in seen.items()}
            for name in tools:
                print(f"{preset:7} {name:15} {cpu[name]:7.1f} s CPU {peak[name]:7.0f} MiB peak")
            print(f"{preset:7} ratio of CPU time {cpu['tinier'] / cpu['llama-quantize']:.2f}")


main()
