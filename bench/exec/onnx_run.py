"""Networks in our interpreter and in onnxruntime: largest difference relative to the largest output, and times.

`python bench/exec/onnx_run.py EXAMPLE FILE..`, with EXAMPLE the built `run_onnx` (`cargo build --release -p import --example run_onnx`),
which makes the same inputs. One sample, one thread.
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[2] / "golden/onnx-run"))
from make import values  # noqa: E402


def compare(example, path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {}
    for value in session.get_inputs():
        shape = [d if isinstance(d, int) and d > 0 else 1 for d in value.shape]
        feeds[value.name] = values(value.name, int(np.prod(shape)), 1 / 64).reshape(shape)
    want, best = None, float("inf")
    for _ in range(5):
        start = time.perf_counter()
        want = session.run(None, feeds)
        best = min(best, time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"RAYON_NUM_THREADS": "1"}
        done = subprocess.run([example, path, folder], capture_output=True, text=True, env=env)
        if done.returncode:
            return f"failed: {done.stderr.strip()}"
        gaps = []
        for n, y in enumerate(want):
            made = np.fromfile(f"{folder}/{n}.f32", dtype="<f4")
            assert made.size == y.size, (made.size, y.shape)
            gaps.append(np.abs(made - y.reshape(-1)).max() / max(np.abs(y).max(), 1e-30))
        return f"difference {max(gaps):.1e}  ours {done.stdout.strip()}  onnxruntime {best * 1e3:.1f} ms"


if __name__ == "__main__":
    np.seterr(over="ignore")
    for path in sys.argv[2:]:
        print(f"{Path(path).stem:<28}{compare(sys.argv[1], path)}", flush=True)
