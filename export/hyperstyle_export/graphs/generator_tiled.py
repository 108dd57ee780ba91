"""The generator for one picture on ONNX Runtime's CPU provider: large convolutions by tiles.

That provider computes a convolution whose kernel comes at run time as a plain matrix product. By
tiles a render of the official layout takes two thirds of the time at 256 px, and five sixths at
1024 px. Other backends have algorithms of their own, which tiles would only be in the way of.

It computes each product with a style and each bias in a pass of its own, too, which is a tenth of
the time at 1024 px: they are in the kernels, and in the convolutions, as `generator_single` has it.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from ..adjoint.tiles import Tiling, tiling_of
from ..networks.config import LayerSpec
from ..networks.hyperstyle import HyperStyle
from .builder import GraphBuilder
from .generator_single import build_single_generator
from .inlining import inline, with_shapes
from .shapes import shape_of_one
from .tiled import FEWEST_WITHOUT_GRADIENT, with_large_tiles

ROLE = "tiled_generator"
LEAST_SIDE = 64
"""Pixels of a layer by tiles from which on a generator gains a tenth by them, or more."""


def build_tiled_generator(model: HyperStyle) -> ir.Model:
    """`generator` for a batch of one, the same but for rounding."""
    forward, b = build_single_generator(model), GraphBuilder(ROLE)
    inputs = {str(v.name): b.input(str(v.name), shape_of_one(v)) for v in forward.graph.inputs}
    values = inline(b, forward, inputs)
    for value in forward.graph.outputs:
        b.output(str(value.name), values[str(value.name)], shape_of_one(value))
    return with_large_tiles(with_shapes(b.build()))


def gains_by_tiles(tuned: Iterable[LayerSpec]) -> bool:
    """Whether tiles are worth a graph of their own, by the layers whose kernels are inputs."""
    large = (layer for layer in tuned if layer.resolution >= LEAST_SIDE and not layer.upsample)
    return any(_tiling(layer) for layer in large)


def _tiling(layer: LayerSpec) -> Tiling | None:
    size = layer.resolution, layer.resolution
    return tiling_of(layer.weight_shape, size, 1, (1, 1), FEWEST_WITHOUT_GRADIENT)
