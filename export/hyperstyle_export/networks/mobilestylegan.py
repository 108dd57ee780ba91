"""MobileStyleGAN (Belousov 2021, arXiv:2104.04767) in the form it is published for inference.

StyleGAN2's idea with separable convolutions: a block enlarges by an inverse Haar wavelet step
instead of a transposed convolution, then come two depthwise-separable convolutions. Demodulation is
folded into the weights, so a style only scales the input channels and one face's kernels serve any
batch of latents. The last convolution gives the four wavelet bands of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ACTIVATION_GAIN, ACTIVATION_SLOPE

START_SIDE = 4
BANDS = 4  # of a two-dimensional Haar wavelet: low, vertical, horizontal, diagonal
RGB = 3
NORM_EPS = 1e-8

Kernels = Mapping[str, Tensor]
"""Layer name -> the kernel [O,I,k,k] that takes the stored one's place, for all of a batch."""


@dataclass(frozen=True)
class StyleRow:
    """One affine map of the latents: which scales the input channels of what follows.

    Attributes
    ----------
    name:
        Of the module whose input is scaled: ``conv1``, ``layers.3.up``, ``layers.3.conv2``,
        ``to_img``.
    row:
        Row of the W+ latents.
    channels:
        Scaled.
    """

    name: str
    row: int
    channels: int


@dataclass(frozen=True)
class KernelLayer:
    """A convolution whose kernel may be given at run time.

    Attributes
    ----------
    name:
        As of its `StyleRow`.
    side:
        Of the square feature map it computes.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    side: int

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I, k, k)."""
        return (self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)


@dataclass(frozen=True)
class MobileStyleGanConfig:
    """Sizes of the networks.

    Attributes
    ----------
    channels:
        Width of the first feature map (4x4), then after every block; a block quarters the width of
        what it enlarges, so all but the last are divisible by 4.
    style_width:
        Of z and w.
    mapping_depth:
        Linear layers of the mapping network.
    """

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)
    style_width: int = 512
    mapping_depth: int = 8

    @property
    def blocks(self) -> int:
        """Number of blocks; each doubles the side."""
        return len(self.channels) - 1

    @property
    def resolution(self) -> int:
        """Side of the picture: the last wavelet step doubles once more."""
        return START_SIDE * 2 ** (self.blocks + 1)

    @property
    def num_latents(self) -> int:
        """Rows of a W+ latent: one for every affine map."""
        return 3 * self.blocks + 2

    @cached_property
    def styles(self) -> tuple[StyleRow, ...]:
        """All affine maps in the order of the latents' rows."""
        rows = [("conv1", self.channels[0])]
        for block, width in enumerate(self.channels[1:]):
            before = self.channels[block]
            rows.append((f"layers.{block}.up", before))
            rows.append((f"layers.{block}.conv1", before // BANDS))
            rows.append((f"layers.{block}.conv2", width))
        rows.append(("to_img", self.channels[-1]))
        return tuple(StyleRow(name, row, width) for row, (name, width) in enumerate(rows))

    @cached_property
    def kernels(self) -> tuple[KernelLayer, ...]:
        """Convolutions across channels in order: the first 3x3 one, the 1x1 ones, ``to_img``."""
        first = self.channels[0]
        layers = [KernelLayer("conv1", first, first, 3, START_SIDE)]
        for block, width in enumerate(self.channels[1:]):
            side = START_SIDE * 2 ** (block + 1)
            reduced = self.channels[block] // BANDS
            layers.append(KernelLayer(f"layers.{block}.conv1", reduced, width, 1, side))
            layers.append(KernelLayer(f"layers.{block}.conv2", width, width, 1, side))
        layers.append(
            KernelLayer("to_img", self.channels[-1], BANDS * RGB, 1, self.resolution // 2)
        )
        return tuple(layers)

    @property
    def tunable(self) -> tuple[KernelLayer, ...]:
        """The kernels that runtime weights may replace: all of `kernels`."""
        return self.kernels


class MappingNetwork(nn.Module):
    """Random vectors to latents: z [N,style_width] -> w [N,style_width]."""

    def __init__(self, config: MobileStyleGanConfig) -> None:
        super().__init__()
        width = config.style_width
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(config.mapping_depth))

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + NORM_EPS)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), ACTIVATION_SLOPE) * ACTIVATION_GAIN
        return x


class StyledConv(nn.Module):
    """Scale by the style, depthwise 3x3, pointwise 1x1; noise, bias and leaky ReLU.

    Parameters
    ----------
    layer:
        Its sizes. One whose kernel is not 1x1 has no depthwise part.
    style_width:
        Of w.
    """

    def __init__(self, layer: KernelLayer, style_width: int) -> None:
        super().__init__()
        self.style = nn.Linear(style_width, layer.in_channels)
        if layer.kernel_size == 1:
            self.depthwise = nn.Parameter(torch.randn(layer.in_channels, 1, 3, 3) / 3)
        else:
            self.register_parameter("depthwise", None)
        fan_in = layer.in_channels * layer.kernel_size**2
        self.weight = nn.Parameter(torch.randn(layer.weight_shape) / math.sqrt(fan_in))
        self.noise: Tensor
        self.register_buffer("noise", torch.zeros(1, 1, layer.side, layer.side))
        self.bias = nn.Parameter(torch.zeros(layer.out_channels))

    def forward(self, x: Tensor, w: Tensor, kernel: Tensor | None = None) -> Tensor:
        """X [N or 1,I,h,h], w [N,style_width], kernel [O,I,k,k] or None -> [N,O,h,h]."""
        x = x * self.style(w)[:, :, None, None]
        if self.depthwise is not None:
            x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
        kernel = self.weight if kernel is None else kernel
        x = F.conv2d(x, kernel, self.bias, padding=kernel.shape[-1] // 2)
        return F.leaky_relu(x + self.noise, ACTIVATION_SLOPE)


class WaveletUp(nn.Module):
    """Scale by the style, then double the side by an inverse Haar step."""

    def __init__(self, channels: int, style_width: int) -> None:
        super().__init__()
        self.style = nn.Linear(style_width, channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """X [N,C,h,h], w [N,style_width] -> [N,C/4,2h,2h]."""
        return inverse_haar(x * self.style(w)[:, :, None, None])


class Block(nn.Module):
    """A wavelet step and two separable convolutions at the doubled side."""

    def __init__(self, number: int, config: MobileStyleGanConfig) -> None:
        super().__init__()
        first, second = config.kernels[2 * number + 1], config.kernels[2 * number + 2]
        self.up = WaveletUp(config.channels[number], config.style_width)
        self.conv1 = StyledConv(first, config.style_width)
        self.conv2 = StyledConv(second, config.style_width)


class ToImage(nn.Module):
    """Scale by the style, 1x1 convolution to the picture's wavelet bands, inverse Haar step."""

    def __init__(self, channels: int, style_width: int) -> None:
        super().__init__()
        self.style = nn.Linear(style_width, channels)
        weight = torch.randn(BANDS * RGB, channels, 1, 1) / math.sqrt(channels)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(BANDS * RGB))

    def forward(self, x: Tensor, w: Tensor, kernel: Tensor | None = None) -> Tensor:
        """X [N,C,h,h], w [N,style_width], kernel [12,C,1,1] or None -> [N,3,2h,2h]."""
        x = x * self.style(w)[:, :, None, None]
        return inverse_haar(F.conv2d(x, self.weight if kernel is None else kernel, self.bias))


class PictureHead(nn.Module):
    """Features of a few blocks to a picture of twice their side: an RGB head for a small twin.

    What the missing blocks would have added is no linear map of one place's features, so beside
    `ToImage`'s map there is a narrow path of two 3x3 convolutions.

    Parameters
    ----------
    channels:
        Of the features.
    style_width:
        Of w.
    width:
        Channels of the path.
    """

    def __init__(self, channels: int, style_width: int, width: int = 64) -> None:
        super().__init__()
        self.style = nn.Linear(style_width, channels)
        self.detail_style = nn.Linear(style_width, width)
        self.direct = nn.Conv2d(channels, BANDS * RGB, 1)
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.hidden = nn.Conv2d(width, width, 3, padding=1)
        self.detail = nn.Conv2d(width, BANDS * RGB, 3, padding=1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """X [N,C,h,h], w [N,style_width] -> [N,3,2h,2h]."""
        return inverse_haar(self.bands(x, w))

    def bands(self, x: Tensor, w: Tensor) -> Tensor:
        """The picture's wavelet bands, [N,12,h,h]."""
        x = x * self.style(w)[:, :, None, None]
        y = F.leaky_relu(self.squeeze(x), ACTIVATION_SLOPE)
        y = self.hidden(y * self.detail_style(w)[:, :, None, None])
        return self.direct(x) + self.detail(F.leaky_relu(y, ACTIVATION_SLOPE))


class SynthesisNetwork(nn.Module):
    """Latents to pictures."""

    def __init__(self, config: MobileStyleGanConfig) -> None:
        super().__init__()
        self.config = config
        self.const = nn.Parameter(torch.randn(1, config.channels[0], START_SIDE, START_SIDE))
        self.conv1 = StyledConv(config.kernels[0], config.style_width)
        self.layers = nn.ModuleList(Block(number, config) for number in range(config.blocks))
        self.to_img = ToImage(config.channels[-1], config.style_width)

    def forward(self, latents: Tensor, kernels: Kernels | None = None) -> Tensor:
        """Synthesise with the stored noise.

        Parameters
        ----------
        latents:
            float32 [N,style_width], or W+ [N,num_latents,style_width].
        kernels:
            Those of the stored kernels that others replace.

        Returns
        -------
        Tensor, float32 [N,3,resolution,resolution], about [-1,1].
        """
        rows = self.rows(latents)
        x = self.features(latents, kernels)
        return self.to_img(x, rows[-1], (kernels or {}).get("to_img"))

    def features(
        self, latents: Tensor, kernels: Kernels | None = None, blocks: int | None = None
    ) -> Tensor:
        """Features after the first ``blocks`` blocks (default: all), [N,C,h,h]."""
        rows, kernels = self.rows(latents), kernels or {}
        x = self.conv1(self.const, rows[0], kernels.get("conv1"))
        for number in range(self.config.blocks if blocks is None else blocks):
            block, row = self.layers[number], 3 * number + 1
            x = block.up(x, rows[row])  # type: ignore[operator]
            for at, name in enumerate(("conv1", "conv2"), start=1):
                kernel = kernels.get(f"layers.{number}.{name}")
                x = block.get_submodule(name)(x, rows[row + at], kernel)
        return x

    def rows(self, latents: Tensor) -> tuple[Tensor, ...]:
        """The latent of every affine map, [N,style_width] each."""
        if latents.ndim == 2:
            return (latents,) * self.config.num_latents
        return latents.unbind(1)


class MobileStyleGan(nn.Module):
    """Mapping and synthesis network of one model."""

    def __init__(self, config: MobileStyleGanConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)


def inverse_haar(x: Tensor) -> Tensor:
    """One inverse step of the orthonormal Haar wavelet.

    Parameters
    ----------
    x:
        [N,C,h,w]: C/4 low-pass channels, then for each of them its vertical, horizontal and
        diagonal detail.

    Returns
    -------
    Tensor, [N,C/4,2h,2w].
    """
    count, channels, height, columns = x.shape
    width = channels // BANDS
    low, high = x[:, :width], x[:, width:]
    high = high.reshape(count, width, BANDS - 1, height, columns)
    vertical, horizontal, diagonal = high.unbind(2)
    top, bottom = low + vertical, low - vertical
    right_top, right_bottom = horizontal + diagonal, horizontal - diagonal
    pixels = (top + right_top, top - right_top, bottom + right_bottom, bottom - right_bottom)
    stacked = torch.stack(pixels, dim=2).reshape(count, width, 2, 2, height, columns) * 0.5
    return stacked.permute(0, 1, 4, 2, 5, 3).reshape(count, width, 2 * height, 2 * columns)


def model_from_state(state: Mapping[str, Tensor], config: MobileStyleGanConfig) -> MobileStyleGan:
    """Networks that hold the tensors of a state dict; frozen, in eval mode."""
    with torch.device("meta"):
        model = MobileStyleGan(config)
    model.load_state_dict(dict(state), assign=True)
    return model.eval().requires_grad_(False)
