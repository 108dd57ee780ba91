"""Where MobileStyleGAN's graphs take tensors from: stored ones, or inputs that descent changes.

The published file has no equalised learning rate: its tensors are as they are multiplied with. A
`MobileParameter` of a weight is the tensor over its own root mean square, so that its numbers are
of the size of 1, as StyleGAN2's are. The steps that are published for those then change both
generators by as much. Biases are of the size that they have there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.types import Array

from ..networks.mobilestylegan import KernelLayer, MobileStyleGan, MobileStyleGanConfig
from .builder import GraphBuilder, to_array
from .generator import FEATURE_SIDE
from .synthesis_tensors import PARAMETER


class MobileTensors(Protocol):
    """The tensors of the synthesis network, by their names in its state dict."""

    def tensor(self, name: str) -> ir.Value:
        """One that feature maps are computed with, in the builder's compute type."""
        ...

    def affine(self, name: str) -> tuple[ir.Value, ir.Value]:
        """From latents to styles, in float32: weight [I,W], bias [I]."""
        ...


class StoredMobileTensors:
    """Constants of the graph."""

    def __init__(self, b: GraphBuilder, model: MobileStyleGan) -> None:
        self._b, self._state = b, model.synthesis.state_dict()

    def tensor(self, name: str) -> ir.Value:
        """See :class:`MobileTensors`."""
        return self._b.compute_parameter(self._state, name)

    def affine(self, name: str) -> tuple[ir.Value, ir.Value]:
        """See :class:`MobileTensors`."""
        weight, bias = (self._b.parameter(self._state, f"{name}.{n}") for n in ("weight", "bias"))
        return weight, bias


class InputMobileTensors:
    """Graph inputs ``parameter.<name>``, in float32."""

    def __init__(self, b: GraphBuilder, model: MobileStyleGan) -> None:
        self._b = b
        self._parameters = {parameter.name: parameter for parameter in mobile_parameters(model)}
        self._inputs = {
            name: b.input(f"{PARAMETER}{name}", parameter.shape)
            for name, parameter in self._parameters.items()
        }

    def tensor(self, name: str) -> ir.Value:
        """See :class:`MobileTensors`."""
        factor, given = self._parameters[name].factor, self._inputs[name]
        if factor == 1:
            return given
        value = self._b.op("Mul", given, self._b.scalar(factor))
        value.type, value.shape = given.type, given.shape
        return value

    def affine(self, name: str) -> tuple[ir.Value, ir.Value]:
        """See :class:`MobileTensors`."""
        return self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")


@dataclass(frozen=True)
class MobileParameter:
    """A tensor of the synthesis network that training has made.

    Attributes
    ----------
    name, shape:
        As in the state dict of the network, e.g. ``layers.3.conv2.depthwise`` [I,1,3,3].
    factor:
        Times which it is that tensor.
    """

    name: str
    shape: tuple[int, ...]
    factor: float


def mobile_parameters(model: MobileStyleGan) -> Iterator[MobileParameter]:
    """Yield all of a generator; stored noise is none."""
    for name, tensor in model.synthesis.named_parameters():
        factor = 1.0
        if tensor.ndim > 1 and tensor.any():
            factor = float(tensor.double().square().mean().sqrt())
        yield MobileParameter(name, tuple(tensor.shape), factor)


def mobile_feature_layer(config: MobileStyleGanConfig) -> KernelLayer:
    """The layer whose output may be offset: the last of 64 px, or of a quarter of the picture."""
    side = min(FEATURE_SIDE, config.resolution // 4)
    return [layer for layer in config.kernels if layer.side == side][-1]


def feature_shape(config: MobileStyleGanConfig) -> tuple[int, int, int]:
    """(C, h, w) of what is added to it."""
    layer = mobile_feature_layer(config)
    return (layer.out_channels, layer.side, layer.side)


def noise_strength(noise: Array) -> Array:
    """What a layer's stored noise, drawn with a deviation of 1, was multiplied by: a scalar."""
    return np.asarray(noise.std(dtype=np.float64), np.float32)


def stored_noises(model: MobileStyleGan) -> dict[str, Array]:
    """Layer -> its stored noise [1,1,h,h], of those that have some."""
    state = model.synthesis.state_dict()
    found = {
        key.removesuffix(".noise"): to_array(value)
        for key, value in state.items()
        if key.endswith(".noise")
    }
    return {
        layer.name: found[layer.name]
        for layer in model.config.kernels
        if layer.name in found and found[layer.name].std() > 0
    }
