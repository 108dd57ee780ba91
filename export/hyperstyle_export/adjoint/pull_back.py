"""Reverse-mode differentiation of our own graphs: the backward pass is a graph like any other.

Every operator that the graphs use has one rule, which writes the vector-Jacobian product as
ordinary ONNX nodes. A graph's adjoint is the rules applied from its outputs back; no nodes are
written for values that do not lie between the wanted values and the outputs. What the forward pass
computed is used where a rule needs it; ONNX Runtime keeps it alive that long and no longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from ..graphs.builder import GraphBuilder
from .convolution import CONVOLUTION_RULES
from .rules import RULES, Rule

ADJOINT_SCOPE = "adjoint"
"""The first part of the names of all nodes that are appended."""

ALL_RULES: dict[str, Rule] = {**RULES, **CONVOLUTION_RULES}


def pull_back(
    b: GraphBuilder, cotangents: Mapping[ir.Value, ir.Value], wanted: Sequence[ir.Value]
) -> list[ir.Value]:
    """Append the adjoint: sum over outputs y of (d y / d w)^T applied to y's cotangent, per w.

    Parameters
    ----------
    b:
        Where the forward nodes are, made by the same builder; their shapes must be known
        (:func:`~.graphs.inlining.with_shapes`).
    cotangents:
        Output -> the derivative of some scalar by it, of the output's shape.
    wanted:
        Values the outputs depend on, float32.

    Returns
    -------
    For each of `wanted`, the derivative of the scalar by it, of its shape.

    Raises
    ------
    ValueError
        If an operator on the way has no rule, or no output depends on a wanted value.
    """
    nodes = _in_order(cotangents)
    carrying = _depending_on(wanted, nodes)
    totals = dict(cotangents)
    for node in reversed(nodes):
        (output,) = node.outputs[:1]
        if output not in totals or output not in carrying:
            continue
        if node.op_type not in ALL_RULES:
            raise ValueError(f"{node.op_type} ({node.name}) has no rule of differentiation")
        b.scoped(f"{ADJOINT_SCOPE}/{node.name}")
        gradient = totals[output]
        for position, value in _carrying_inputs(node, carrying):
            part = ALL_RULES[node.op_type](b, node, gradient, position)
            totals[value] = b.op("Add", totals[value], part) if value in totals else part
    missing = [value.name for value in wanted if value not in totals]
    if missing:
        raise ValueError(f"no output depends on {', '.join(str(name) for name in missing)}")
    return [totals[value] for value in wanted]


def _carrying_inputs(node: ir.Node, carrying: set[ir.Value]) -> Iterator[tuple[int, ir.Value]]:
    for position, value in enumerate(node.inputs):
        if value is not None and value in carrying:
            yield position, value


def _in_order(outputs: Mapping[ir.Value, ir.Value]) -> list[ir.Node]:
    """All nodes the outputs need, each after those it reads from."""
    ordered: dict[ir.Node, None] = {}
    pending = [node for value in outputs if (node := value.producer()) is not None]
    while pending:
        node = pending[-1]
        before = (value.producer() for value in node.inputs if value is not None)
        unmet = [n for n in before if n is not None and n not in ordered]
        if unmet:
            pending += unmet
        else:
            ordered[pending.pop()] = None
    return list(ordered)


def _depending_on(wanted: Sequence[ir.Value], nodes: Sequence[ir.Node]) -> set[ir.Value]:
    """The wanted values and all that is computed from them."""
    carrying = set(wanted)
    for node in nodes:
        if any(value in carrying for value in node.inputs):
            carrying.update(node.outputs)
    return carrying
