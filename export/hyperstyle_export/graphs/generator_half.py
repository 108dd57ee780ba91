"""The generator in fp16: large tensors in half precision, demodulation and RGB sum in float32.

An fp16 number ends at 65504, and neither styles nor weights have a bound. As in StyleGAN3, both
are normalised before they meet the activations: styles by their largest magnitude, per sample and
at run time; weights per output channel and by a constant, in the `weights` graph, so that no pass
over them is needed here. Demodulation cancels both factors but for its epsilon, which is divided
by them; toRGB, which is not demodulated, is multiplied by them in float32.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ..networks.hyperstyle import HyperStyle
from ..networks.layers import DEMODULATION_EPS
from .builder import GraphBuilder
from .generator import (
    NOISE,
    STYLE_OFFSETS,
    LayerForms,
    StyledLayer,
    activate,
    assemble_generator,
    blur,
    demodulation,
    output_power,
    rgb_product,
    up_conv,
    with_rgb_bias,
)
from .weights import channel_scale, normalised_weight

SMALLEST_STYLE = 1e-4  # divisor of styles that are all (nearly) zero


def build_half_generator(model: HyperStyle) -> ir.Model:
    """`generator` in fp16: the same inputs and outputs, weight.<layer> normalised fp16."""
    return assemble_generator(GraphBuilder("generator", "fp16"), model, _FORMS)


def build_half_styled_generator(model: HyperStyle) -> ir.Model:
    """`styled_generator` in fp16; style offsets and noise stay float32."""
    b = GraphBuilder("styled_generator", "fp16")
    return assemble_generator(b, model, _FORMS, (STYLE_OFFSETS, NOISE))


def _normalised(b: GraphBuilder, layer: StyledLayer) -> tuple[StyledLayer, ir.Value]:
    """A layer with its style within [-1,1], and what that was divided by: [N,1] in float32."""
    largest = b.op("ReduceMax", b.op("Abs", layer.style), b.integers(1), keepdims=1)
    largest = b.op("Max", largest, b.scalar(SMALLEST_STYLE))
    return replace(layer, style=b.op("Div", layer.style, largest)), largest


def _styled_conv(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """Modulate and convolve in fp16, demodulate and activate in float32: [N,I,h,w] -> [N,O,H,W].

    What follows the convolution is one chain of element-wise operations, which TensorRT fuses: its
    float32 values are never written to memory. The blur comes before, as it works on every channel
    alone and demodulation is one factor a channel.
    """
    spec = layer.spec
    layer, largest = _normalised(b, layer)
    factor = demodulation(b, layer, output_power(b, layer), _eps(b, layer, largest))  # [N,O,1,1]
    x = b.op("Mul", x, b.to_compute(b.reshape(layer.style, 0, spec.in_channels, 1, 1)))
    if spec.upsample:
        x = blur(b, up_conv(b, x, layer), spec.out_channels, None)
    else:
        x = b.conv(x, layer.weight, padding=(1, 1))
    x = b.op("Mul", b.to_float(x), factor)
    x = b.op("Add", x, layer.tensors.bias(spec, (-1, 1, 1)))
    return b.to_compute(activate(b, x, layer))


def _eps(b: GraphBuilder, layer: StyledLayer, largest: ir.Value) -> ir.Value:
    """The epsilon beside the power of normalised styles and weights: [N,O] in float32.

    eps / (largest scale_o)^2, as both factors have been divided out of the power.
    """
    scale = channel_scale(layer.state, layer.spec)
    eps = (DEMODULATION_EPS / np.square(scale, dtype=np.float64))[None]  # [1,O]
    return b.op(
        "Div",
        b.constant(f"{layer.spec.name}.eps", eps.astype(np.float32)),
        b.op("Mul", largest, largest),  # [N,1]
    )


def _to_rgb(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """The product of kernel and activations in fp16, its scale and bias in float32: [N,3,h,w]."""
    layer, largest = _normalised(b, layer)
    rgb = rgb_product(b, x, layer)
    scale = channel_scale(layer.state, layer.spec)[:, None]  # [3,1]
    factor = b.op(
        "Mul",
        b.constant(f"{layer.spec.name}.scale", scale),
        b.op("Unsqueeze", largest, b.integers(2)),  # [N,1,1]
    )
    return with_rgb_bias(b, b.op("Mul", b.to_float(rgb), factor), layer)


_FORMS = LayerForms(normalised_weight, _styled_conv, _to_rgb)
