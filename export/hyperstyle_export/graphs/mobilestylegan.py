"""MobileStyleGAN's graphs: `mapping`, and `generator` with its kernels as inputs.

A style only scales the input channels, and demodulation is in the stored kernels, so one face's
kernels serve a batch of latents as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.types import Array
from torch import Tensor

from ..networks.layers import ACTIVATION_GAIN, ACTIVATION_SLOPE
from ..networks.mobilestylegan import BANDS, NORM_EPS, RGB, KernelLayer, MobileStyleGan
from .builder import BATCH, GraphBuilder, State, to_array
from .generator import face_pool


def build_mobile_mapping(model: MobileStyleGan) -> ir.Model:
    """Z [N,W] -> w [N,W]."""
    state, width = model.state_dict(), model.config.style_width
    b = GraphBuilder("mapping")
    z = b.input("z", [BATCH, width])
    b.scoped("mapping")
    power = b.op("ReduceMean", b.op("Mul", z, z), b.integers(1), keepdims=1)
    x = b.op("Div", z, b.op("Sqrt", b.op("Add", power, b.scalar(NORM_EPS))))
    for number in range(model.config.mapping_depth):
        # A leaky ReLU is positively homogeneous: its gain goes into the linear layer.
        b.scoped(f"mapping.layers.{number}")
        x = linear(b, x, state, f"mapping.layers.{number}", ACTIVATION_GAIN)
        x = b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE)
    b.output("w", x, [BATCH, width])
    return b.build()


def build_mobile_generator(
    model: MobileStyleGan, tuned: Sequence[str], input_size: tuple[int, int]
) -> ir.Model:
    """Latents [N,L,W] and all weight.<layer> -> rendering [N,3,S,S], reconstruction [N,3,h,w].

    Parameters
    ----------
    model:
        The networks.
    tuned:
        Names of the kernels that are inputs, ``weight.<layer>`` [O,I,k,k]; the others are stored.
    input_size:
        (height, width) of what the encoder reads, to which the reconstruction is pooled.
    """
    config = model.config
    b = GraphBuilder("generator")
    latents = b.input("latents", [BATCH, config.num_latents, config.style_width])
    weights = {
        layer.name: b.input(f"weight.{layer.name}", layer.weight_shape)
        for layer in config.tunable
        if layer.name in tuned
    }
    synthesis = MobileSynthesis(b, model, latents, weights)
    rendering = synthesis.picture(synthesis.features(config.blocks))
    side = config.resolution
    b.output("rendering", rendering, [BATCH, 3, side, side])
    pooled = face_pool(b, rendering, (side, side), input_size)
    b.output("reconstruction", pooled, [BATCH, 3, *input_size])
    return b.build()


class MobileSynthesis:
    """Writes the synthesis network's layers into a graph.

    Parameters
    ----------
    b:
        The graph.
    model:
        Whose stored tensors are constants.
    latents:
        [N,L,W], or [N,W] for one row that all layers share.
    weights:
        Layer name -> a kernel that takes the stored one's place.
    """

    def __init__(
        self,
        b: GraphBuilder,
        model: MobileStyleGan,
        latents: ir.Value,
        weights: Mapping[str, ir.Value] | None = None,
    ) -> None:
        self.b, self.config, self._latents = b, model.config, latents
        self._state: State = model.synthesis.state_dict()
        self._weights = weights or {}
        self._rows = {style.name: style for style in model.config.styles}

    def features(self, blocks: int) -> ir.Value:
        """Features after the first `blocks` blocks: [N,C,h,h]."""
        b, layers = self.b, {layer.name: layer for layer in self.config.kernels}
        b.scoped("conv1")
        x = self._styled_conv(b.parameter(self._state, "const"), layers["conv1"])
        for number in range(blocks):
            name = f"layers.{number}.up"
            x = self._inverse_haar(self._scaled(x, name), self.config.channels[number])
            for conv in ("conv1", "conv2"):
                x = self._styled_conv(x, layers[f"layers.{number}.{conv}"])
        return x

    def picture(self, x: ir.Value) -> ir.Value:
        """Features after the last block [N,C,h,h] -> [N,3,2h,2h]."""
        return self._to_image(x, self._state, self._kernel("to_img"), self._row("to_img"))

    def head(self, x: ir.Value, state: State, row: int | None = None) -> ir.Value:
        """Features [N,C,h,h] of fewer blocks -> [N,3,2h,2h], by a `PictureHead`.

        Parameters
        ----------
        x:
            The features.
        state:
            The head's tensors: ``head.style.weight``, ``head.direct.weight`` ...
        row:
            Of the latents, whose affine maps are the head's styles; None for a latent of one row.
        """
        b, w = self.b.scoped("head"), self._latent(row)
        x = self._styled(x, w, state, "head.style")
        y = b.op("LeakyRelu", self._conv(x, state, "head.squeeze"), alpha=ACTIVATION_SLOPE)
        y = self._conv(self._styled(y, w, state, "head.detail_style"), state, "head.hidden")
        y = self._conv(b.op("LeakyRelu", y, alpha=ACTIVATION_SLOPE), state, "head.detail")
        bands = b.op("Add", self._conv(x, state, "head.direct"), y)
        return self._inverse_haar(bands, BANDS * RGB)

    def _conv(self, x: ir.Value, state: State, name: str) -> ir.Value:
        """A convolution that keeps the side."""
        kernel, bias = (self.b.parameter(state, f"{name}.{n}") for n in ("weight", "bias"))
        pad = state[f"{name}.weight"].shape[-1] // 2
        return self.b.conv(x, kernel, bias, padding=(pad, pad))

    def _styled(self, x: ir.Value, w: ir.Value, state: State, name: str) -> ir.Value:
        """X [N,C,h,h] scaled by an affine map of w [N,W]."""
        scale = linear(self.b, w, state, name)
        channels = state[f"{name}.weight"].shape[0]
        return self.b.op("Mul", x, self.b.reshape(scale, 0, channels, 1, 1))

    def _to_image(self, x: ir.Value, state: State, kernel: ir.Value, row: ir.Value) -> ir.Value:
        b = self.b.scoped("to_img")
        x = self._styled(x, row, state, "to_img.style")
        bands = b.conv(x, kernel, b.parameter(state, "to_img.bias"))
        return self._inverse_haar(bands, BANDS * RGB)

    def _styled_conv(self, x: ir.Value, layer: KernelLayer) -> ir.Value:
        """Scale, depthwise 3x3, across channels; noise, bias, leaky ReLU: [N,O,h,h]."""
        b, name = self.b, layer.name
        x = self._scaled(x, name)
        if layer.kernel_size == 1:
            depthwise = b.parameter(self._state, f"{name}.depthwise")
            x = b.conv(x, depthwise, padding=(1, 1), group=layer.in_channels)
        pad = layer.kernel_size // 2
        bias = b.parameter(self._state, f"{name}.bias")
        x = b.conv(x, self._kernel(name), bias, padding=(pad, pad))
        if self._state[f"{name}.noise"].any():
            x = b.op("Add", x, b.parameter(self._state, f"{name}.noise"))
        return b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE)

    def _kernel(self, name: str) -> ir.Value:
        if name in self._weights:
            return self._weights[name]
        return self.b.parameter(self._state, f"{name}.weight")

    def _scaled(self, x: ir.Value, name: str) -> ir.Value:
        """X [N or 1,C,h,w] times the style of the layer."""
        b, channels = self.b.scoped(name), self._rows[name].channels
        scale = linear(b, self._row(name), self._state, f"{name}.style")  # [N,C]
        return b.op("Mul", x, b.reshape(scale, 0, channels, 1, 1))

    def _row(self, name: str) -> ir.Value:
        return self._latent(self._rows[name].row)

    def _latent(self, row: int | None) -> ir.Value:
        """A row of W+ latents, or the one latent there is: [N,W]."""
        shape = self._latents.shape
        if row is None or (shape is not None and len(shape) == 2):
            return self._latents
        return self.b.op("Gather", self._latents, self.b.index(row), axis=1)

    def _inverse_haar(self, x: ir.Value, channels: int) -> ir.Value:
        """[N,C,h,w] -> [N,C/4,2h,2w]: one transposed convolution, a group for four bands.

        The filters of a band do not overlap, so a group of four channels is one product of each
        pixel with a 4x4 matrix.
        """
        b, width = self.b, channels // BANDS
        order = np.arange(channels).reshape(BANDS, width)
        order[1:] = width + np.arange(3 * width).reshape(width, 3).T
        grouped = b.op(
            "Gather", x, b.constant(f"haar_order_{channels}", order.T.reshape(-1)), axis=1
        )
        kernel = np.tile(haar_filters()[:, None], (width, 1, 1, 1))  # [C,1,2,2]
        filters = b.constant(f"haar_{channels}", kernel)
        return b.conv_transpose(grouped, filters, 2, stride=2, group=width)


def haar_filters() -> Array:
    """What one of a band's numbers adds to four pixels: low, vertical, horizontal, diagonal."""
    low, high = np.array([1, 1], np.float32), np.array([1, -1], np.float32)
    pairs = [(low, low), (high, low), (low, high), (high, high)]
    filters = [np.outer(vertical, horizontal) for vertical, horizontal in pairs]
    return np.stack(filters) * np.float32(0.5)


def linear(
    b: GraphBuilder, x: ir.Value, state: Mapping[str, Tensor], name: str, gain: float = 1.0
) -> ir.Value:
    """A linear layer times `gain`, folded in double precision: [N,I] -> [N,O]."""
    weight = to_array((state[f"{name}.weight"].double() * gain).float())
    bias = to_array((state[f"{name}.bias"].double() * gain).float())
    kernel, shift = f"{name}.weight", f"{name}.bias"
    return b.op("Gemm", x, b.constant(kernel, weight), b.constant(shift, bias), transB=1)
