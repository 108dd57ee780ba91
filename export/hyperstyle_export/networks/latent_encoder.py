"""Encoder of the photographic generator: AlexNet's trunk, flattened, and one linear layer.

The cheapest network that does it. AlexNet's weights (those that LPIPS compares pictures in) are a
start that a few thousand pictures suffice to build on, even frozen: then the linear layer is ridge
regression. Its plain convolutions run fast on every backend. Features are flattened rather than
averaged, because where something is matters as much for a latent as what is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lpips import ALEXNET, MEAN, POOL_STRIDE, STD, BackboneLayer

KERNEL_SIZES = (11, 5, 3, 3, 3)
COARSE_LAYER = 1  # whose features are read too, averaged over cells


@dataclass(frozen=True)
class LatentEncoderConfig:
    """Sizes of the encoder.

    Attributes
    ----------
    side:
        Of the square picture that is read; larger ones are averaged to it.
    widths:
        Of the five convolutions.
    pixel_cell, coarse_cell:
        Side of the squares over which the picture, and the second convolution's features, are
        averaged before they are flattened.
    style_width:
        Of w.
    """

    side: int = 128
    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    pixel_cell: int = 8
    coarse_cell: int = 3
    style_width: int = 512

    def map_sides(self) -> tuple[int, ...]:
        """Side of the features of every convolution."""
        side, sides = self.side, []
        for layer, kernel in zip(ALEXNET, KERNEL_SIZES, strict=True):
            if layer.pool:
                side = (side - layer.pool) // POOL_STRIDE + 1
            side = (side + 2 * layer.padding - kernel) // layer.stride + 1
            sides.append(side)
        return tuple(sides)

    @property
    def feature_widths(self) -> tuple[int, int, int]:
        """How many numbers come from pixels, the second convolution and the last."""
        sides = self.map_sides()
        pixels = 3 * (self.side // self.pixel_cell) ** 2
        coarse = self.widths[COARSE_LAYER] * (sides[COARSE_LAYER] // self.coarse_cell) ** 2
        return pixels, coarse, self.widths[-1] * sides[-1] ** 2


class LatentEncoder(nn.Module):
    """Picture -> w relative to the average latent."""

    def __init__(self, config: LatentEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList()
        before = 3
        for layer, kernel, width in zip(ALEXNET, KERNEL_SIZES, config.widths, strict=True):
            self.convs.append(nn.Conv2d(before, width, kernel, layer.stride, layer.padding))
            before = width
        self.latent = nn.Linear(sum(config.feature_widths), config.style_width)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Image [N,3,h,h] in [-1,1], h a multiple of the side -> w - average [N,style_width]."""
        return self.latent(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """What the linear layer reads: pixels, coarse and last features, [N, sum of widths]."""
        config = self.config
        if image.shape[-1] != config.side:
            image = F.avg_pool2d(image, image.shape[-1] // config.side)
        flat = [F.avg_pool2d(image, config.pixel_cell).flatten(1)]
        x = (image - self.mean) / self.std
        for number, (conv, layer) in enumerate(zip(self.convs, ALEXNET, strict=True)):
            x = _activated(x, conv, layer)
            if number == COARSE_LAYER:
                flat.append(F.avg_pool2d(x, config.coarse_cell).flatten(1))
        return torch.cat([*flat, x.flatten(1)], dim=1)


def _activated(x: Tensor, conv: nn.Module, layer: BackboneLayer) -> Tensor:
    if layer.pool:
        x = F.max_pool2d(x, layer.pool, POOL_STRIDE)
    return F.relu(conv(x))
