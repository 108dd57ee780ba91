"""StyleGAN3's graphs: `mapping`, `generator`, `styled_generator` and `transformed_generator`.

One set of kernels serves a batch of latents: styles scale the input channels of a convolution and
demodulation its output channels. A filter of up-sampling is a transposed convolution with a stride,
of down-sampling a convolution with a stride, along one axis after the other: no zero is multiplied
and nothing is computed that is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.formats.optional_inputs import OptionalInputs, StyleLayer
from hyperstyle_rt.types import Array
from torch import Tensor

from ..networks.generator import MAPPING_LR_MUL
from ..networks.layers import ACTIVATION_GAIN, ACTIVATION_SLOPE, DEMODULATION_EPS
from ..networks.stylegan3 import FourierFeatures, StyleGan3, SynthesisLayer
from ..networks.stylegan3_config import RGB, SynthesisLayerSpec
from .builder import BATCH, GraphBuilder, Precision, State, to_array
from .generator import EDITS, STYLE_OFFSETS, face_pool

TRANSFORM = "transform"
LARGEST_ACTIVATION = 38_000_000
"""Numbers of one picture's activations that are held at the rate of the leaky ReLU, up to a few:
152 MB. At 1024 px all channels at once would be 1.4 GB, more than once."""

CHANNELS_AT_ONCE = 8  # and multiples of it, which vector units take whole

MOTIONS = "motions"  # axis of the transforms: one for all latents, or one for each

_INPUT, _MAPPING = "synthesis.input", "mapping"


def build_stylegan3_mapping(model: StyleGan3) -> ir.Model:
    """Z [N,W] -> w [N,W]."""
    state, width = model.state_dict(), model.config.style_width
    b = GraphBuilder("mapping")
    z = b.input("z", [BATCH, width])
    b.scoped(_MAPPING)
    power = b.op("ReduceMean", b.op("Mul", z, z), b.integers(1), keepdims=1)
    x = b.op("Div", z, b.op("Sqrt", b.op("Add", power, b.scalar(1e-8))))
    for number in range(model.config.mapping_depth):
        # A leaky ReLU is positively homogeneous: its gain goes into the linear layer.
        name = f"{_MAPPING}.fc{number}"
        x = b.scoped(name).equal_linear(x, state, name, MAPPING_LR_MUL, ACTIVATION_GAIN)
        x = b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE)
    b.output("w", x, [BATCH, width])
    return b.build()


def stylegan3_optional_inputs(model: StyleGan3) -> OptionalInputs:
    """What the manifest says of the inputs that `styled_generator` has and `generator` has not."""
    layers = model.config.layers
    return OptionalInputs(tuple(StyleLayer(spec.name, spec.in_channels) for spec in layers), ())


def build_stylegan3_generator(
    model: StyleGan3,
    input_size: tuple[int, int],
    extras: Collection[str] = (),
    name: str = "generator",
    precision: Precision = "fp32",
) -> ir.Model:
    """Latents [N,L,W] -> rendering [N,3,S,S], reconstruction [N,3,h,w].

    Parameters
    ----------
    input_size:
        (height, width) of what encoders read, to which the reconstruction is pooled.
    extras:
        More inputs: `STYLE_OFFSETS`, style_offsets [1 or N,S], added to the styles of all layers
        after one another; `TRANSFORM`, transform [1 or N,3,3], from places of the rendering to
        places of the one that is not moved, in units of the side from the centre.
    name:
        Of the graph.
    precision:
        In fp16, whatever is one vector a picture and the Fourier features stay float32.
    """
    config, state = model.config, model.state_dict()
    b = GraphBuilder(name, precision)
    latents = b.input("latents", [BATCH, config.num_latents, config.style_width])
    channels = sum(spec.in_channels for spec in config.layers)
    offsets = b.input(STYLE_OFFSETS, [EDITS, channels]) if STYLE_OFFSETS in extras else None
    transform = b.input(TRANSFORM, [MOTIONS, 3, 3]) if TRANSFORM in extras else None
    w = b.scoped(_INPUT).op("Gather", latents, b.index(0), axis=1)
    x = b.to_compute(_fourier_features(b, model.synthesis.input, state, w, transform))
    start = 0
    for layer in model.synthesis.layers():
        spec = layer.spec
        b.scoped(spec.name)
        w = b.op("Gather", latents, b.index(spec.row), axis=1)
        style = _style(b, state, spec, w)
        if offsets is not None:
            bounds = b.integers(start), b.integers(start + spec.in_channels), b.integers(1)
            style = b.op("Add", style, b.op("Slice", offsets, *bounds))
            start += spec.in_channels
        x = _layer(b, layer, x, style)
    b.scoped("rendering")
    rendering = b.op("Mul", b.to_float(x), b.scalar(config.output_scale))
    side = config.resolution
    b.output("rendering", rendering, [BATCH, RGB, side, side])
    pooled = face_pool(b, rendering, (side, side), input_size)
    b.output("reconstruction", pooled, [BATCH, RGB, *input_size])
    return b.build()


def _fourier_features(
    b: GraphBuilder,
    features: FourierFeatures,
    state: State,
    w: ir.Value,
    transform: ir.Value | None,
) -> ir.Value:
    """W [N,W] -> [N,C,h,h] in float32."""
    rate, channels = features.rate, len(features.weight)
    freqs, moved = _moved_freqs(b, features, state, w)
    phases = b.op("MatMul", freqs, moved)  # [N,C,1], how far the translation moves them
    if transform is not None:
        both = b.op("MatMul", b.op("Concat", freqs, phases, axis=2), transform)  # [N,C,3]
        freqs = b.op("Slice", both, b.integers(0), b.integers(2), b.integers(2))
        phases = b.op("Slice", both, b.integers(2), b.integers(3), b.integers(2))
    own = b.constant(f"{_INPUT}.phases", to_array(features.phases)[None, :, None])
    phases = b.op("Mul", b.op("Add", phases, own), b.scalar(2 * math.pi))
    places = to_array((features.places().double() * (2 * math.pi)).float())[None]  # [1,2,h*h]
    angles = b.op("MatMul", freqs, b.constant(f"{_INPUT}.places", places))
    waves = b.op("Sin", b.op("Add", angles, phases))
    length = b.op("Sqrt", b.op("ReduceSumSquare", freqs, b.integers(2), keepdims=1))
    # 1 - (length - cutoff) / (highest - cutoff)
    slope = 1 / (rate.sampling / 2 - rate.cutoff)
    falling = b.op("Mul", length, b.scalar(-slope))
    falling = b.op("Add", falling, b.scalar(1 + rate.cutoff * slope))
    amplitudes = b.op("Clip", falling, b.scalar(0.0), b.scalar(1.0))
    x = b.reshape(b.op("Mul", waves, amplitudes), 0, channels, rate.side, rate.side)
    mixing = (features.weight.double() / math.sqrt(channels)).float()[:, :, None, None]
    return b.conv(x, b.constant(f"{_INPUT}.weight", to_array(mixing)))


def _moved_freqs(
    b: GraphBuilder, features: FourierFeatures, state: State, w: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Frequencies turned by the learnt motion [N,C,2], and its translation reversed [N,2,1]."""
    motion = b.equal_linear(w, state, f"{_INPUT}.affine")  # [N,4]
    turn = b.op("Slice", motion, b.integers(0), b.integers(2), b.integers(1))
    length = b.op("Sqrt", b.op("ReduceSumSquare", turn, b.integers(1), keepdims=1))
    motion = b.op("Div", motion, length)
    turn = b.op("Slice", motion, b.integers(0), b.integers(2), b.integers(1))  # cosine, sine
    # (x, y) of a frequency is turned to (x cosine + y sine, y cosine - x sine).
    x, y = to_array(features.freqs).T
    turned = np.stack([np.stack([x, y]), np.stack([y, -x])], axis=2)  # [2,C,2]
    freqs = b.op("MatMul", turn, b.constant(f"{_INPUT}.freqs", turned.reshape(2, -1)))
    move = b.op("Slice", motion, b.integers(2), b.integers(4), b.integers(1))
    move = b.op("Unsqueeze", b.op("Neg", move), b.integers(2))
    return b.reshape(freqs, 0, len(x), 2), move


def _style(b: GraphBuilder, state: State, spec: SynthesisLayerSpec, w: ir.Value) -> ir.Value:
    """W [N,W] -> style [N,I]; offsets of an edit are added to it."""
    gain = 1 / math.sqrt(spec.in_channels) if spec.is_to_rgb else 1.0
    return b.equal_linear(w, state, f"synthesis.{spec.name}.affine", gain=gain)


def _layer(b: GraphBuilder, layer: SynthesisLayer, x: ir.Value, style: ir.Value) -> ir.Value:
    """X [N,I,h,h], style [N,I] -> [N,O,h',h']."""
    spec, bias = layer.spec, to_array(layer.bias)[:, None, None]
    weight, factor = layer.weight.double(), None
    if not spec.is_to_rgb:
        style, weight, factor = _demodulated(b, layer, style)
    gain = b.op("Mul", style, b.scalar(float(layer.magnitude_ema.double().rsqrt())))
    x = b.op("Mul", x, b.to_compute(b.reshape(gain, 0, spec.in_channels, 1, 1)))
    kernel = b.compute_constant(f"synthesis.{spec.name}.weight", to_array(weight.float()))
    margin, crop = _unused(spec)
    pad = spec.kernel_size - 1 - margin
    if pad < 0:
        inside = b.integers(-pad, -pad), b.integers(*[spec.before.side + pad] * 2)
        x = b.op("Slice", x, *inside, b.integers(2, 3))
    x = b.conv(x, kernel, padding=(max(pad, 0),) * 2)
    if factor is not None:
        x = b.op("Mul", x, b.to_compute(b.reshape(factor, 0, spec.out_channels, 1, 1)))
    x = b.op("Add", x, b.compute_constant(f"synthesis.{spec.name}.bias", bias))
    if spec.is_to_rgb:
        return _clamped(b, x, layer)
    channels = spec.out_channels
    step = _channels_at_once(spec)
    if step >= channels:
        return _activated(b, x, layer, crop, channels)
    parts = []
    for start in range(0, channels, step):
        stop = min(start + step, channels)
        part = b.op("Slice", x, b.integers(start), b.integers(stop), b.integers(1))
        parts.append(_activated(b, part, layer, crop, stop - start))
    return b.op("Concat", *parts, axis=1)


def _channels_at_once(spec: SynthesisLayerSpec) -> int:
    """So many channels go through filters and activation together; they know no others."""
    side = (spec.after.side - 1) * spec.down + spec.down_taps
    fitting = LARGEST_ACTIVATION // side**2
    return max(fitting // CHANNELS_AT_ONCE, 1) * CHANNELS_AT_ONCE


def _activated(
    b: GraphBuilder, x: ir.Value, layer: SynthesisLayer, crop: int, channels: int
) -> ir.Value:
    """Up-sample, leaky ReLU, clamp, down-sample: [N,C,h,h] -> [N,C,h',h']."""
    x = _up_sampled(b, x, layer, crop, channels)
    x = _clamped(b, b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE), layer)
    return _down_sampled(b, x, layer, channels)


def _demodulated(
    b: GraphBuilder, layer: SynthesisLayer, style: ir.Value
) -> tuple[ir.Value, Tensor, ir.Value]:
    """Style normalised [N,I], kernel normalised, and what its outputs are divided by: as a factor.

    Kernels are divided by the root of their number of products, too, which demodulation takes out
    again but for its epsilon: so what a convolution gives is of the size of its input, as fp16
    wants.
    """
    spec, weight = layer.spec, layer.weight.double()
    power = b.op("ReduceMean", b.op("Mul", style, style), b.integers(1), keepdims=1)
    style = b.op("Div", style, b.op("Sqrt", power))
    products = spec.in_channels * spec.kernel_size**2
    mean = weight.square().mean(dim=(1, 2, 3), keepdim=True)
    weight = weight / (mean * products).sqrt()
    squares = to_array(weight.square().sum(dim=(2, 3)).float())  # [O,I]
    name = f"synthesis.{spec.name}.power"
    power = b.op("Gemm", b.op("Mul", style, style), b.constant(name, squares), transB=1)
    power = b.op("Add", power, b.scalar(DEMODULATION_EPS / products))
    return style, weight, b.op("Div", b.scalar(1.0), b.op("Sqrt", power))


def _unused(spec: SynthesisLayerSpec) -> tuple[int, int]:
    """Rows at either side of a convolution's output that no pixel needs, and what is cropped then.

    A transposed convolution with the up-sampling filter begins `taps` - 1 pixels earlier than one
    that is padded with zeros, and as much of its output is cropped.
    """
    crop = spec.up_taps - 1 - spec.padding[0]
    margin = max(0, -(-(crop - spec.up_taps + 1) // spec.up))
    return margin, crop - margin * spec.up


def _up_sampled(
    b: GraphBuilder, x: ir.Value, layer: SynthesisLayer, crop: int, channels: int
) -> ir.Value:
    """Along rows, then columns; with the gain of the activation, which commutes with it."""
    spec = layer.spec
    assert layer.up_filter is not None
    taps = layer.up_filter.double() * spec.up
    for axis, gain in ((3, ACTIVATION_GAIN), (2, 1.0)):
        kernel = _along(to_array((taps * gain).float()), axis, channels)
        pads = [0, crop] if axis == 3 else [crop, 0]
        x = b.op(
            "ConvTranspose",
            x,
            b.compute_constant(f"synthesis.{spec.name}.up_filter.{axis}_{channels}", kernel),
            kernel_shape=list(kernel.shape[2:]),
            strides=[1, spec.up] if axis == 3 else [spec.up, 1],
            pads=pads * 2,
            group=channels,
        )
    return x


def _down_sampled(b: GraphBuilder, x: ir.Value, layer: SynthesisLayer, channels: int) -> ir.Value:
    """Along rows, then columns; along both at once with a radial filter."""
    spec = layer.spec
    assert layer.down_filter is not None
    if spec.down == 1:
        return x
    taps = np.flip(to_array(layer.down_filter))  # a convolution of signals turns its filter
    name = f"synthesis.{spec.name}.down_filter_{channels}"
    if spec.is_radial:
        kernel = b.compute_constant(name, np.tile(taps, (channels, 1, 1, 1)))
        return b.conv(x, kernel, stride=spec.down, group=channels)
    for axis in (3, 2):
        along = _along(taps, axis, channels)
        stride = (1, spec.down) if axis == 3 else (spec.down, 1)
        kernel = b.compute_constant(f"{name}.{axis}", along)
        x = b.conv(x, kernel, stride=stride, group=channels)
    return x


def _along(taps: Array, axis: int, channels: int) -> Array:
    """A filter [k] along an axis of pictures, for every channel: [C,1,1,k] or [C,1,k,1]."""
    shape = (1, 1, 1, -1) if axis == 3 else (1, 1, -1, 1)
    return np.ascontiguousarray(np.tile(taps.reshape(shape), (channels, 1, 1, 1)))


def _clamped(b: GraphBuilder, x: ir.Value, layer: SynthesisLayer) -> ir.Value:
    if layer.clamp is None:
        return x
    name = f"clamp_{layer.clamp:g}"
    low = b.compute_constant(f"{name}.low", np.array(-layer.clamp, np.float32))
    return b.op("Clip", x, low, b.compute_constant(name, np.array(layer.clamp, np.float32)))
