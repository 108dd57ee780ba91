"""The memory that sessions of ONNX Runtime draw on: found again in other sizes, and given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import gc, resource, sys
import numpy as np
import onnx
from onnx import TensorProto, helper
from hyperstyle_rt.backends.ort_library import load_onnxruntime, session_options, shrink_arena

if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30,) * 2)

def megabytes(row):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith(row))

# Every tensor is larger than the one before, which is of no use by then: 20, 24 ... 60 MB.
step = 1 << 20
more = helper.make_tensor("more", TensorProto.FLOAT, [step], np.ones(step, np.float32))
nodes = [helper.make_node("Concat", ["x"] + ["more"] * 5, ["x0"], axis=0)]
nodes += [helper.make_node("Concat", [f"x{i}", "more"], [f"x{i + 1}"], axis=0) for i in range(10)]
nodes.append(helper.make_node("ReduceSum", ["x10"], ["y"], keepdims=0))
graph = helper.make_graph(
    nodes,
    "growing",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    [more],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
session = load_onnxruntime().InferenceSession(
    model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
)
before = megabytes("VmRSS")
(y,) = session.run(None, {"x": np.zeros(1, np.float32)})
peak = megabytes("VmHWM") - before
del session
gc.collect()
shrink_arena()
print(float(y) / step, peak, megabytes("VmRSS") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell memory elsewhere")
@pytest.mark.parametrize(("addresses", "least", "most"), [("all", 100, 260), ("limited", 380, 500)])
def test_larger_tensors_find_room_where_smaller_ones_were(
    addresses: str, least: int, most: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, addresses], capture_output=True, text=True, check=True
    )
    total, peak, left = map(float, done.stdout.split())
    assert total == 15
    assert least < peak < most  # two neighbours live at a time: 116 MB; all of them: 440
    assert left < 30
