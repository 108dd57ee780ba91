"""The refinement's loss as nodes; its twin, with the reasons, is `networks.refinement`."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..networks.refinement import EDGES, FEATURES, PIXELS, SCALES
from .adjoint_rules import shape_of
from .builder import GraphBuilder


def loss_of(
    b: GraphBuilder,
    image: ir.Value,
    target: ir.Value,
    features: Sequence[tuple[ir.Value, ir.Value]],
) -> ir.Value:
    """`refinement_loss`, [1].

    Parameters
    ----------
    image, target:
        [1,3,H,W], RGB in [-1,1].
    features:
        Pairs of the image's and the target's, [1,C,h,w] each.
    """
    b.scoped("loss")
    difference = b.op("Sub", image, target)
    _, _, height, width = shape = shape_of(target)
    terms = [_weighted(b, _mean_square(b, difference), PIXELS)]
    for window, weight in SCALES:
        if height % window == 0 and width % window == 0:
            means = b.op("AveragePool", difference, kernel_shape=[window] * 2, strides=[window] * 2)
            terms.append(_weighted(b, _mean_square(b, means), weight))
    for axis in (2, 3):
        ends = b.integers(shape[axis] - 1), b.integers(shape[axis])
        after = b.op("Slice", difference, b.integers(1), ends[1], b.integers(axis))
        before = b.op("Slice", difference, b.integers(0), ends[0], b.integers(axis))
        terms.append(_weighted(b, _mean_square(b, b.op("Sub", after, before)), EDGES))
    for made, wanted in features:
        error = _mean_square(b, b.op("Sub", made, wanted))
        terms.append(_weighted(b, b.op("Div", error, _mean_square(b, wanted)), FEATURES))
    total = terms[0]
    for term in terms[1:]:
        total = b.op("Add", total, term)
    return b.reshape(total, 1)


def _mean_square(b: GraphBuilder, x: ir.Value) -> ir.Value:
    return b.op("ReduceMean", b.op("Mul", x, x), keepdims=0)


def _weighted(b: GraphBuilder, term: ir.Value, weight: float) -> ir.Value:
    return b.op("Mul", term, b.scalar(weight))
