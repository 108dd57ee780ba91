"""The generator for one picture: style and demodulation in the kernels, as it was published.

`generator` puts both on the activations, so that one face's kernels serve a batch of latents. For
one picture they cost less on the kernels wherever a layer has more activations than weights. Above
all, a backward pass then needs one tensor of every layer, its output: that is the next layer's
input, and has the sign that the activation's slope depends on. With demodulation behind the
convolution it also needs the values before and after that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import onnx_ir as ir

from ..networks.hyperstyle import HyperStyle
from ..networks.layers import ACTIVATION_GAIN, DEMODULATION_EPS
from .builder import GraphBuilder
from .generator import (
    FP32_FORMS,
    LayerForms,
    StyledLayer,
    activate,
    assemble_generator,
    blur,
    up_conv,
)
from .weights import base_weight


def build_single_generator(model: HyperStyle, extras: Collection[str] = ()) -> ir.Model:
    """`generator` in float32, right for a batch of one only.

    Parameters
    ----------
    extras:
        More inputs, as of `assemble_generator`.
    """
    return assemble_generator(GraphBuilder("generator"), model, SINGLE_FORMS, extras)


def has_more_activations(layer: StyledLayer) -> bool:
    """Whether style and demodulation are fewer products on the kernel than on the activations."""
    spec = layer.spec
    side = spec.resolution
    before = (side // 2) ** 2 if spec.upsample else side**2
    activations = spec.in_channels * before + spec.out_channels * side**2
    return activations > 2 * 9 * spec.in_channels * spec.out_channels


def _styled_conv(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """Modulate and demodulate the kernel, convolve, add noise and bias, activate."""
    if not has_more_activations(layer):
        return FP32_FORMS.styled_conv(b, x, layer)
    spec = layer.spec
    layer = replace(layer, weight=_modulated(b, layer))
    bias = layer.tensors.bias(spec, (-1,))
    if spec.upsample:
        x = blur(b, up_conv(b, x, layer), spec.out_channels, bias)
    else:
        x = b.conv(x, layer.weight, bias, padding=(1, 1))
    return activate(b, x, layer)


def _modulated(b: GraphBuilder, layer: StyledLayer) -> ir.Value:
    """sqrt(2) W s / |W s| per output channel, where the sqrt(2) is the activation's: [O,I,3,3]."""
    spec = layer.spec
    weight = b.op("Mul", layer.weight, b.reshape(layer.style, 1, spec.in_channels, 1, 1))
    power = b.op("ReduceSumSquare", weight, b.integers(1, 2, 3), keepdims=1)  # [O,1,1,1]
    norm = b.op("Sqrt", b.op("Add", power, b.scalar(DEMODULATION_EPS)))
    weight = b.op("Mul", weight, b.op("Div", b.scalar(ACTIVATION_GAIN), norm))
    weight.shape, weight.type = ir.Shape(spec.weight_shape), ir.TensorType(ir.DataType.FLOAT)
    return weight


SINGLE_FORMS = LayerForms(base_weight, _styled_conv, FP32_FORMS.to_rgb)
"""Forms of layers for a batch of one."""
