"""Using a finished graph as a part of another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from .builder import GraphBuilder
from .shapes import infer_shapes

NodeWriter = Callable[[GraphBuilder, ir.Node, Sequence[ir.Value | None]], ir.Value | None]
"""(builder, node, what it reads) -> what is written in its place; None for a copy of the node."""


def inline(
    b: GraphBuilder,
    model: ir.Model,
    inputs: Mapping[str, ir.Value],
    write: NodeWriter | None = None,
) -> dict[str, ir.Value]:
    """Append the nodes of `model` to the graph under construction, reading `inputs`.

    Parameters
    ----------
    inputs:
        Name of a graph input -> the value to read in its place.
    write:
        Writes other nodes in the place of some; None to copy all.

    Returns
    -------
    The value under each name of `model`: its outputs, and whatever is between.
    """
    values: dict[str, ir.Value] = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        values[name] = b.constant(name, value.const_value.numpy())
    values |= inputs
    for node in model.graph:
        (output,) = node.outputs
        assert output.name is not None
        b.scoped((node.name or model.graph.name or "").rsplit("/", 1)[0])
        read = [None if value is None else values[value.name or ""] for value in node.inputs]
        copy = None if write is None else write(b, node, read)
        if copy is None:
            copy = b.op(node.op_type, *read, **node.attributes)
        if output.shape is not None and output.shape.is_static():
            copy.shape, copy.type = output.shape, output.type
        values[output.name] = copy
    return values


def with_shapes(model: ir.Model) -> ir.Model:
    """Write the shape of every tensor into the graph, in place.

    Raises
    ------
    ValueError
        If a shape is not known in advance: an input's is not, or an operator makes it from data.
    """
    shapes = infer_shapes(model)
    for node in model.graph:
        for value in node.outputs:
            found = shapes.get(value.name or "")
            if found is None or None in found.shape:
                raise ValueError(f"the shape of {value.name} ({node.op_type}) is not fixed")
            value.shape, value.type = ir.Shape(found.shape), ir.TensorType(found.dtype)
    return model


def prune(model: ir.Model) -> ir.Model:
    """Remove the nodes, initializers and inputs that no output needs, in place."""
    RemoveUnusedNodesPass()(model)
    inputs, outputs = model.graph.inputs, model.graph.outputs
    for value in [v for v in inputs if not v.uses() and v not in outputs]:
        inputs.remove(value)
    return model
