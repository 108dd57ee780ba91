"""StyleGAN (Karras et al. 2019) as IDInvert publishes it: synthesis with AdaIN, and its mapping.

The modules have the keys of the official files (docs/spec-methods.md, section 1). A layer adds
noise and bias, normalises every feature map and gives it a scale and a shift of its latents; so the
convolutions' kernels are the same for all pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ACTIVATION_SLOPE

START_SIDE = 4
NORM_EPS = 1e-8
MAPPING_LR_MUL = 0.01
TRUNCATION = 0.7  # as published
TRUNCATED_ROWS = 8  # rows of the latents that truncation moves, as published

Noises = Mapping[str, Tensor]
"""Layer name -> the noise [1,1,h,h] that takes the stored one's place."""


@dataclass(frozen=True)
class AdainLayer:
    """One layer of the synthesis network.

    Attributes
    ----------
    index:
        Its number, and the row of the latents that it reads.
    in_channels:
        Of its convolution; 0 for the first layer, which has the constant instead.
    side:
        Of the square feature map it makes.
    upsample:
        Whether it doubles the side.
    is_fused:
        Whether its kernel is stored as that of a transposed convolution, [3,3,I,O].
    """

    index: int
    in_channels: int
    out_channels: int
    side: int
    upsample: bool
    is_fused: bool

    @property
    def name(self) -> str:
        """Key prefix in the file."""
        return f"layer{self.index}"

    @property
    def gain(self) -> float:
        """What the stored kernel is multiplied by: its equalised learning rate."""
        return math.sqrt(2 / (9 * self.in_channels))


@dataclass(frozen=True)
class StyleGan1Config:
    """Sizes of the networks.

    Attributes
    ----------
    channels:
        Width at 4 x 4 pixels, then after every doubling.
    style_width:
        Of z and of a row of the latents.
    mapping_depth:
        Linear layers of the mapping network.
    fused_from:
        Side from which a doubling layer's kernel is stored as that of a transposed convolution.
    """

    channels: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64)
    style_width: int = 512
    mapping_depth: int = 8
    fused_from: int = 128

    @property
    def resolution(self) -> int:
        """Side of the picture."""
        return START_SIDE * 2 ** (len(self.channels) - 1)

    @property
    def num_latents(self) -> int:
        """Rows of W+ latents: one for every layer."""
        return 2 * len(self.channels)

    @cached_property
    def layers(self) -> tuple[AdainLayer, ...]:
        """All layers, in order."""
        layers = []
        for block, width in enumerate(self.channels):
            side = START_SIDE * 2**block
            before = self.channels[block - 1] if block else 0
            fused = block > 0 and side >= self.fused_from
            layers += [
                AdainLayer(2 * block, before, width, side, block > 0, fused),
                AdainLayer(2 * block + 1, width, width, side, False, False),
            ]
        return tuple(layers)


class Dense(nn.Module):
    """A linear layer with equalised learning rate; its bias is stored apart, as ``wscale.bias``."""

    def __init__(self, in_features: int, out_features: int, gain: float, lr_mul: float) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, out_features, bias=False)
        self.wscale = Bias(out_features)
        self.scale, self.lr_mul = lr_mul * gain / math.sqrt(in_features), lr_mul

    def forward(self, x: Tensor) -> Tensor:
        """X [N,I] -> [N,O]."""
        return F.linear(x, self.fc.weight * self.scale, self.wscale.bias * self.lr_mul)


class Bias(nn.Module):
    """What is added to every channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class Convolution(nn.Module):
    """A kernel [O,I,k,k] as it is stored, and no more."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))


class Blur(nn.Module):
    """[1,2,1] low-pass of both axes, every channel by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kernel: Tensor
        self.register_buffer("kernel", blur_kernel().expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        """X [N,C,h,w], the same size."""
        return F.conv2d(x, self.kernel, padding=1, groups=len(self.kernel))


def blur_kernel() -> Tensor:
    """The low-pass filter as files store it, [3,3]; its sum is 1."""
    taps = torch.tensor([1.0, 2.0, 1.0])
    return torch.outer(taps, taps) / 16


class NoiseInput(nn.Module):
    """Noise [1,1,h,h], times a strength of every channel."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.noise: Tensor
        self.register_buffer("noise", torch.randn(1, 1, side, side))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """X [N,C,h,h] with noise."""
        return x + (self.noise if noise is None else noise) * self.weight.view(1, -1, 1, 1)


class StyleModulation(nn.Module):
    """Scale and shift of every channel, an affine map of the latents."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.dense = Dense(width, 2 * channels, 1.0, 1.0)

    def forward(self, x: Tensor, w: Tensor, offsets: Tensor | None) -> Tensor:
        """X [N,C,h,w] of a row of latents [N,W] and what an edit adds to its styles [N,2C]."""
        style = self.dense(w)
        if offsets is not None:
            style = style + offsets
        scale, shift = style[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + shift


class Epilogue(nn.Module):
    """What follows a convolution: noise, bias, leaky ReLU, instance norm, style."""

    def __init__(self, layer: AdainLayer, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(layer.out_channels))
        self.apply_noise = NoiseInput(layer.out_channels, layer.side)
        self.style_mod = StyleModulation(layer.out_channels, width)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, offsets: Tensor | None) -> Tensor:
        """X [N or 1,C,h,h] -> [N,C,h,h]."""
        x = self.apply_noise(x, noise) + self.bias.view(1, -1, 1, 1)
        return self.style_mod(normalised_maps(F.leaky_relu(x, ACTIVATION_SLOPE)), w, offsets)


def normalised_maps(x: Tensor) -> Tensor:
    """Every feature map of [N,C,h,w] with a mean of 0 and a variance of 1."""
    centred = x - x.mean((2, 3), keepdim=True)
    return centred / torch.sqrt(centred.square().mean((2, 3), keepdim=True) + NORM_EPS)


class Layer(nn.Module):
    """Convolution and epilogue; the first has a constant in the convolution's place."""

    def __init__(self, spec: AdainLayer, width: int) -> None:
        super().__init__()
        self.spec = spec
        if not spec.in_channels:
            self.const = nn.Parameter(torch.randn(1, spec.out_channels, spec.side, spec.side))
        elif spec.is_fused:
            self.weight = nn.Parameter(torch.randn(3, 3, spec.in_channels, spec.out_channels))
        else:
            self.conv = Convolution(spec.in_channels, spec.out_channels, 3)
        if spec.upsample:
            self.blur = Blur(spec.out_channels)
        self.epilogue = Epilogue(spec, width)

    def forward(
        self, x: Tensor | None, w: Tensor, noise: Tensor | None, offsets: Tensor | None
    ) -> Tensor:
        """X [N,I,h,h], None for the first layer -> [N,O,side,side]."""
        x = self.const if x is None else self._convolved(x)
        return self.epilogue(x, w, noise, offsets)

    def _convolved(self, x: Tensor) -> Tensor:
        if self.spec.is_fused:
            kernel = spread_kernel(self.weight.permute(2, 3, 0, 1) * self.spec.gain)
            return self.blur(F.conv_transpose2d(x, kernel, stride=2, padding=1))
        if self.spec.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.conv2d(x, self.conv.weight, padding=1) * self.spec.gain
        return self.blur(x) if self.spec.upsample else x


def spread_kernel(kernel: Tensor) -> Tensor:
    """A kernel [I,O,3,3] of a transposed convolution -> [I,O,4,4], where each value is repeated."""
    shifted = [F.pad(kernel, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
    return shifted[0] + shifted[1] + shifted[2] + shifted[3]


class Output(nn.Module):
    """Features -> RGB. Only the last one is used; the others are of the growing in training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(channels, 3, 1)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        """X [N,C,h,w] -> [N,3,h,w] in [-1,1]."""
        scale = 1 / math.sqrt(self.conv.weight.shape[1])
        return torch.tanh(F.conv2d(x, self.conv.weight * scale, self.bias))


class Synthesis(nn.Module):
    """Latents -> picture."""

    def __init__(self, config: StyleGan1Config) -> None:
        super().__init__()
        self.config = config
        self.lod: Tensor
        self.register_buffer("lod", torch.zeros(()))
        for spec in config.layers:
            self.add_module(spec.name, Layer(spec, config.style_width))
        for block, width in enumerate(config.channels):
            self.add_module(f"output{block}", Output(width))

    def forward(
        self, latents: Tensor, noises: Noises | None = None, style_offsets: Tensor | None = None
    ) -> Tensor:
        """Latents [N,L,W] -> pictures [N,3,S,S] in [-1,1].

        Parameters
        ----------
        noises:
            Layer name -> noise in place of the stored.
        style_offsets:
            [1 or N,S]: added to the styles of all layers after one another, a layer's scales before
            its shifts.
        """
        widths = [2 * spec.out_channels for spec in self.config.layers]
        offsets: Sequence[Tensor | None] = [None] * len(widths)
        if style_offsets is not None:
            offsets = torch.split(style_offsets, widths, dim=1)
        x: Tensor | None = None
        for spec in self.config.layers:
            noise = None if noises is None else noises.get(spec.name)
            layer = self.get_submodule(spec.name)
            x = layer(x, latents[:, spec.index], noise, offsets[spec.index])
        picture: Tensor = self.get_submodule(f"output{len(self.config.channels) - 1}")(x)
        return picture


class MappingNetwork(nn.Module):
    """Random vectors -> latents, with a row of their own for every layer."""

    def __init__(self, config: StyleGan1Config) -> None:
        super().__init__()
        self.config = config
        for number in range(config.mapping_depth):
            is_last = number == config.mapping_depth - 1
            rows = config.num_latents if is_last else 1
            dense = Dense(
                config.style_width, rows * config.style_width, math.sqrt(2), MAPPING_LR_MUL
            )
            self.add_module(f"dense{number}", dense)

    def forward(self, z: Tensor) -> Tensor:
        """Z [N,W] of any length -> w [N,L,W]."""
        x = z / torch.sqrt(z.square().mean(1, keepdim=True) + NORM_EPS)
        for number in range(self.config.mapping_depth):
            x = F.leaky_relu(self.get_submodule(f"dense{number}")(x), ACTIVATION_SLOPE)
        return x.view(-1, self.config.num_latents, self.config.style_width)


class Truncation(nn.Module):
    """The average latent [W] that pictures of random vectors are drawn towards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w_avg: Tensor
        self.register_buffer("w_avg", torch.zeros(width))


class StyleGan1(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, config: StyleGan1Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.truncation = Truncation(config.style_width)
        self.synthesis = Synthesis(config)

    def truncated(self, latents: Tensor) -> Tensor:
        """Latents [N,L,W] of the mapping network, the first rows drawn towards the average."""
        average = self.truncation.w_avg
        rows = torch.arange(latents.shape[1]).view(1, -1, 1)
        drawn = average + TRUNCATION * (latents - average)
        return torch.where(rows < TRUNCATED_ROWS, drawn, latents)
