"""IDInvert (Zhu et al. 2020): its encoder, and what one bundle of it is made of.

The encoder's modules have the keys of the official files (docs/spec-methods.md, section 1). What it
gives are W+ latents as they are: no average is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ACTIVATION_SLOPE
from .lpips import Lpips
from .stylegan1 import START_SIDE, Bias, Convolution, StyleGan1
from .vgg16 import Vgg16Features

POOL = 2  # pixels a side that become one before every residual block


@dataclass(frozen=True)
class IdInvertEncoderConfig:
    """Sizes of the encoder.

    Attributes
    ----------
    channels:
        Width of the first block, then of every residual block; the last has 4 x 4 pixels.
    num_latents, style_width:
        L and W.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024, 1024)
    num_latents: int = 14
    style_width: int = 512

    @property
    def resolution(self) -> int:
        """Side of the pictures."""
        return START_SIDE * POOL ** (len(self.channels) - 1)

    @property
    def last(self) -> str:
        """Key prefix of the linear layer."""
        return f"block{len(self.channels)}"


class Norm(nn.Module):
    """Batch normalisation, one module deeper in the keys."""

    def __init__(self, channels: int, *, flat: bool = False) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels) if flat else nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,C,...]."""
        normal: Tensor = self.bn(x)
        return normal


class FirstBlock(nn.Module):
    """Convolution, normalisation, leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(3, channels, 3)
        self.bn = Norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,3,h,w] -> [N,C,h,w]."""
        x = F.conv2d(x, self.conv.weight, padding=1)
        return F.leaky_relu(self.bn(x), ACTIVATION_SLOPE)


class ResidualBlock(nn.Module):
    """Means over 2 x 2 pixels, then two convolutions beside a short cut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels != out_channels:
            self.conv = Convolution(in_channels, out_channels, 1)
            self.bn = Norm(out_channels)
        inner = min(in_channels, out_channels)
        self.changes_width = in_channels != out_channels
        self.conv1 = Convolution(in_channels, inner, 3)
        self.wscale1, self.bn1 = Bias(inner), Norm(inner)
        self.conv2 = Convolution(inner, out_channels, 3)
        self.wscale2, self.bn2 = Bias(out_channels), Norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,I,h,w] -> [N,O,h/2,w/2]."""
        x = y = F.avg_pool2d(x, POOL)
        if self.changes_width:
            y = F.leaky_relu(self.bn(F.conv2d(x, self.conv.weight)), ACTIVATION_SLOPE)
        for conv, bias, norm in (
            (self.conv1, self.wscale1, self.bn1),
            (self.conv2, self.wscale2, self.bn2),
        ):
            x = F.conv2d(x, conv.weight, bias.bias, padding=1)
            x = F.leaky_relu(norm(x), ACTIVATION_SLOPE)
        return x + y


class LastBlock(nn.Module):
    """A linear layer with equalised learning rate, and normalisation."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, out_features, bias=False)
        self.bn = Norm(out_features, flat=True)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,C,4,4] -> [N,O]."""
        x = F.linear(x.flatten(1), self.fc.weight) / math.sqrt(self.fc.in_features)
        normal: Tensor = self.bn(x)
        return normal


class IdInvertEncoder(nn.Module):
    """Picture -> W+ latents."""

    def __init__(self, config: IdInvertEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.block0 = FirstBlock(channels[0])
        for number, (before, after) in enumerate(pairwise(channels), 1):
            self.add_module(f"block{number}", ResidualBlock(before, after))
        size = config.num_latents * config.style_width
        self.add_module(config.last, LastBlock(channels[-1] * START_SIDE**2, size))

    def forward(self, target: Tensor) -> Tensor:
        """Pictures [N,3,S,S] in [-1,1] -> latents [N,L,W]."""
        x = target
        for number in range(len(self.config.channels) + 1):
            x = self.get_submodule(f"block{number}")(x)
        return x.view(-1, self.config.num_latents, self.config.style_width)


@dataclass(frozen=True, eq=False)
class IdInvertModel:
    """The networks of a bundle.

    Attributes
    ----------
    generator:
        Mapping and synthesis.
    encoder:
        Pictures of the generator's size -> latents.
    perceptual:
        Of the optimisation: VGG16's features as published, or LPIPS; None for a bundle without.
    """

    generator: StyleGan1
    encoder: IdInvertEncoder
    perceptual: Vgg16Features | Lpips | None = None

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the pictures the encoder reads."""
        return (self.encoder.config.resolution,) * 2

    @property
    def average(self) -> Tensor:
        """Average latent, [L,W]."""
        rows = self.generator.config.num_latents
        return self.generator.truncation.w_avg.expand(rows, -1)

    @torch.no_grad()
    def invert(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Targets [N,3,S,S] in [-1,1] -> latents [N,L,W] by the encoder, pictures [N,3,S,S]."""
        latents = self.encoder(target)
        return latents, self.generator.synthesis(latents)


def encoder_term(encoder: IdInvertEncoder, latents: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean square of latents [1,L,W] minus what the encoder finds in their picture: a scalar."""
    return (latents - encoder(reconstruction)).square().mean()
