"""Tiny files made by the formats' own libraries, which our readers must list and our writers must reproduce.

Made with safetensors 0.8.0, gguf 0.19.0, torch 2.15.0.
"""

from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

here = Path(__file__).parent

save_file(
    {
        "f32": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "bf16": torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.bfloat16),
        "f8": torch.tensor([[1.0, 448.0]]).to(torch.float8_e4m3fn),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(-7, dtype=torch.int64),
        "empty": torch.zeros(0, 4, dtype=torch.float16),
    },
    here / "tiny.safetensors",
    metadata={"format": "pt"},
)

w = gguf.GGUFWriter(here / "tiny.gguf", "llama")
w.add_uint8("k.u8", 200)
w.add_int8("k.i8", -100)
w.add_uint16("k.u16", 60000)
w.add_int16("k.i16", -30000)
w.add_uint32("k.u32", 4_000_000_000)
w.add_int32("k.i32", -2_000_000_000)
w.add_float32("k.f32", 1.5)
w.add_bool("k.bool", True)
w.add_string("k.str", "grüße")
w.add_uint64("k.u64", 2**63)
w.add_int64("k.i64", -(2**62))
w.add_float64("k.f64", 0.1)
w.add_array("k.strings", ["a", "", "ß"])
w.add_array("k.ints", [1, -2, 3])
w.add_array("k.floats", [0.5, -1.5])
w.add_array("k.bools", [True, False])
w.add_tensor("f32", np.arange(6, dtype=np.float32).reshape(2, 3))
q8 = np.arange(2 * 34, dtype=np.uint8).reshape(2, 34)
w.add_tensor("q8_0", q8, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.add_tensor("f16", np.array([1, 2, 3], dtype=np.float16))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
