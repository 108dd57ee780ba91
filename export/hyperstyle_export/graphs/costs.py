"""What a graph costs: multiply-accumulates, and the bytes that it moves at least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""All other operators together are a few hundredths of the arithmetic."""


@dataclass(frozen=True)
class Work:
    """A node's multiply-accumulates, and the bytes it reads and writes at least."""

    macs: int
    size: int


def total_work(path: Path) -> Work:
    """That of all convolutions and matrix products of a graph, for a batch of one."""
    works = work_of(onnx.load(path, load_external_data=False))
    return Work(sum(work.macs for work in works), sum(work.size for work in works))


def work_of(model: onnx.ModelProto) -> list[Work]:
    """Work of every convolution and matrix product, for a batch of one."""
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
    types = {t.name: t.data_type for t in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        shapes[value.name] = [dim.dim_value for dim in tensor.shape.dim]
        types[value.name] = tensor.elem_type

    def size(name: str) -> int:
        width = 2 if types[name] == onnx.TensorProto.FLOAT16 else 4
        return math.prod(shapes[name]) * width

    works = []
    for node in graph.node:
        if node.op_type in HEAVY:
            names = [name for name in [*node.input, *node.output] if name]
            works.append(Work(_macs(node, shapes), sum(size(name) for name in names)))
    return works


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Every output is a sum over the kernel; of a transposed convolution every input is spread."""
    kernel, out = shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(kernel[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(kernel[1:])
    inner = shapes[node.input[0]][-1]
    return math.prod(out) * inner
