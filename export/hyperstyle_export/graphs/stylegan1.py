"""StyleGAN's graphs, in IDInvert's form: `generator`, `styled_generator`, `noise`, `mapping`.

AdaIN acts on feature maps, so kernels are the same for all latents: they are constants, and one
graph serves any batch. A doubling layer is one transposed convolution, whether its kernel is stored
for that or for repeated pixels, and a blur.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
import torch
from hyperstyle_rt.formats.optional_inputs import NoiseLayer, OptionalInputs, StyleLayer
from hyperstyle_rt.types import Array
from torch import Tensor

from ..networks.layers import ACTIVATION_SLOPE
from ..networks.stylegan1 import (
    MAPPING_LR_MUL,
    NORM_EPS,
    AdainLayer,
    StyleGan1,
    blur_kernel,
    spread_kernel,
)
from .builder import BATCH, GraphBuilder, Precision, State, to_array
from .generator import EDITS, NOISE, STYLE_OFFSETS, face_pool
from .storage import STORED_NOISE


def build_stylegan1_mapping(model: StyleGan1) -> ir.Model:
    """Z [N,W] -> w [N,L,W]: the last linear layer gives every row its own."""
    config, state = model.config, model.mapping.state_dict()
    width = config.style_width
    b = GraphBuilder("mapping")
    z = b.input("z", [BATCH, width])
    b.scoped("mapping")
    power = b.op("ReduceMean", b.op("Mul", z, z), b.integers(1), keepdims=1)
    x = b.op("Div", z, b.op("Sqrt", b.op("Add", power, b.scalar(NORM_EPS))))
    for number in range(config.mapping_depth):
        name = f"dense{number}"
        b.scoped(f"mapping.{name}")
        x = b.op(
            "LeakyRelu",
            dense(b, x, state, name, math.sqrt(2), MAPPING_LR_MUL),
            alpha=ACTIVATION_SLOPE,
        )
    shape = [config.num_latents, width]
    b.output("w", b.reshape(x, 0, *shape), [BATCH, *shape])
    return b.build()


def build_stylegan1_noise(model: StyleGan1) -> ir.Model:
    """(nothing) -> noise.<layer> [1,1,h,h], the stored noise of all layers."""
    state = model.synthesis.state_dict()
    b = GraphBuilder("noise")
    for layer in noisy_layers(model):
        b.scoped(f"noise.{layer.name}")
        value = b.op("Identity", _stored_noise(b, state, layer))
        b.output(f"noise.{layer.name}", value, [1, 1, layer.side, layer.side])
    return b.build()


def stylegan1_optional_inputs(model: StyleGan1) -> OptionalInputs:
    """What the manifest says of the inputs that `styled_generator` has and `generator` has not."""
    return OptionalInputs(
        tuple(StyleLayer(spec.name, 2 * spec.out_channels) for spec in model.config.layers),
        tuple(NoiseLayer(layer.name, layer.side) for layer in noisy_layers(model)),
    )


def noisy_layers(model: StyleGan1) -> list[AdainLayer]:
    """The layers that noise has an effect on."""
    state = model.synthesis.state_dict()
    return [
        spec
        for spec in model.config.layers
        if state[f"{spec.name}.epilogue.apply_noise.weight"].any()
    ]


def build_stylegan1_generator(
    model: StyleGan1,
    input_size: tuple[int, int],
    extras: Collection[str] = (),
    name: str = "generator",
    precision: Precision = "fp32",
) -> ir.Model:
    """Latents [N,L,W] -> rendering [N,3,S,S], reconstruction [N,3,h,w].

    Parameters
    ----------
    input_size:
        (height, width) of what the encoder reads, to which the reconstruction is pooled.
    extras:
        More inputs: `STYLE_OFFSETS`, style_offsets [1 or N,S], added to the styles of all layers
        after one another, a layer's scales before its shifts; `NOISE`, noise.<layer> [1,1,h,h] in
        place of what `noise` gives.
    name:
        Of the graph.
    precision:
        Of the convolutions. In fp16 all else stays float32: a mean and a variance over 65,536
        pixels, and the epsilon beside it, are beyond halves.

    Raises
    ------
    ValueError
        If a kernel is too large for the precision.
    """
    config = model.config
    b = GraphBuilder(name, precision)
    latents = b.input("latents", [BATCH, config.num_latents, config.style_width])
    inputs: dict[str, ir.Value] = {}
    if STYLE_OFFSETS in extras:
        channels = sum(2 * spec.out_channels for spec in config.layers)
        inputs[STYLE_OFFSETS] = b.input(STYLE_OFFSETS, [EDITS, channels])
    if NOISE in extras:
        for layer in noisy_layers(model):
            name = f"noise.{layer.name}"
            inputs[name] = b.input(name, [1, 1, layer.side, layer.side])
    rendering = _Synthesis(b, model, latents, inputs).picture()
    side = config.resolution
    b.output("rendering", rendering, [BATCH, 3, side, side])
    pooled = face_pool(b, rendering, (side, side), input_size)
    b.output("reconstruction", pooled, [BATCH, 3, *input_size])
    return b.build()


class _Synthesis:
    """Writes the layers into a graph; what is between them is float32.

    Parameters
    ----------
    b:
        The graph.
    model:
        Whose stored tensors are constants.
    latents:
        [N,L,W].
    inputs:
        ``style_offsets`` and ``noise.<layer>``, where the graph has them as inputs.
    """

    def __init__(
        self, b: GraphBuilder, model: StyleGan1, latents: ir.Value, inputs: Mapping[str, ir.Value]
    ) -> None:
        self.b, self._config = b, model.config
        self._latents, self._inputs = latents, inputs
        self._state: State = model.synthesis.state_dict()
        self._noisy = {layer.name for layer in noisy_layers(model)}

    def picture(self) -> ir.Value:
        """[N,3,S,S] in [-1,1]."""
        b, x = self.b, None
        for spec in self._config.layers:
            b.scoped(spec.name)
            x = self._epilogue(self._features(x, spec), spec)
        assert x is not None
        name = f"output{len(self._config.channels) - 1}"
        kernel = self._state[f"{name}.conv.weight"]
        weight = _folded(kernel, 1 / math.sqrt(kernel.shape[1]))
        weight_value = b.scoped(name).compute_constant(f"{name}.conv.weight", weight)
        bias = b.constant(f"{name}.bias", to_array(self._state[f"{name}.bias"]).reshape(-1, 1, 1))
        x = b.to_float(b.conv(b.to_compute(x), weight_value))
        return b.op("Tanh", b.op("Add", x, bias))

    def _features(self, x: ir.Value | None, spec: AdainLayer) -> ir.Value:
        """The constant, or the convolution of the layer before: float32 [N,O,h,h]."""
        b = self.b
        if x is None:
            return b.parameter(self._state, f"{spec.name}.const")
        x = b.to_compute(x)
        if not spec.upsample:
            kernel = _folded(self._state[f"{spec.name}.conv.weight"], spec.gain)
            weight = b.compute_constant(f"{spec.name}.conv.weight", kernel)
            return b.to_float(b.conv(x, weight, padding=(1, 1)))
        weight = b.compute_constant(f"{spec.name}.weight", self._doubling_kernel(spec))
        x = b.conv_transpose(x, weight, 4, stride=2, padding=1)
        blur = np.tile(to_array(blur_kernel())[None, None], (spec.out_channels, 1, 1, 1))
        taps = b.compute_constant(f"blur_{spec.out_channels}", blur)
        return b.to_float(b.conv(x, taps, padding=(1, 1), group=spec.out_channels))

    def _doubling_kernel(self, spec: AdainLayer) -> Array:
        """Kernel [I,O,4,4] of a doubling layer's transposed convolution.

        A convolution of repeated pixels is one with the kernel turned by 180 degrees.
        """
        if spec.is_fused:
            kernel = self._state[f"{spec.name}.weight"].permute(2, 3, 0, 1)
        else:
            kernel = self._state[f"{spec.name}.conv.weight"].permute(1, 0, 2, 3).flip(2, 3)
        return to_array(spread_kernel(kernel.double() * spec.gain).float().contiguous())

    def _epilogue(self, x: ir.Value, spec: AdainLayer) -> ir.Value:
        """Noise, bias, leaky ReLU, instance norm, style: float32 [N,O,h,h]."""
        b, prefix, channels = self.b, f"{spec.name}.epilogue", spec.out_channels
        bias = to_array(self._state[f"{prefix}.bias"]).reshape(-1, 1, 1)
        added = b.constant(f"{prefix}.bias", bias)
        if spec.name in self._noisy:
            strength = to_array(self._state[f"{prefix}.apply_noise.weight"]).reshape(-1, 1, 1)
            noise = self._inputs.get(f"noise.{spec.name}")
            if noise is None:
                noise = _stored_noise(b, self._state, spec)
            scaled = b.op("Mul", noise, b.constant(f"{prefix}.apply_noise.weight", strength))
            added = b.op("Add", scaled, added)  # of constants, where the noise is stored
        x = b.op("LeakyRelu", b.op("Add", x, added), alpha=ACTIVATION_SLOPE)
        ones, zeros = (
            b.constant(f"{kind}_{channels}", np.full(channels, value, np.float32))
            for kind, value in (("ones", 1), ("zeros", 0))
        )
        x = b.op("InstanceNormalization", x, ones, zeros, epsilon=NORM_EPS)
        scale, shift = self._style(spec)
        return b.op("Add", b.op("Mul", x, scale), shift)

    def _style(self, spec: AdainLayer) -> tuple[ir.Value, ir.Value]:
        """Scale, 1 added, and shift: [N,O,1,1] each."""
        b, channels = self.b, spec.out_channels
        row = b.op("Gather", self._latents, b.index(spec.index), axis=1)
        name = f"{spec.name}.epilogue.style_mod.dense"
        ones = torch.cat([torch.ones(channels), torch.zeros(channels)])
        style = dense(b, row, self._state, name, more=ones)  # [N,2C]
        if STYLE_OFFSETS in self._inputs:
            start = sum(2 * layer.out_channels for layer in self._config.layers[: spec.index])
            bounds = b.integers(start), b.integers(start + 2 * channels), b.integers(1)
            style = b.op("Add", style, b.op("Slice", self._inputs[STYLE_OFFSETS], *bounds))
        parts = []
        for at in (0, channels):
            bounds = b.integers(at), b.integers(at + channels), b.integers(1)
            parts.append(b.reshape(b.op("Slice", style, *bounds), 0, channels, 1, 1))
        return parts[0], parts[1]


def dense(
    b: GraphBuilder,
    x: ir.Value,
    state: State,
    name: str,
    gain: float = 1.0,
    lr_mul: float = 1.0,
    more: Tensor | None = None,
) -> ir.Value:
    """A `networks.stylegan1.Dense`, folded in double precision: [N,I] -> [N,O] in float32.

    Parameters
    ----------
    more:
        Added to its bias, [O].
    """
    stored = state[f"{name}.fc.weight"]
    weight = _folded(stored, lr_mul * gain / math.sqrt(stored.shape[1]))
    bias = state[f"{name}.wscale.bias"].double() * lr_mul
    if more is not None:
        bias = bias + more
    kernel = b.constant(f"{name}.fc.weight", weight)
    return b.op("Gemm", x, kernel, b.constant(f"{name}.wscale.bias", to_array(bias)), transB=1)


def _folded(weight: Tensor, gain: float) -> Array:
    return to_array((weight.double() * gain).float())


def _stored_noise(b: GraphBuilder, state: State, layer: AdainLayer) -> ir.Value:
    noise = to_array(state[f"{layer.name}.epilogue.apply_noise.noise"])
    return b.constant(f"{STORED_NOISE}{layer.name}", noise)
