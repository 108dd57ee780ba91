"""IDInvert's perceptual term as nodes; its twin is `networks.vgg16.Vgg16Term`."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..networks.lpips import POOL_STRIDE
from ..networks.vgg16 import FEATURE_WEIGHT, HALF_RANGE, LAYERS, Vgg16Features
from .builder import Dim, GraphBuilder, to_array
from .perceptual import Compared


class Vgg16Nodes:
    """A `graphs.perceptual.PerceptualTerm`: the mean square of the features' difference.

    Parameters
    ----------
    size:
        (height, width) of the pictures: at least 8 each, which every generator makes.
    """

    def __init__(self, vgg16: Vgg16Features, size: tuple[int, int]) -> None:
        self._vgg16 = vgg16
        self.network, self.weight = "vgg16", FEATURE_WEIGHT
        self.input_size = size
        height, width = size
        for layer in LAYERS:
            if layer.pool:
                height, width = height // POOL_STRIDE, width // POOL_STRIDE
        channels = vgg16.convolution(len(LAYERS) - 1)[0].shape[0]
        self.shapes: list[list[Dim]] = [[1, channels, height, width]]

    def features(self, b: GraphBuilder, picture: ir.Value) -> list[ir.Value]:
        """See :class:`PerceptualTerm`."""
        b.scoped("vgg16")
        x = b.op("Gather", picture, b.integers(2, 1, 0), axis=1)  # BGR
        x = b.op("Mul", b.op("Add", x, b.scalar(1.0)), b.scalar(HALF_RANGE))
        x = b.op("Sub", x, b.constant("vgg16.means", to_array(self._vgg16.means)))
        for number, layer in enumerate(LAYERS):
            b.scoped(f"vgg16.{number}")
            if layer.pool:
                window = [layer.pool] * 2
                x = b.op("MaxPool", x, kernel_shape=window, strides=[POOL_STRIDE] * 2)
            kernel, bias = (
                b.constant(f"vgg16.{number}.{name}", to_array(tensor))
                for name, tensor in zip(
                    ("weight", "bias"), self._vgg16.convolution(number), strict=True
                )
            )
            padding = (layer.padding, layer.padding)
            x = b.op("Relu", b.conv(x, kernel, bias, padding=padding))
        return [x]

    def loss(self, b: GraphBuilder, features: Sequence[Compared]) -> list[ir.Value]:
        """See :class:`PerceptualTerm`."""
        (compared,) = features
        return [b.op("Mul", b.mean_square(compared.difference(b)), b.scalar(FEATURE_WEIGHT))]
