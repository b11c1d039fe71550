"""What layer pruning is compared with: a decoder without its last layers.

    python last_layers.py MODEL OUT LAYERS       (a Hugging Face folder with one model.safetensors; needs safetensors, torch)
"""

import json
import re
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

model, out, layers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
out.mkdir()
for file in model.iterdir():
    if file.suffix == ".json":
        shutil.copy(file, out / file.name)
config = json.loads((model / "config.json").read_text())
(out / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
number = re.compile(r"\.layers\.(\d+)\.")
stays = lambda name: not (found := number.search(name)) or int(found[1]) < layers
tensors = load_file(model / "model.safetensors")
save_file({name: t for name, t in tensors.items() if stays(name)}, out / "model.safetensors", {"format": "pt"})
