"""Where a generator's graph takes its tensors from: stored ones, or inputs that descent changes.

A graph computes with *folded* tensors: the equalised learning rate is in the weights, the gain of
the activation in bias and noise strength. A `SynthesisParameter` says how one of them follows from
a parameter of the official state dict, so that a descent on all weights (pivotal tuning) takes its
steps in the scale that its authors publish.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir
from hyperstyle_rt.types import Array

from ..networks.config import LayerSpec
from ..networks.hyperstyle import HyperStyle
from ..networks.layers import ACTIVATION_GAIN
from .builder import GraphBuilder, State, to_array

PARAMETER = "parameter."
"""Prefix of graph inputs that are parameters."""


class SynthesisTensors(Protocol):
    """The folded tensors of a generator."""

    def constant(self) -> ir.Value:
        """What the first layer reads: [1,C,4,4] in the builder's compute type."""
        ...

    def weight(self, layer: LayerSpec) -> ir.Value:
        """[O,I,k,k] in the builder's compute type, to be multiplied by `weight_factor`."""
        ...

    def weight_factor(self, layer: LayerSpec) -> float:
        """What styles are multiplied by, so that not all weights need be."""
        ...

    def affine(self, layer: LayerSpec) -> tuple[ir.Value, ir.Value]:
        """From latents to styles, in float32: weight [I,W], bias [I]."""
        ...

    def noise_strength(self, layer: LayerSpec) -> ir.Value:
        """[1] in float32."""
        ...

    def bias(self, layer: LayerSpec, shape: tuple[int, ...]) -> ir.Value:
        """[O] in another shape, in float32."""
        ...

    def rgb_bias(self, layer: LayerSpec) -> ir.Value:
        """[1,3,1,1] in float32, of toRGB."""
        ...


class StoredTensors:
    """Constants of the graph.

    Parameters
    ----------
    base_weight:
        Gives the weight [O,I,k,k] a layer is stored with.
    """

    def __init__(
        self, b: GraphBuilder, state: State, base_weight: Callable[[State, LayerSpec], Array]
    ) -> None:
        self._b, self._state, self._base_weight = b, state, base_weight

    def constant(self) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        return self._b.compute_parameter(self._state, "decoder.input.input")

    def weight(self, layer: LayerSpec) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        constant = self._base_weight(self._state, layer)
        return self._b.compute_constant(f"{layer.name}.weight", constant)

    def weight_factor(self, layer: LayerSpec) -> float:
        """See :class:`SynthesisTensors`."""
        return 1.0

    def affine(self, layer: LayerSpec) -> tuple[ir.Value, ir.Value]:
        """See :class:`SynthesisTensors`."""
        return self._b.equalised_linear(self._state, f"decoder.{layer.name}.conv.modulation")

    def noise_strength(self, layer: LayerSpec) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        strength = self._state[f"decoder.{layer.name}.noise.weight"] * ACTIVATION_GAIN
        return self._b.constant(f"{layer.name}.noise_strength", to_array(strength))

    def bias(self, layer: LayerSpec, shape: tuple[int, ...]) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        bias = to_array(self._state[f"decoder.{layer.name}.activate.bias"] * ACTIVATION_GAIN)
        return self._b.constant(f"{layer.name}.bias", bias.reshape(shape))

    def rgb_bias(self, layer: LayerSpec) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        return self._b.parameter(self._state, f"decoder.{layer.name}.bias")


class InputTensors:
    """Graph inputs ``parameter.<name>``, folded as the graph runs; in float32."""

    def __init__(self, b: GraphBuilder, model: HyperStyle) -> None:
        self._b = b
        self._factors = {p.name: p.factor for p in synthesis_parameters(model)}
        self._inputs = {
            p.name: b.input(f"{PARAMETER}{p.name}", p.shape) for p in synthesis_parameters(model)
        }

    def constant(self) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        return self._folded("input.input")

    def weight(self, layer: LayerSpec) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        weight = self._b.reshape(self._inputs[weight_parameter(layer)], *layer.weight_shape)
        weight.type, weight.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(layer.weight_shape)
        return weight

    def weight_factor(self, layer: LayerSpec) -> float:
        """See :class:`SynthesisTensors`."""
        return self._factors[weight_parameter(layer)]

    def affine(self, layer: LayerSpec) -> tuple[ir.Value, ir.Value]:
        """See :class:`SynthesisTensors`."""
        name = f"{layer.name}.conv.modulation"
        return self._folded(f"{name}.weight"), self._folded(f"{name}.bias")

    def noise_strength(self, layer: LayerSpec) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        return self._folded(f"{layer.name}.noise.weight")

    def bias(self, layer: LayerSpec, shape: tuple[int, ...]) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        return self._b.reshape(self._folded(f"{layer.name}.activate.bias"), *shape)

    def rgb_bias(self, layer: LayerSpec) -> ir.Value:
        """See :class:`SynthesisTensors`."""
        return self._folded(f"{layer.name}.bias")

    def _folded(self, name: str) -> ir.Value:
        factor = self._factors[name]
        if factor == 1:
            return self._inputs[name]
        return self._b.op("Mul", self._inputs[name], self._b.scalar(factor))


@dataclass(frozen=True)
class SynthesisParameter:
    """A tensor of the synthesis network that training has made.

    Attributes
    ----------
    name, shape:
        As in the state dict of an official generator, e.g. ``convs.3.conv.weight`` [1,O,I,3,3].
    factor:
        Times which it is the folded tensor.
    folded:
        Gives the folded tensor, of as many numbers.
    """

    name: str
    shape: tuple[int, ...]
    factor: float
    folded: Callable[[SynthesisTensors], ir.Value]


def synthesis_parameters(model: HyperStyle) -> Iterator[SynthesisParameter]:
    """Yield all of a generator, in the order of its layers; buffers (noise, filters) are none."""
    state, config = model.state_dict(), model.config.generator
    constant = (1, config.channels[0], 4, 4)
    yield SynthesisParameter("input.input", constant, 1.0, lambda tensors: tensors.constant())
    for layer in config.layers:
        yield from _layer_parameters(layer, config.style_width, has_noise(state, layer))


def weight_parameter(layer: LayerSpec) -> str:
    """The parameter that is the weight of a layer."""
    return f"{layer.name}.conv.weight"


def _layer_parameters(
    layer: LayerSpec, style_width: int, has_noise: bool
) -> Iterator[SynthesisParameter]:
    name, width = layer.name, layer.in_channels
    affine, shape = f"{name}.conv.modulation", layer.weight_shape
    scale = 1 / math.sqrt(width * layer.kernel_size**2)
    equal = 1 / math.sqrt(style_width)
    yield SynthesisParameter(
        weight_parameter(layer), (1, *shape), scale, lambda tensors: tensors.weight(layer)
    )
    yield SynthesisParameter(
        f"{affine}.weight", (width, style_width), equal, lambda tensors: tensors.affine(layer)[0]
    )
    yield SynthesisParameter(
        f"{affine}.bias", (width,), 1.0, lambda tensors: tensors.affine(layer)[1]
    )
    if layer.is_to_rgb:
        yield SynthesisParameter(
            f"{name}.bias", (1, 3, 1, 1), 1.0, lambda tensors: tensors.rgb_bias(layer)
        )
        return
    if has_noise:
        yield SynthesisParameter(
            f"{name}.noise.weight",
            (1,),
            ACTIVATION_GAIN,
            lambda tensors: tensors.noise_strength(layer),
        )
    yield SynthesisParameter(
        f"{name}.activate.bias",
        (layer.out_channels,),
        ACTIVATION_GAIN,
        lambda tensors: tensors.bias(layer, bias_shape(layer)),
    )


def bias_shape(layer: LayerSpec) -> tuple[int, ...]:
    """In which the graphs of float32 add a bias: to the output of a blur, or to a picture."""
    return (-1,) if layer.upsample else (-1, 1, 1)


def has_noise(state: State, layer: LayerSpec) -> bool:
    """Whether a layer adds noise: not toRGB, and not where training has left no strength."""
    return not layer.is_to_rgb and bool(state[f"decoder.{layer.name}.noise.weight"].any())
