"""roundtrip.py PROGRAM FILE...: copies ONNX files through tinier and compares what onnxruntime makes of both.

PROGRAM is the built example `onnx_copy`. Prints, for a plain copy and for one whose nodes are all written anew, the largest
difference relative to the largest output; with `exact` where the messages are equal field for field.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


def run(path, feeds=None):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    if feeds is None:
        rng = np.random.default_rng(0)
        feeds = {i.name: rng.standard_normal([d if isinstance(d, int) else 2 for d in i.shape]).astype(np.float32)
                 for i in session.get_inputs()}
    return feeds, session.run(None, feeds)


def main(program, files):
    for path in files:
        words = []
        for mode in [[], ["anew"]]:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "copy.onnx"
                done = subprocess.run([program, path, str(copy), *mode], capture_output=True, text=True)
                if done.returncode:
                    words.append("FAILED " + done.stderr.strip()[:300])
                    continue
                if not mode:
                    words.append("exact" if onnx.load(path) == onnx.load(copy) else "NOT EXACT")
                try:
                    feeds, before = run(path)
                except Exception as error:
                    words.append("not run: " + str(error)[:60])
                    continue
                _, after = run(copy, feeds)
                worst = max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-9) for a, b in zip(before, after))
                words.append(f"{worst:.1e}")
        print(Path(path).stem, *words, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
