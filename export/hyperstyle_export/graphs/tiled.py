"""Large convolutions of a finished graph by tiles, beside its adjoint, which has its own.

Tiles of 2 x 2 pixels only. Those of 4 x 4 save twice as much, but are off by eight times as much as
a sum of products is: more activations would change sides, and with them the slopes that the
gradients of single numbers depend on.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..adjoint.convolution import chosen_tiling
from ..adjoint.pull_back import ADJOINT_SCOPE
from ..adjoint.rules import input_of, shape_of
from ..adjoint.tiles import FEWEST_FORWARD, TiledConvolution, tiling
from .builder import GraphBuilder
from .inlining import inline

FORWARD_SIDE = 2


def with_tiles(model: ir.Model) -> ir.Model:
    """The same graph with the large convolutions of its forward pass by tiles.

    Those whose kernel comes at run time: one that is a constant would be stored transformed, which
    takes twice as much.

    Parameters
    ----------
    model:
        Its forward pass with shapes, its adjoint in :data:`~..adjoint.pull_back.ADJOINT_SCOPE`.
    """
    b = GraphBuilder(model.graph.name or "")
    inputs = {str(value.name): value for value in model.graph.inputs}
    read = {name: b.input(name, shape_of(value)) for name, value in inputs.items()}
    values = inline(b, model, read, _by_tiles)
    for value in model.graph.outputs:
        b.output(str(value.name), values[str(value.name)], shape_of(value))
    return b.build()


def _by_tiles(b: GraphBuilder, node: ir.Node, read: Sequence[ir.Value | None]) -> ir.Value | None:
    """A convolution of the forward pass; None for what is left as it is."""
    if node.op_type != "Conv" or (node.name or "").startswith(f"{ADJOINT_SCOPE}/"):
        return None
    if input_of(node, 1).const_value is not None or chosen_tiling(node, FEWEST_FORWARD) is None:
        return None
    x, kernel, *rest = read
    assert x is not None and kernel is not None
    _, channels, height, width = shape_of(node.outputs[0])
    shape = shape_of(input_of(node, 1))
    tiled = TiledConvolution(b, shape, (height, width), tiling(FORWARD_SIDE))
    x = tiled.output(x, kernel)
    for bias in rest:
        assert bias is not None
        x = b.op("Add", x, b.reshape(bias, 1, channels, 1, 1))
    return x
