"""Large convolutions of a finished graph by tiles, beside its adjoint, which has its own.

There tiles of 2 x 2 pixels only. Those of 4 x 4 save twice as much, but are off by eight times as
much as a sum of products is: more activations would change sides, and with them the slopes that the
gradients of single numbers depend on. Where no gradient is taken, nobody sees that.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..adjoint.convolution import chosen_tiling
from ..adjoint.pull_back import ADJOINT_SCOPE
from ..adjoint.rules import input_of, shape_of
from ..adjoint.tiles import FEWEST_FORWARD, TiledConvolution, Tiling, tiling
from .builder import GraphBuilder
from .inlining import NodeWriter, inline

FORWARD_SIDE = 2
FEWEST_WITHOUT_GRADIENT = 128
LARGEST_BAND = 1 << 19  # numbers


def with_tiles(model: ir.Model) -> ir.Model:
    """The same graph with the large convolutions of its forward pass by tiles.

    Those whose kernel comes at run time: one that is a constant would be stored transformed, which
    takes twice as much.

    Parameters
    ----------
    model:
        Its forward pass with shapes, its adjoint in :data:`~..adjoint.pull_back.ADJOINT_SCOPE`.
    """
    return _rewritten(model, _by_tiles)


def with_large_tiles(model: ir.Model) -> ir.Model:
    """The same for a forward pass alone, of which no gradient is taken: tiles of 4 x 4 pixels.

    From half as many channels on, and in bands: all tiles of a picture at once would take more
    memory than anything else in a generator of 1024 px.

    Parameters
    ----------
    model:
        With shapes.
    """
    return _rewritten(model, _by_large_tiles)


def _rewritten(model: ir.Model, write: NodeWriter) -> ir.Model:
    b = GraphBuilder(model.graph.name or "")
    inputs = {str(value.name): value for value in model.graph.inputs}
    read = {name: b.input(name, shape_of(value)) for name, value in inputs.items()}
    values = inline(b, model, read, write)
    for value in model.graph.outputs:
        b.output(str(value.name), values[str(value.name)], shape_of(value))
    return b.build()


def _by_tiles(b: GraphBuilder, node: ir.Node, read: Sequence[ir.Value | None]) -> ir.Value | None:
    """A convolution of the forward pass; None for what is left as it is."""
    if (node.name or "").startswith(f"{ADJOINT_SCOPE}/"):
        return None
    if _tiling(node, FEWEST_FORWARD) is None:
        return None
    x, kernel, *rest = _read(read)
    tiled = _convolution(b, node, tiling(FORWARD_SIDE))
    return _with_bias(b, tiled.output(x, kernel), rest, tiled.shape[0])


def _by_large_tiles(
    b: GraphBuilder, node: ir.Node, read: Sequence[ir.Value | None]
) -> ir.Value | None:
    tiles = _tiling(node, FEWEST_WITHOUT_GRADIENT)
    if tiles is None:
        return None
    x, kernel, *rest = _read(read)
    tiled = _convolution(b, node, tiles)
    x = tiled.output_in_bands(x, kernel, LARGEST_BAND)
    return _with_bias(b, x, rest, tiled.shape[0])


def _tiling(node: ir.Node, fewest: int) -> Tiling | None:
    """Tiles for a convolution whose kernel comes at run time; None for what is left as it is."""
    if node.op_type != "Conv" or input_of(node, 1).const_value is not None:
        return None
    return chosen_tiling(node, fewest)


def _convolution(b: GraphBuilder, node: ir.Node, tiles: Tiling) -> TiledConvolution:
    height, width = shape_of(node.outputs[0])[2:]
    return TiledConvolution(b, shape_of(input_of(node, 1)), (height, width), tiles)


def _read(read: Sequence[ir.Value | None]) -> list[ir.Value]:
    found = [value for value in read if value is not None]
    assert len(found) == len(read)
    return found


def _with_bias(b: GraphBuilder, x: ir.Value, rest: Sequence[ir.Value], channels: int) -> ir.Value:
    for bias in rest:
        x = b.op("Add", x, b.reshape(bias, 1, channels, 1, 1))
    return x
