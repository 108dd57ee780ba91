"""The counts behind docs/gpu.md."""

from __future__ import annotations

from pathlib import Path

from benchmarking.roofline import GPUS, Gpu, seconds, table
from hyperstyle_export.graphs.costs import Work, total_work, work_of
from hyperstyle_rt.formats.bundle import Bundle
from onnx import TensorProto, helper


def model(op: str, weight: list[int], out: list[int], **attributes: object) -> object:
    """One node on x [batch,4,8,8] with a half kernel that is a graph input."""
    half = TensorProto.FLOAT16
    x = helper.make_tensor_value_info("x", half, ["batch", 4, 8, 8])
    w = helper.make_tensor_value_info("w", half, weight)
    y = helper.make_tensor_value_info("y", half, ["batch", *out])
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    graph = helper.make_graph([node], "one", [x, w], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_convolution_is_counted_by_its_outputs() -> None:
    (work,) = work_of(model("Conv", [6, 4, 3, 3], [6, 8, 8], kernel_shape=[3, 3], pads=[1] * 4))
    assert work.macs == 6 * 8 * 8 * 4 * 9
    assert work.size == 2 * (4 * 8 * 8 + 6 * 4 * 9 + 6 * 8 * 8)


def test_a_transposed_convolution_is_counted_by_its_inputs() -> None:
    (work,) = work_of(
        model("ConvTranspose", [4, 6, 3, 3], [6, 17, 17], kernel_shape=[3, 3], strides=[2, 2])
    )
    assert work.macs == 4 * 8 * 8 * 6 * 9


def test_a_node_takes_the_longer_of_arithmetic_and_memory() -> None:
    gpu = Gpu("round", 100.0, 10.0)
    assert seconds(Work(1000, 10), gpu) == 20
    assert seconds(Work(10, 1000), gpu) == 100


def test_the_table_has_every_graph(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    lines = table(bundle, "fp32").splitlines()
    roles = ["encoder", "hypernet", "weights", "generator"]
    assert [line.split("|")[1].strip() for line in lines[2:6]] == roles
    for role in roles:
        listed = bundle.manifest.graphs[role]
        assert Work(listed.macs, listed.bytes_moved) == total_work(bundle.verified_path(role))
    assert all(line.count("|") == len(GPUS) + 4 for line in lines)
