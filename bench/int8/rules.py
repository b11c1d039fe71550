"""Which operators onnxruntime's CPU provider runs on codes when they stand between DequantizeLinear and QuantizeLinear.

`python bench/int8/rules.py`: one line for each, with the operators that are left at the highest level of optimization. What is
learned here stands in `crates/passes/src/quantize/network/kernels.rs`.
"""
import collections
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common import session

CHANNELS, SIDE = 8, 16


class Net:
    """A network that starts with a rounded input `x`."""

    def __init__(self, opset=13):
        self.nodes, self.constants, self.opset = [], {}, opset
        self.round("input", "x")

    def constant(self, name, value):
        self.constants[name] = np.asarray(value)
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output] if isinstance(output, str) else output, **attributes))
        return output

    def round(self, value, to, scale=0.1, zero=128):
        grid = [self.constant(f"{to}_s", np.float32(scale)), self.constant(f"{to}_z", np.uint8(zero))]
        self.node("QuantizeLinear", [value, *grid], f"{to}_q")
        return self.node("DequantizeLinear", [f"{to}_q", *grid], to)

    def codes(self, name, shape, axis, dtype=np.int8, scale=0.01):
        codes = self.constant(f"{name}_q", np.random.default_rng(0).integers(-9, 9, shape).astype(dtype))
        grid = [self.constant(f"{name}_s", np.full(shape[axis], scale, np.float32))]
        if dtype == np.int8:
            # Without it QGemm is not taken.
            grid.append(self.constant(f"{name}_z", np.zeros(shape[axis], np.int8)))
        return self.node("DequantizeLinear", [codes, *grid], name, axis=axis)

    def left(self, output):
        self.node("Identity", [output], "output")
        ends = ("input", (1, CHANNELS, SIDE, SIDE)), ("output", None)
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "rules", values[:1], values[1:], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            onnx.save(model, path)
            return collections.Counter(session(path)[1])


def unary(op, same, more=(), **attributes):
    """Between two roundings, on one grid or on two."""
    net = Net(opset=14 if op == "HardSwish" else 13)
    inputs = ["x"] + [net.constant(f"c{n}", value) if value is not None else "" for n, value in enumerate(more)]
    made = net.node(op, inputs, "made", **attributes)
    return net.left(net.round(made, "out") if same else net.round(made, "out", 0.05, 0))


def product(op, shape, axis, behind=None, zero=0, rounded=True, group=None):
    net, x = Net(), "x"
    if op in ("Gemm", "MatMul"):
        x = net.round(net.node("Reshape", [x, net.constant("shape", np.array([1, -1]))], "flat"), "rows")
    inputs = [x, net.codes("w", shape, axis)]
    if op != "MatMul":
        inputs.append(net.codes("b", (shape[axis],), 0, np.int32, 0.001))
    made = net.node(op, inputs, "made", **({} if group is None else {"group": group}))
    if behind == "Clip":
        made = net.node("Clip", [made, net.constant("low", np.float32(0)), net.constant("high", np.float32(6))], "clipped")
    elif behind:
        made = net.node(behind, [made], "behind")
    return net.left(net.round(made, "out", 6 / 255, zero) if rounded else made)


def binary(op, constant, dtype=np.uint8):
    net, other = Net(), "x"
    if constant:
        grid = [net.constant("k_s", np.float32(0.02)), net.constant("k_z", dtype(0))]
        other = net.node("DequantizeLinear", [net.constant("k_q", np.full((CHANNELS, 1, 1), 7, dtype)), *grid], "k")
    attributes = {"axis": 1} if op == "Concat" else {}
    return net.left(net.round(net.node(op, ["x", other], "made", **attributes), "out", 0.2, 100))


def main():
    ints = lambda *numbers: np.array(numbers, np.int64)
    cases = {
        "Conv": product("Conv", (8, 8, 3, 3), 0),
        "Conv, depthwise": product("Conv", (8, 1, 3, 3), 0, group=8),
        "Conv and Relu, zero point least": product("Conv", (8, 8, 3, 3), 0, "Relu"),
        "Conv and Relu, zero point 10": product("Conv", (8, 8, 3, 3), 0, "Relu", zero=10),
        "Conv and Clip": product("Conv", (8, 8, 3, 3), 0, "Clip"),
        "ConvTranspose": product("ConvTranspose", (8, 8, 3, 3), 1),
        "Gemm": product("Gemm", (2048, 10), 1),
        "Gemm, output in float": product("Gemm", (2048, 10), 1, rounded=False),
        "MatMul": product("MatMul", (2048, 10), 1),
        "MatMul, output in float": product("MatMul", (2048, 10), 1, rounded=False),
    }
    for op in ("Add", "Mul", "Sub", "Div", "Max", "Concat"):
        cases[op] = binary(op, False)
        cases[f"{op}, constant"] = binary(op, op != "Concat")
    cases["Add, constant of another type"] = binary("Add", True, np.int8)
    window = {"kernel_shape": [2, 2]}
    scales = np.array([1, 1, 2, 2], np.float32)
    moving = [
        ("MaxPool", (), window), ("AveragePool", (), window), ("GlobalAveragePool", (), {}), ("GlobalMaxPool", (), {}),
        ("ReduceMean", (), {"axes": [2, 3]}), ("ReduceMax", (), {"axes": [2, 3]}), ("Relu", (), {}), ("LeakyRelu", (), {}),
        ("Sigmoid", (), {}), ("HardSigmoid", (), {}), ("HardSwish", (), {}), ("Tanh", (), {}), ("Softmax", (), {"axis": 1}),
        ("Flatten", (), {}), ("Transpose", (), {"perm": [0, 2, 3, 1]}), ("DepthToSpace", (), {"blocksize": 2}),
        ("Reshape", (ints(1, -1),), {}), ("Squeeze", (ints(0),), {}), ("Unsqueeze", (ints(0),), {}),
        ("Slice", (ints(0), ints(16), ints(2), ints(2)), {}), ("Gather", (ints(0, 2),), {"axis": 1}),
        ("Expand", (ints(2, 8, 16, 16),), {}), ("Pad", (ints(0, 4, 0, 0, 0, 4, 0, 0),), {}),
        ("Resize", (None, scales), {"mode": "nearest"}), ("Resize", (None, scales), {"mode": "linear"}),
    ]  # fmt: skip
    for op, more, attributes in moving:
        label = f"{op} {attributes.get('mode', '')}".strip()
        cases[f"{label}, one grid"] = unary(op, True, more, **attributes)
        cases[f"{label}, two grids"] = unary(op, False, more, **attributes)
    for label, ops in cases.items():
        ends = ops.get("QuantizeLinear", 0) + ops.get("DequantizeLinear", 0)
        inside = [op for op in ops if op not in ("QuantizeLinear", "DequantizeLinear", "Transpose")] or list(ops)
        print(f"{label:34} {'on codes' if ends <= 2 else 'in float':9} {', '.join(inside)}")


if __name__ == "__main__":
    main()
