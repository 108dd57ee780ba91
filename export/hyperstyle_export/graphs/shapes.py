"""Shapes of everything a graph computes, by ONNX's own inference."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx import numpy_helper

SMALL = 1024  # bytes of a constant that may say a shape, an axis or an index


@dataclass(frozen=True)
class Inferred:
    """Type and shape of a value; an axis is None where its length is not known in advance."""

    dtype: ir.DataType
    shape: tuple[int | None, ...]


def infer_shapes(model: ir.Model) -> dict[str, Inferred]:
    """Shapes of what all nodes of a model give, by name; the model is left as it is.

    Only nodes, interface and small constants go to the inference, and only names and shapes come
    back: to make objects of a copy of the whole graph, as onnx-ir's own pass does, takes longer
    than everything else about a small objective.

    Raises
    ------
    ValueError
        If an operator does not take what it is given.
    """
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.graph.opset_imports.items():
        proto.opset_import.append(onnx.helper.make_opsetid(domain, version))
    graph = proto.graph
    graph.name = model.graph.name or "graph"
    for value in model.graph.inputs:
        ir.serde.serialize_value_into(graph.input.add(), value)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes <= SMALL:
            graph.initializer.append(numpy_helper.from_array(tensor.numpy(), name))
        else:
            shape = list(tensor.shape.numpy())
            graph.input.append(onnx.helper.make_tensor_value_info(name, int(tensor.dtype), shape))
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
    for node in model.graph:
        ir.serde.serialize_node_into(graph.node.add(), node)
    try:
        found = onnx.shape_inference.infer_shapes(
            proto, check_type=True, strict_mode=True, data_prop=True
        ).graph
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(f"the shapes of {graph.name} cannot be inferred: {error}") from error
    return {value.name: _inferred(value) for value in (*found.value_info, *found.output)}


def _inferred(value: onnx.ValueInfoProto) -> Inferred:
    tensor = value.type.tensor_type
    dims = (dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return Inferred(ir.DataType(tensor.elem_type), tuple(dims))


def shape_of_one(value: ir.Value) -> list[int]:
    """The shape of a value for a batch of 1: axes without a fixed length are batches."""
    assert value.shape is not None
    return [n if isinstance(n, int) else 1 for n in value.shape]
