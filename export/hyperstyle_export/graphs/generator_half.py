"""The generator in fp16: large tensors in half precision, demodulation and RGB sum in float32.

An fp16 number ends at 65504, and neither styles nor weights have a bound. As in StyleGAN3, both
are normalised before they meet the activations: styles by their largest magnitude, per sample and
at run time; weights per output channel and by a constant, in the `weights` graph, so that no pass
over them is needed here. Demodulation cancels both factors but for its epsilon, which is divided
by them; toRGB, which is not demodulated, is multiplied by them in float32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..networks.config import LayerSpec
from ..networks.hyperstyle import HyperStyle
from ..networks.layers import ACTIVATION_GAIN, DEMODULATION_EPS
from .builder import GraphBuilder, State
from .generator import LayerForms, activate, assemble_generator, blur, scaled_bias, up_conv
from .weights import channel_scale, normalised_weight

SMALLEST_STYLE = 1e-4  # divisor of styles that are all (nearly) zero


def build_half_generator(model: HyperStyle) -> ir.Model:
    """The generator's fp16 twin: the same inputs and outputs, weight.<layer> normalised fp16."""
    forms = LayerForms(normalised_weight, _styled_conv, _to_rgb)
    return assemble_generator(GraphBuilder("generator", "fp16"), model, forms)


def _normalised_style(b: GraphBuilder, style: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Styles within [-1,1] and what they were divided by: [N,I], [N,1], both float32."""
    largest = b.op("ReduceMax", b.op("Abs", style), b.integers(1), keepdims=1)
    largest = b.op("Max", largest, b.scalar(SMALLEST_STYLE))
    return b.op("Div", style, largest), largest


def _styled_conv(
    b: GraphBuilder,
    x: ir.Value,
    style: ir.Value,
    weight: ir.Value,
    state: State,
    layer: LayerSpec,
) -> ir.Value:
    """Modulate and convolve in fp16, demodulate and activate in float32: [N,I,h,w] -> [N,O,H,W].

    What follows the convolution is one chain of element-wise operations, which TensorRT fuses: its
    float32 values are never written to memory. The blur comes before, as it works on every channel
    alone and demodulation is one factor a channel.
    """
    style, largest = _normalised_style(b, style)
    demodulation = _demodulation(b, style, largest, weight, state, layer)  # [N,O,1,1]
    x = b.op("Mul", x, b.to_compute(b.reshape(style, 0, layer.in_channels, 1, 1)))
    if layer.upsample:
        x = blur(b, up_conv(b, x, weight, layer), layer.out_channels, None)
    else:
        x = b.conv(x, weight, padding=(1, 1))
    x = b.op("Mul", b.to_float(x), demodulation)
    bias = scaled_bias(state, layer).reshape(-1, 1, 1)
    x = b.op("Add", x, b.constant(f"{layer.name}.bias", bias))
    return b.to_compute(activate(b, x, state, layer))


def _demodulation(
    b: GraphBuilder,
    style: ir.Value,
    largest: ir.Value,
    weight: ir.Value,
    state: State,
    layer: LayerSpec,
) -> ir.Value:
    """sqrt(2) / sqrt(sum_i s_i^2 sum_k W_oik^2 + eps / (largest scale_o)^2): [N,O,1,1] float32."""
    weight = b.to_float(weight)
    energy = b.op("ReduceSumSquare", weight, b.integers(2, 3), keepdims=0)  # [O,I]
    power = b.op("Gemm", b.op("Mul", style, style), energy, transB=1)  # [N,O]
    eps = (DEMODULATION_EPS / np.square(channel_scale(state, layer), dtype=np.float64))[None]
    smallest = b.op(
        "Div",
        b.constant(f"{layer.name}.eps", eps.astype(np.float32)),  # [1,O]
        b.op("Mul", largest, largest),  # [N,1]
    )
    norm = b.op("Div", b.scalar(ACTIVATION_GAIN), b.op("Sqrt", b.op("Add", power, smallest)))
    return b.reshape(norm, 0, layer.out_channels, 1, 1)


def _to_rgb(
    b: GraphBuilder,
    x: ir.Value,
    style: ir.Value,
    weight: ir.Value,
    state: State,
    layer: LayerSpec,
) -> ir.Value:
    """The product of kernel and activations in fp16, its scale and bias in float32: [N,3,h,w]."""
    side, width = layer.resolution, layer.in_channels
    style, largest = _normalised_style(b, style)
    kernel = b.op(
        "Mul", b.to_float(b.reshape(weight, 1, 3, width)), b.op("Unsqueeze", style, b.integers(1))
    )
    rgb = b.op("MatMul", b.to_compute(kernel), b.reshape(x, 0, width, side * side))
    scale = b.constant(f"{layer.name}.scale", channel_scale(state, layer)[:, None])  # [3,1]
    scale = b.op("Mul", scale, b.op("Unsqueeze", largest, b.integers(2)))  # [N,3,1]
    rgb = b.reshape(b.op("Mul", b.to_float(rgb), scale), 0, 3, side, side)
    return b.op("Add", rgb, b.parameter(state, f"decoder.{layer.name}.bias"))
