"""MobileStyleGAN's graphs: `mapping`, `weights`, `noise`, and `generator` with kernels as inputs.

A style only scales the input channels, and demodulation is in the stored kernels, so one face's
kernels serve a batch of latents as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.types import Array
from torch import Tensor

from ..networks.layers import ACTIVATION_GAIN, ACTIVATION_SLOPE
from ..networks.mobilestylegan import BANDS, NORM_EPS, RGB, KernelLayer, MobileStyleGan
from .builder import BATCH, GraphBuilder, Precision, State, to_array
from .generator import EDITS, FEATURE_OFFSET, NOISE, PARAMETERS, STYLE_OFFSETS, face_pool
from .mobile_tensors import (
    InputMobileTensors,
    MobileTensors,
    StoredMobileTensors,
    feature_shape,
    mobile_feature_layer,
    noise_strength,
    stored_noises,
)
from .weights import NEGLIGIBLE_WEIGHT


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


def build_mobile_weights(model: MobileStyleGan) -> ir.Model:
    """(nothing) -> weight.<layer> [O,I,k,k], the stored kernels of all tunable layers.

    A bundle without codes has these as the kernels that every face begins with. A weight that is
    exactly zero becomes 1e-30, so that offsets relative to it can be read back.
    """
    state = model.synthesis.state_dict()
    b = GraphBuilder("weights")
    for layer in model.config.tunable:
        b.scoped(layer.name)
        stored = to_array(state[f"{layer.name}.weight"])
        kernel = np.where(stored == 0, NEGLIGIBLE_WEIGHT, stored)
        value = b.op("Identity", b.constant(f"{layer.name}.weight", kernel))
        b.output(f"weight.{layer.name}", value, layer.weight_shape)
    return b.build()


def build_mobile_generator(
    model: MobileStyleGan,
    tuned: Sequence[str],
    input_size: tuple[int, int],
    extras: Collection[str] = (),
    name: str = "generator",
    form: type[MobileSynthesis] | None = None,
    precision: Precision = "fp32",
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
    extras:
        More inputs: `STYLE_OFFSETS`, style_offsets [1 or N,S], added to the styles of all layers
        after one another; `NOISE`, noise.<layer> [1,1,h,h] in place of what `noise` gives;
        `FEATURE_OFFSET`, feature_offset [1,C,h,h], added to the output of `mobile_feature_layer`;
        `PARAMETERS`, parameter.<name>, all `mobile_parameters`, in place of weight.<layer>.
    name:
        Of the graph.
    form:
        How the layers are computed; None for `MobileSynthesis`.
    precision:
        Of the feature maps and of what they are multiplied by. Styles, the pooled reconstruction
        and all inputs and outputs stay float32.
    """
    config = model.config
    b = GraphBuilder(name, precision)
    latents = b.input("latents", [BATCH, config.num_latents, config.style_width])
    weights: dict[str, ir.Value] = {}
    if PARAMETERS not in extras:
        weights = kernel_inputs(b, [layer for layer in config.tunable if layer.name in tuned])
    inputs = _extra_inputs(b, model, extras)
    tensors = InputMobileTensors(b, model) if PARAMETERS in extras else None
    synthesis = (form or MobileSynthesis)(b, model, latents, weights, inputs, tensors)
    rendering = synthesis.picture(synthesis.features(config.blocks))
    side = config.resolution
    b.output("rendering", rendering, [BATCH, 3, side, side])
    pooled = face_pool(b, rendering, (side, side), input_size)
    b.output("reconstruction", pooled, [BATCH, 3, *input_size])
    return b.build()


def _extra_inputs(
    b: GraphBuilder, model: MobileStyleGan, extras: Collection[str]
) -> dict[str, ir.Value]:
    """Declare the inputs beside latents and tensors; those not wanted are not among them."""
    inputs: dict[str, ir.Value] = {}
    if STYLE_OFFSETS in extras:
        channels = sum(style.channels for style in model.config.styles)
        inputs[STYLE_OFFSETS] = b.input(STYLE_OFFSETS, [EDITS, channels])
    if NOISE in extras:
        for layer, noise in stored_noises(model).items():
            inputs[f"noise.{layer}"] = b.input(f"noise.{layer}", noise.shape)
    if FEATURE_OFFSET in extras:
        inputs[FEATURE_OFFSET] = b.input(FEATURE_OFFSET, [1, *feature_shape(model.config)])
    return inputs


def kernel_inputs(b: GraphBuilder, layers: Sequence[KernelLayer]) -> dict[str, ir.Value]:
    """Declare the inputs weight.<layer> [O,I,k,k]; gives them by layer."""
    return {layer.name: b.input(f"weight.{layer.name}", layer.weight_shape) for layer in layers}


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
    inputs:
        ``style_offsets``, ``noise.<layer>`` and ``feature_offset``, where the graph has them as
        inputs.
    tensors:
        Where all other tensors come from; None for the stored ones.
    """

    def __init__(
        self,
        b: GraphBuilder,
        model: MobileStyleGan,
        latents: ir.Value,
        weights: Mapping[str, ir.Value] | None = None,
        inputs: Mapping[str, ir.Value] | None = None,
        tensors: MobileTensors | None = None,
    ) -> None:
        self.b, self.config, self._latents = b, model.config, latents
        self._inputs = inputs or {}
        self._state: State = model.synthesis.state_dict()
        self._weights = weights or {}
        self._tensors = tensors or StoredMobileTensors(b, model)
        self._rows = {style.name: style for style in model.config.styles}

    def features(self, blocks: int) -> ir.Value:
        """Features after the first `blocks` blocks: [N,C,h,h]."""
        b, layers = self.b, {layer.name: layer for layer in self.config.kernels}
        b.scoped("conv1")
        x = self._styled_conv(self._tensors.tensor("const"), layers["conv1"])
        for number in range(blocks):
            name = f"layers.{number}.up"
            x = self._inverse_haar(self._scaled(x, name), self.config.channels[number])
            for conv in ("conv1", "conv2"):
                x = self._styled_conv(x, layers[f"layers.{number}.{conv}"])
        return x

    def picture(self, x: ir.Value) -> ir.Value:
        """Features after the last block [N,C,h,h] -> [N,3,2h,2h]."""
        b = self.b
        x, kernel = self._modulated(x, "to_img")
        bands = b.conv(x, kernel, self._tensors.tensor("to_img.bias"))
        return b.to_float(self._inverse_haar(bands, BANDS * RGB))

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

    def _styled_conv(self, x: ir.Value, layer: KernelLayer) -> ir.Value:
        """Scale, depthwise 3x3, across channels; noise, bias, leaky ReLU: [N,O,h,h]."""
        b, name = self.b, layer.name
        x, kernel = self._modulated(x, name)
        if layer.kernel_size == 1:
            depthwise = self._tensors.tensor(f"{name}.depthwise")
            x = b.conv(x, depthwise, padding=(1, 1), group=layer.in_channels)
        pad = layer.kernel_size // 2
        bias = self._tensors.tensor(f"{name}.bias")
        x = b.conv(x, kernel, bias, padding=(pad, pad))
        noise = self._noise(name)
        if noise is not None:
            x = b.op("Add", x, noise)
        x = b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE)
        if FEATURE_OFFSET in self._inputs and layer == mobile_feature_layer(self.config):
            x = b.op("Add", x, self._inputs[FEATURE_OFFSET])
        return x

    def _noise(self, name: str) -> ir.Value | None:
        """What is added to a layer's features: [1,1,h,h]; None where the layer has no noise."""
        stored = to_array(self._state[f"{name}.noise"])
        given = self._inputs.get(f"noise.{name}")
        if given is not None:
            strength = self.b.constant(f"{name}.noise_strength", noise_strength(stored))
            return self.b.to_compute(self.b.op("Mul", given, strength))
        return self.b.compute_constant(f"{name}.noise", stored) if stored.any() else None

    def _kernel(self, name: str) -> ir.Value:
        given = self._weights.get(name)
        if given is None:
            return self._tensors.tensor(f"{name}.weight")
        kernel = self.b.to_compute(given)
        kernel.type, kernel.shape = ir.TensorType(self.b.compute_type), given.shape
        return kernel

    def _modulated(self, x: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        """What a convolution reads and its kernel, one of them times the style."""
        return self._scaled(x, name), self._kernel(name)

    def _scaled(self, x: ir.Value, name: str) -> ir.Value:
        """X [N or 1,C,h,w] times the style of the layer."""
        return self.b.op("Mul", x, self.b.to_compute(self._scale(name)))

    def _scale(self, name: str) -> ir.Value:
        """The style of a layer: [N,C,1,1]."""
        b, channels = self.b.scoped(name), self._rows[name].channels
        affine = self._tensors.affine(f"{name}.style")
        scale = b.op("Gemm", self._row(name), *affine, transB=1)  # [N,C]
        if STYLE_OFFSETS in self._inputs:
            start = sum(s.channels for s in self.config.styles[: self._rows[name].row])
            bounds = b.integers(start), b.integers(start + channels), b.integers(1)
            scale = b.op("Add", scale, b.op("Slice", self._inputs[STYLE_OFFSETS], *bounds))
        return b.reshape(scale, 0, channels, 1, 1)

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
        filters = b.compute_constant(f"haar_{channels}", kernel)
        return b.conv_transpose(grouped, filters, 2, stride=2, group=width)


class SingleSynthesis(MobileSynthesis):
    """The same for a batch of one, as descent has it: styles are in the kernels.

    A depthwise convolution leaves channels apart, so what scales its input may as well scale the
    columns of the kernel after it: no feature map is multiplied, and no derivative by a style is a
    sum over pixels.
    """

    def _modulated(self, x: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        kernel, scale = self._kernel(name), self._scale(name)  # [1,I,1,1]
        scaled = self.b.op("Mul", kernel, scale)
        scaled.type, scaled.shape = kernel.type, kernel.shape
        return x, scaled


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
