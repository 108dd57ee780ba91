"""Letting a backward pass proceed node by node, so that little is held in memory at a time.

A runtime may run nodes in any order that their inputs allow. ONNX Runtime computes what can be
computed early: the slopes of all activations while it still runs the forward pass, the part of the
gradient that every scale of the picture contributes; and the kernels' gradients, which nothing
waits for, late, with all that they are computed from kept until then.

So every stage (the adjoint of one node) is made to wait for the one before it. A number that is
zero, but takes one value of everything the stage before gives away to be computed, is added to some
small input of what would otherwise start early. Only a dependency is needed; adding zero to a few
numbers is the operation for it that no optimiser may remove.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import groupby, pairwise
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ..graphs.shapes import infer_shapes
from .pull_back import ADJOINT_SCOPE
from .rules import input_of, shape_of

LARGE = 1 << 20  # numbers from which on it matters when a tensor is made: 4 MB
SMALL = 16  # an input is small if the output is at least so many times as large
DELAYED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Mul")
"""Operators that a stage may start with, and that have a small input."""

Shapes = Mapping[ir.Value, tuple[int, ...]]


def paced(model: ir.Model) -> ir.Model:
    """Make every stage of a graph's backward pass wait for the one before it, in place.

    Parameters
    ----------
    model:
        With the nodes of :func:`~.pull_back.pull_back` in the order in which they were appended.
        The shapes of all tensors must be fixed. Where no tensor is large nothing is changed.

    Notes
    -----
    Where a gradient is infinite or no number, those of the stages after it are no numbers.
    """
    shapes = _shapes(model)
    nodes = _Nodes(model.graph, shapes)
    large = [
        stage
        for stage in _stages(model.graph)
        if any(prod(shapes[output]) >= LARGE for node in stage for output in node.outputs)
    ]
    zero: ir.Value | None = None
    for stage, following in pairwise(large):
        zero = _zero_after(nodes, stage, following[0], zero)
        _delay(nodes, following, zero, shapes)
    return model


def _shapes(model: ir.Model) -> Shapes:
    """Shapes of all tensors of numbers; those that had to be inferred are not left in the graph."""
    inferred = infer_shapes(model)
    shapes: dict[ir.Value, tuple[int, ...]] = {
        value: shape_of(value)
        for value in (*model.graph.inputs, *model.graph.initializers.values())
    }
    for node in model.graph:
        for value in node.outputs:
            shape = inferred[value.name or ""].shape
            assert None not in shape
            shapes[value] = tuple(int(n) for n in shape if n is not None)
    return shapes


def _stages(graph: ir.Graph) -> list[list[ir.Node]]:
    """Nodes of the backward pass; a stage is those in a row that belong to one node's adjoint."""
    named = [(node, node.name or "") for node in graph]
    backward = [(node, name) for node, name in named if name.startswith(f"{ADJOINT_SCOPE}/")]
    by_node = groupby(backward, lambda found: found[1].rsplit("/", 1)[0])
    return [[node for node, _ in stage] for _, stage in by_node]


def _delay(nodes: _Nodes, stage: Sequence[ir.Node], zero: ir.Value, shapes: Shapes) -> None:
    """Make what a stage starts with wait for `zero`."""
    waiting: set[ir.Value | None] = set()
    delayed: dict[ir.Value, ir.Value] = {}
    for node in stage:
        if waiting.isdisjoint(node.inputs):
            if prod(shapes[node.outputs[0]]) < LARGE:
                continue
            if node.op_type == "Pad" and len(node.inputs) == 2:
                node.resize_inputs(3)  # the third is what it puts around: zero if not given
                node.replace_input_with(2, zero)
            else:
                position = _small_input(node, shapes)
                if position is None:
                    continue
                value = input_of(node, position)
                if value not in delayed:
                    delayed[value] = nodes.before(node, "Add", value, zero)
                node.replace_input_with(position, delayed[value])
        waiting.update(node.outputs)


def _small_input(node: ir.Node, shapes: Shapes) -> int | None:
    """Position of a node's smallest input, if it is small beside a large output.

    Constants stay what they are, as kernels are prepared when a graph is loaded; but for single
    numbers, which need no preparation.
    """
    if node.op_type not in DELAYED:
        return None
    size = prod(shapes[node.outputs[0]])
    variable = [
        (prod(shapes[value]), position)
        for position, value in enumerate(node.inputs)
        if value is not None and (value.const_value is None or not shapes[value])
    ]
    smallest, position = min(variable, default=(size, 0))
    return position if smallest * SMALL <= size else None


def _zero_after(
    nodes: _Nodes, stage: Sequence[ir.Node], following: ir.Node, zero: ir.Value | None
) -> ir.Value:
    """Zero, a number without axes, once all is there that a stage gives away.

    Computed before the node `following` and from the `zero` of the stages before.
    """
    inside = set(stage)
    given = [
        output
        for node in stage
        for output in node.outputs
        if output.is_graph_output() or any(use.node not in inside for use in output.uses())
    ]
    total = reduce(
        lambda left, right: nodes.before(following, "Add", left, right),
        [nodes.first_number(following, value) for value in given],
    )
    total = nodes.before(following, "Mul", total, nodes.constant("f32_0", np.float32(0)))
    return total if zero is None else nodes.before(following, "Add", total, zero)


class _Nodes:
    """Puts nodes into a finished graph."""

    def __init__(self, graph: ir.Graph, shapes: Shapes) -> None:
        self._graph = graph
        self._shapes = shapes
        self._count = 0

    def constant(self, name: str, array: Any) -> ir.Value:
        """The initializer of that name, which is made if there is none."""
        if name not in self._graph.initializers:
            array = np.asarray(array)
            tensor = ir.tensor(array, name=name)
            value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.shape = ir.Shape(array.shape)
            self._graph.register_initializer(value)
        return self._graph.initializers[name]

    def integers(self, *values: int) -> ir.Value:
        """As :meth:`GraphBuilder.integers`, under the same names."""
        name = "i64_" + "_".join(str(value) for value in values)
        return self.constant(name, np.array(values, np.int64))

    def before(self, place: ir.Node, op_type: str, *inputs: ir.Value) -> ir.Value:
        """Put a node with one output before another, and return that output."""
        self._count += 1
        name = f"pacing/{op_type}_{self._count}"
        node = ir.node(op_type, inputs, name=name)
        node.outputs[0].name = f"{name}:0"
        self._graph.insert_before(place, node)
        return node.outputs[0]

    def first_number(self, place: ir.Node, value: ir.Value) -> ir.Value:
        """The first number of a tensor, without axes."""
        rank = len(self._shapes[value])
        if not rank:
            return value
        bounds = [[0] * rank, [1] * rank, list(range(rank))]
        first = self.before(place, "Slice", value, *(self.integers(*bound) for bound in bounds))
        return self.before(
            place, "Reshape", first, self.constant("i64_scalar_shape", np.empty(0, np.int64))
        )
