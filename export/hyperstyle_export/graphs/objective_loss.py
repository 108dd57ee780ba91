"""The loss of descent as nodes; its twin, with the reasons, is `networks.refinement`."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..adjoint.rules import shape_of
from ..networks.refinement import EDGES, SCALES
from .builder import GraphBuilder

TERMS = 3


def loss_terms(
    b: GraphBuilder,
    image: ir.Value,
    target: ir.Value,
    perceptual: Sequence[ir.Value],
    mask: ir.Value,
) -> ir.Value:
    """`networks.refinement.loss_terms`, [3].

    Parameters
    ----------
    image, target:
        [1,3,H,W], RGB in [-1,1].
    perceptual:
        Scalars that make up the perceptual term; none for a term of zero.
    mask:
        [1,1,H,W].
    """
    difference = b.op("Mul", b.op("Sub", image, target), mask)
    parts = ([b.mean_square(difference)], _structure(b, difference, shape_of(target)), perceptual)
    terms = [b.reshape(_sum(b, part), 1) for part in parts]
    return b.op("Concat", *terms, axis=0)


def _structure(b: GraphBuilder, difference: ir.Value, shape: Sequence[int]) -> list[ir.Value]:
    """Scalars: mean squares of means over windows, and of edges."""
    _, _, height, width = shape
    parts = []
    for window, weight in SCALES:
        if height % window == 0 and width % window == 0:
            means = b.op("AveragePool", difference, kernel_shape=[window] * 2, strides=[window] * 2)
            parts.append(_weighted(b, b.mean_square(means), weight))
    for axis in (2, 3):
        ends = b.integers(shape[axis] - 1), b.integers(shape[axis])
        after = b.op("Slice", difference, b.integers(1), ends[1], b.integers(axis))
        before = b.op("Slice", difference, b.integers(0), ends[0], b.integers(axis))
        parts.append(_weighted(b, b.mean_square(b.op("Sub", after, before)), EDGES))
    return parts


def _sum(b: GraphBuilder, parts: Sequence[ir.Value]) -> ir.Value:
    if not parts:
        return b.scalar(0.0)
    total = parts[0]
    for part in parts[1:]:
        total = b.op("Add", total, part)
    return total


def _weighted(b: GraphBuilder, term: ir.Value, weight: float) -> ir.Value:
    return term if weight == 1 else b.op("Mul", term, b.scalar(weight))
