"""Encoder of the photographic generator: features of trained networks, and one linear layer.

It reads a picture by two small networks that were trained on real photographs: the first layers of
AlexNet (in the weights that LPIPS compares pictures in; the later ones add next to nothing) and the
first stages of dlib's face recognition network. On such features some thousand pictures suffice for
a linear map to latents, even with the trunks as they are: then it is ridge regression. Features are
flattened rather than averaged, because where something is matters as much for a latent as what is
there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .face_trunk import FaceTrunk, FaceTrunkConfig
from .lpips import ALEXNET, MEAN, POOL_STRIDE, STD, BackboneLayer

LAYERS = ALEXNET[:2]


@dataclass(frozen=True)
class FeaturesConfig:
    """Sizes of what reads a picture.

    Attributes
    ----------
    side:
        Of the square picture that is read; larger ones are averaged to it.
    widths:
        Of AlexNet's first two convolutions.
    pixel_cell, coarse_cell:
        Side of the squares over which the picture, and the second convolution's features, are
        averaged before they are flattened.
    face_widths, face_blocks:
        Of the face network's stages, see `FaceTrunkConfig`.
    """

    side: int = 128
    widths: tuple[int, int] = (64, 192)
    pixel_cell: int = 4
    coarse_cell: int = 3
    face_widths: tuple[int, ...] = (32, 64, 128)
    face_blocks: tuple[int, ...] = (3, 4, 3)

    @property
    def face(self) -> FaceTrunkConfig:
        """Sizes of the face network."""
        return FaceTrunkConfig(self.side, self.face_widths, self.face_blocks)

    @property
    def coarse_side(self) -> int:
        """Side of AlexNet's features."""
        side = self.side
        for layer in LAYERS:
            if layer.pool:
                side = (side - layer.pool) // POOL_STRIDE + 1
            side = (side + 2 * layer.padding - layer.size) // layer.stride + 1
        return side

    @property
    def feature_widths(self) -> tuple[int, int, int]:
        """How many numbers come from pixels, AlexNet and the face."""
        pixels = 3 * (self.side // self.pixel_cell) ** 2
        coarse = self.widths[-1] * (self.coarse_side // self.coarse_cell) ** 2
        return pixels, coarse, self.face.feature_width


class PictureFeatures(nn.Module):
    """Picture -> features."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList()
        before = 3
        for layer, width in zip(LAYERS, config.widths, strict=True):
            self.convs.append(nn.Conv2d(before, width, layer.size, layer.stride, layer.padding))
            before = width
        self.face = FaceTrunk(config.face)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Image [N,3,h,h] in [-1,1], h a multiple of the side -> [N, sum of feature widths]."""
        config = self.config
        if image.shape[-1] != config.side:
            image = F.avg_pool2d(image, image.shape[-1] // config.side)
        flat = [F.avg_pool2d(image, config.pixel_cell).flatten(1)]
        x = (image - self.mean) / self.std
        for conv, layer in zip(self.convs, LAYERS, strict=True):
            x = _activated(x, conv, layer)
        flat.append(F.avg_pool2d(x, config.coarse_cell).flatten(1))
        return torch.cat([*flat, self.face(image)], dim=1)


class LatentEncoder(nn.Module):
    """Picture -> w relative to the average latent."""

    def __init__(self, config: FeaturesConfig, style_width: int) -> None:
        super().__init__()
        self.features = PictureFeatures(config)
        self.latent = nn.Linear(sum(config.feature_widths), style_width)

    def forward(self, image: Tensor) -> Tensor:
        """Image [N,3,h,h] in [-1,1], h a multiple of the side -> w - average [N,style_width]."""
        latent: Tensor = self.latent(self.features(image))
        return latent


def _activated(x: Tensor, conv: nn.Module, layer: BackboneLayer) -> Tensor:
    if layer.pool:
        x = F.max_pool2d(x, layer.pool, POOL_STRIDE)
    return F.relu(conv(x))
