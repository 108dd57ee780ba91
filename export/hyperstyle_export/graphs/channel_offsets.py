"""`channel_offsets` graph, and the adjoints down to what a refinement changes.

`channel_offsets` is also what renders an inversion that has some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import onnx_ir as ir

from ..adjoint.pull_back import pull_back
from ..adjoint.rules import shape_of
from ..networks.hyperstyle import HyperStyle
from .builder import GraphBuilder, Precision
from .inlining import inline, prune, with_shapes
from .weights import build_weights


class TunedKernel(Protocol):
    """A convolution of any family whose kernel is given at run time."""

    @property
    def name(self) -> str:
        """As in ``weight.<name>``."""
        ...

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I, k, k)."""
        ...


def build_weights_adjoint(model: HyperStyle) -> ir.Model:
    """gradient.<layer> [O,I,k,k] -> codes_gradient [1,M,K+1]: the adjoint of `weights`.

    The codes themselves are not needed: the weights are affine in them.
    """
    return _adjoint_by(build_weights(model), "codes", model.config.tuned)


def build_channel_offsets(model: HyperStyle, precision: Precision = "fp32") -> ir.Model:
    """`channel_offsets_graph` of all tuned layers."""
    return channel_offsets_graph(model.config.tuned, precision)


def build_channel_offsets_adjoint(model: HyperStyle) -> ir.Model:
    """`channel_offsets_adjoint_graph` of all tuned layers."""
    return channel_offsets_adjoint_graph(model.config.tuned)


def channel_offsets_graph(layers: Sequence[TunedKernel], precision: Precision = "fp32") -> ir.Model:
    """Channel offsets c [P], tuned.<layer>, base.<layer> -> weight.<layer> = tuned + base * c.

    `tuned` and `base` are what `weights` makes of an inversion's codes and of zeros. The offsets
    c [O,I] of all tuned layers stand one after the other, each the same for all taps of a kernel.
    """
    count = sum(layer.weight_shape[0] * layer.weight_shape[1] for layer in layers)
    b = GraphBuilder("channel_offsets", precision)
    tuned, base = (
        {layer: b.compute_input(f"{kind}.{layer.name}", layer.weight_shape) for layer in layers}
        for kind in ("tuned", "base")
    )
    flat = b.to_compute(b.input("channel_offsets", [count]))
    start = 0
    for layer in layers:
        b.scoped(layer.name)
        out_channels, in_channels = layer.weight_shape[:2]
        stop = start + out_channels * in_channels
        offsets = b.op("Slice", flat, b.integers(start), b.integers(stop), b.integers(0))
        offsets = b.reshape(offsets, out_channels, in_channels, 1, 1)
        weight = b.op("Add", tuned[layer], b.op("Mul", base[layer], offsets))
        b.compute_output(f"weight.{layer.name}", weight, layer.weight_shape)
        start = stop
    return b.build()


def channel_offsets_adjoint_graph(layers: Sequence[TunedKernel]) -> ir.Model:
    """gradient.<layer> and base.<layer> [O,I,k,k] -> channel_offsets_gradient [P]."""
    return _adjoint_by(channel_offsets_graph(layers), "channel_offsets", layers)


def _adjoint_by(forward: ir.Model, name: str, layers: Sequence[TunedKernel]) -> ir.Model:
    """Of a graph that gives weight.<layer>: gradient.<layer> -> <name>_gradient.

    Its inputs stay inputs where the adjoint reads them.
    """
    with_shapes(forward)
    b = GraphBuilder(f"{forward.graph.name}_adjoint")
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in forward.graph.inputs}
    values = inline(b, forward, inputs)
    cotangents = {
        values[f"weight.{layer.name}"]: b.input(f"gradient.{layer.name}", layer.weight_shape)
        for layer in layers
    }
    (gradient,) = pull_back(b, cotangents, [inputs[name]])
    b.output(f"{name}_gradient", gradient, shape_of(inputs[name]))
    return prune(b.build())
