"""The perceptual term of descent as nodes; the twins are those of `networks.refinement`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import onnx_ir as ir

from ..adjoint.rules import shape_of
from ..networks.hyperstyle import HyperStyle
from ..networks.lpips import ALEXNET, NORM_EPS, POOL_STRIDE, Lpips
from ..networks.refinement import ENCODER_WEIGHT, FEATURE_POOL, LPIPS_WEIGHT, feature_units
from ..readers.torch_files import CheckpointError
from .builder import Dim, GraphBuilder, to_array
from .encoder import trunk_features, unit_strides

TINY = 1e-20  # keeps the root's derivative finite at 0; below the square of any norm that matters


@dataclass(frozen=True)
class Compared:
    """One tensor of features.

    Attributes
    ----------
    seen, wanted:
        Of the image and of the target, [1,C,h,w].
    mask:
        [1,1,h,w], what their difference is multiplied by.
    """

    seen: ir.Value
    wanted: ir.Value
    mask: ir.Value

    def difference(self, b: GraphBuilder) -> ir.Value:
        """Masked, [1,C,h,w]."""
        return b.op("Mul", b.op("Sub", self.seen, self.wanted), self.mask)


class PerceptualTerm(Protocol):
    """What is compared, and how."""

    @property
    def network(self) -> str:
        """What a manifest calls the network."""
        ...

    @property
    def weight(self) -> float:
        """What the term has been multiplied by."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the pictures it looks at."""
        ...

    @property
    def shapes(self) -> list[list[Dim]]:
        """Of the features, [1,C,h,w] each."""
        ...

    def features(self, b: GraphBuilder, picture: ir.Value) -> list[ir.Value]:
        """Of a picture [1,3,h,w], RGB in [-1,1]."""
        ...

    def loss(self, b: GraphBuilder, features: Sequence[Compared]) -> list[ir.Value]:
        """Scalars to add up."""
        ...


def perceptual_term(model: HyperStyle, lpips: Lpips | None) -> PerceptualTerm:
    """LPIPS if there is one, else the encoder's features.

    Raises
    ------
    CheckpointError
        If the encoder's pictures are too small for that network.
    """
    if lpips is None:
        return EncoderNodes(model)
    return LpipsNodes(lpips, model.config.input_size)


class EncoderNodes:
    """See `networks.refinement.EncoderTerm`."""

    def __init__(self, model: HyperStyle) -> None:
        self._config, self._state = model.config, model.state_dict()
        self._units = feature_units(model.config)
        self.network, self.weight = "encoder", ENCODER_WEIGHT
        self.input_size = model.config.input_size

    @property
    def shapes(self) -> list[list[Dim]]:
        """See :class:`PerceptualTerm`."""
        return [self._shape(unit) for unit in self._units]

    def _shape(self, unit: int) -> list[Dim]:
        """Shape [1,C,h,w] of one of the encoder's trunk features; 0 is the stem."""
        trunk = self._config.encoder.trunk
        widths = [trunk.stem_width, *(width for width, count in trunk.groups for _ in range(count))]
        height, width = (side // FEATURE_POOL for side in self._config.input_size)
        for stride in unit_strides(trunk)[:unit]:
            height, width = -(-height // stride), -(-width // stride)
        return [1, widths[unit], height, width]

    def features(self, b: GraphBuilder, picture: ir.Value) -> list[ir.Value]:
        """See :class:`PerceptualTerm`."""
        window = [FEATURE_POOL] * 2
        small = b.op("AveragePool", picture, kernel_shape=window, strides=window)
        units = trunk_features(b, small, self._state, self._config.encoder.trunk)
        found = list(islice(units, self._units[-1] + 1))
        return [found[unit] for unit in self._units]

    def loss(self, b: GraphBuilder, features: Sequence[Compared]) -> list[ir.Value]:
        """See :class:`PerceptualTerm`."""
        terms = []
        for compared in features:
            error = b.mean_square(compared.difference(b))
            relative = b.op("Div", error, b.mean_square(compared.wanted))
            terms.append(b.op("Mul", relative, b.scalar(ENCODER_WEIGHT)))
        return terms


class LpipsNodes:
    """See `networks.lpips`; the features are divided by their norm already.

    Parameters
    ----------
    size:
        (height, width) of the pictures.

    Raises
    ------
    CheckpointError
        If nothing would be left of such pictures.
    """

    def __init__(self, lpips: Lpips, size: tuple[int, int]) -> None:
        self._lpips = lpips
        self.network = "lpips_alexnet" if lpips.layers is ALEXNET else "lpips_vgg16"
        self.weight = LPIPS_WEIGHT
        self.input_size = size
        self.shapes: list[list[Dim]] = []
        height, width = size
        for number, layer in enumerate(lpips.layers):
            kernel, _ = lpips.convolution(number)
            if layer.pool:
                height, width = ((n - layer.pool) // POOL_STRIDE + 1 for n in (height, width))
            taps = kernel.shape[2]
            height, width = (
                (n + 2 * layer.padding - taps) // layer.stride + 1 for n in (height, width)
            )
            if min(height, width) < 1:
                raise CheckpointError(
                    f"the LPIPS backbone wants larger pictures than {size[0]}x{size[1]}, which is "
                    "what the encoder sees; build the bundle without it"
                )
            if layer.is_feature:
                self.shapes.append([1, kernel.shape[0], height, width])

    def features(self, b: GraphBuilder, picture: ir.Value) -> list[ir.Value]:
        """See :class:`PerceptualTerm`."""
        b.scoped("lpips")
        mean, std = (
            b.constant(f"lpips.{name}", to_array(self._lpips.get_buffer(name)))
            for name in ("mean", "std")
        )
        x = b.op("Div", b.op("Sub", picture, mean), std)
        found: list[ir.Value] = []
        for number, layer in enumerate(self._lpips.layers):
            b.scoped(f"lpips.{number}")
            if layer.pool:
                window = [layer.pool] * 2
                x = b.op("MaxPool", x, kernel_shape=window, strides=[POOL_STRIDE] * 2)
            kernel, bias = (
                b.constant(f"lpips.{number}.{name}", to_array(tensor))
                for name, tensor in zip(
                    ("weight", "bias"), self._lpips.convolution(number), strict=True
                )
            )
            padding = (layer.padding, layer.padding)
            x = b.op("Relu", b.conv(x, kernel, bias, stride=layer.stride, padding=padding))
            if layer.is_feature:
                found.append(_unit(b, x, int(self.shapes[len(found)][1])))
        return found

    def loss(self, b: GraphBuilder, features: Sequence[Compared]) -> list[ir.Value]:
        """See :class:`PerceptualTerm`."""
        terms = []
        for number, compared in enumerate(features):
            head = to_array(self._lpips.head(number))
            difference = compared.difference(b)
            square = b.op("Mul", difference, difference)
            weighted = b.op("Mul", square, b.constant(f"lpips.head.{number}", head))
            mean = b.mean(weighted)  # over channels: LPIPS sums them
            terms.append(b.op("Mul", mean, b.scalar(LPIPS_WEIGHT * shape_of(compared.wanted)[1])))
        return terms


def _unit(b: GraphBuilder, x: ir.Value, channels: int) -> ir.Value:
    """[1,C,h,w] with channels divided by their norm."""
    mean = b.op("ReduceMean", b.op("Mul", x, x), b.integers(1), keepdims=1)
    square = b.op("Add", b.op("Mul", mean, b.scalar(float(channels))), b.scalar(TINY))
    return b.op("Div", x, b.op("Add", b.op("Sqrt", square), b.scalar(NORM_EPS)))
