"""What descent minimises: the twin of the graphs of `graphs/objective`; and channel offsets.

Three terms: pixels, structure, and a perceptual one. A refinement has all of them in weight 1 and
moves HyperStyle's weight offsets only, after Pivotal Tuning Inversion (Roich et al. 2022), where
the latents stay and the generator's weights follow one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import HyperStyleConfig
from .generator import Offsets
from .hyperstyle import HyperStyle
from .lpips import Lpips, masked

# What the terms are made of; all are mean squares of pictures in [-1,1] but the perceptual one.
SCALES = ((2, 1.0), (4, 1.0), (8, 1.0))  # (window of the mean, weight): tones before details
EDGES = 1.0
ENCODER_WEIGHT = 0.25  # each tensor of features is measured in units of its own mean square
LPIPS_WEIGHT = 0.3  # pivotal tuning has 1 beside pixels alone: here that costs 2 dB of PSNR

FEATURE_GROUPS = 4  # groups of the encoder's trunk whose last unit the perceptual term compares
FEATURE_POOL = 2  # pixels a side that become one before: a quarter of the time


def feature_units(config: HyperStyleConfig) -> list[int]:
    """Number of units passed where the encoder's features are taken: 0 is after the stem."""
    units = [0]
    for _, count in config.encoder.trunk.groups[:FEATURE_GROUPS]:
        units.append(units[-1] + count)
    return units


class PerceptualTerm(Protocol):
    """What pictures [1,3,h,w] of the encoder's input size are compared by, besides pixels."""

    def features(self, picture: Tensor) -> list[Tensor]:
        """[1,C,h',w'] each."""
        ...

    def loss(
        self, seen: Sequence[Tensor], wanted: Sequence[Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """The term, of the features of the image's reconstruction and of the target.

        Parameters
        ----------
        mask:
            [1,1,H,W] of any size: averaged to that of each feature, what the differences are
            multiplied by.
        """
        ...


class EncoderTerm:
    """Features after the encoder's stem and the last units of its first groups.

    Edges, texture, parts: they need no further weights. With fewer groups, or a smaller weight,
    60 steps at 128 pixels trade texture for pixels: PSNR rises, and LPIPS as well.
    """

    def __init__(self, model: HyperStyle) -> None:
        self._model = model

    def features(self, picture: Tensor) -> list[Tensor]:
        """See :class:`PerceptualTerm`."""
        wanted, encoder = feature_units(self._model.config), self._model.encoder
        x = encoder.input_layer(F.avg_pool2d(picture, FEATURE_POOL))
        found = [x]
        for passed, unit in enumerate(list(encoder.body)[: wanted[-1]], 1):
            x = unit(x)
            if passed in wanted:
                found.append(x)
        return found

    def loss(
        self, seen: Sequence[Tensor], wanted: Sequence[Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """Weighted sum of mean squares, each in units of the target's."""
        terms = []
        for one, aim in zip(seen, wanted, strict=True):
            difference = masked(one - aim, mask)
            terms.append(difference.square().mean() / aim.square().mean())
        return ENCODER_WEIGHT * torch.stack(terms).sum()


class LpipsTerm:
    """LPIPS, of weights that a user has."""

    def __init__(self, lpips: Lpips) -> None:
        self._lpips = lpips

    def features(self, picture: Tensor) -> list[Tensor]:
        """See :class:`PerceptualTerm`."""
        return self._lpips.features(picture)

    def loss(
        self, seen: Sequence[Tensor], wanted: Sequence[Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """The weighted distance."""
        return LPIPS_WEIGHT * self._lpips.distance(seen, wanted, mask).mean()


def loss_terms(
    image: Tensor, target: Tensor, perceptual: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean square of pixels; of means over windows and of edges; the perceptual term: [3].

    A loss is their sum in some weights, all of them 1 for a refinement.

    Parameters
    ----------
    image, target:
        [1,3,H,W], RGB in [-1,1].
    perceptual:
        A scalar, the loss of a :class:`PerceptualTerm` in the same mask.
    mask:
        [1,1,H,W], what the difference of the pictures is multiplied by.
    """
    difference = masked(image - target, mask)
    structure = torch.zeros(())
    height, width = difference.shape[2:]
    for window, weight in SCALES:
        if height % window == 0 and width % window == 0:
            structure = structure + weight * F.avg_pool2d(difference, window).square().mean()
    for axis in (2, 3):
        structure = structure + EDGES * difference.diff(dim=axis).square().mean()
    return torch.stack([difference.square().mean(), structure, perceptual])


def channel_offset_count(config: HyperStyleConfig) -> int:
    """P: pairs of output and input channel in all tuned layers."""
    return sum(layer.out_channels * layer.in_channels for layer in config.tuned)


def add_channel_offsets(
    config: HyperStyleConfig, offsets: Offsets, channel_offsets: Tensor
) -> dict[int, Tensor]:
    """Channel offsets [P] added to the weight offsets [1,O,I,k,k] of every tuned layer."""
    sizes = [layer.out_channels * layer.in_channels for layer in config.tuned]
    return {
        layer.index: offsets[layer.index]
        + part.view(1, layer.out_channels, layer.in_channels, 1, 1)
        for layer, part in zip(config.tuned, torch.split(channel_offsets, sizes), strict=True)
    }
