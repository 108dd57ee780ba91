"""The refinement's loss as nodes; its twin, with the reasons, is `networks.refinement`."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..adjoint.rules import shape_of
from ..networks.refinement import EDGES, PIXELS, SCALES
from .builder import GraphBuilder


def loss_of(
    b: GraphBuilder,
    image: ir.Value,
    target: ir.Value,
    perceptual: Sequence[ir.Value],
) -> ir.Value:
    """`refinement_loss`, [1].

    Parameters
    ----------
    image, target:
        [1,3,H,W], RGB in [-1,1].
    perceptual:
        Scalars that make up the perceptual term.
    """
    b.scoped("loss")
    difference = b.op("Sub", image, target)
    _, _, height, width = shape = shape_of(target)
    terms = [_weighted(b, b.mean_square(difference), PIXELS)]
    for window, weight in SCALES:
        if height % window == 0 and width % window == 0:
            means = b.op("AveragePool", difference, kernel_shape=[window] * 2, strides=[window] * 2)
            terms.append(_weighted(b, b.mean_square(means), weight))
    for axis in (2, 3):
        ends = b.integers(shape[axis] - 1), b.integers(shape[axis])
        after = b.op("Slice", difference, b.integers(1), ends[1], b.integers(axis))
        before = b.op("Slice", difference, b.integers(0), ends[0], b.integers(axis))
        terms.append(_weighted(b, b.mean_square(b.op("Sub", after, before)), EDGES))
    total = terms[0]
    for term in [*terms[1:], *perceptual]:
        total = b.op("Add", total, term)
    return b.reshape(total, 1)


def _weighted(b: GraphBuilder, term: ir.Value, weight: float) -> ir.Value:
    return b.op("Mul", term, b.scalar(weight))
