"""What a graph costs: multiply-accumulates, and the bytes that it moves at least."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    values = {value.name: value for value in [*graph.input, *graph.value_info, *graph.output]}

    def shape(name: str) -> list[int]:
        if name in tensors:
            return list(tensors[name].dims)
        return [dim.dim_value for dim in values[name].type.tensor_type.shape.dim]

    def size(name: str) -> int:
        if name in tensors:
            dtype = tensors[name].data_type
        else:
            dtype = values[name].type.tensor_type.elem_type
        return math.prod(shape(name)) * (2 if dtype == onnx.TensorProto.FLOAT16 else 4)

    works = []
    for node in graph.node:
        if node.op_type in HEAVY:
            names = [name for name in [*node.input, *node.output] if name]
            works.append(Work(_macs(node, shape), sum(size(name) for name in names)))
    return works


def _macs(node: onnx.NodeProto, shape: Callable[[str], list[int]]) -> int:
    """Every output is a sum over the kernel; of a transposed convolution every input is spread."""
    kernel, out = shape(node.input[1]), shape(node.output[0])
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(kernel[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shape(node.input[0])) * math.prod(kernel[1:])
    inner = shape(node.input[0])[-1]
    return math.prod(out) * inner
