"""First stages of dlib's face recognition network, over the inner part of an aligned face.

A ResNet of plain 3x3 convolutions that was trained to tell people apart, on real photographs: what
a network trained on objects does not look at in a face, it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHIP_SIDE = 150
# Where dlib's face chip lies in an FFHQ crop (share of its side): its mean face has the eyes at
# 0.31 and 0.44 apart, FFHQ's at 0.47 and 0.25 apart.
CHIP_TOP, CHIP_LEFT, CHIP_SHARE = 0.296, 0.217, 0.566
MEAN_RGB = (122.782, 117.001, 104.298)
STEM_SIZE, STEM_POOL = 7, 3
POOL = 2  # of a block that halves the side, and of the features


@dataclass(frozen=True)
class FaceTrunkConfig:
    """Sizes of the trunk.

    Attributes
    ----------
    side:
        Of the square picture of which the chip is cut.
    widths, blocks:
        Channels and number of blocks of every stage. All stages but the first halve the side.
    """

    side: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]

    def block_sizes(self) -> tuple[tuple[int, int, bool], ...]:
        """Of every block: channels before, channels after, whether it halves the side."""
        sizes, before = [], self.widths[0]
        for stage, (width, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for number in range(count):
                sizes.append((before, width, stage > 0 and number == 0))
                before = width
        return tuple(sizes)

    @property
    def feature_width(self) -> int:
        """Numbers that describe a picture."""
        side = (CHIP_SIDE - STEM_SIZE) // 2 + 1
        side = (side - STEM_POOL) // 2 + 1
        for _ in self.widths[1:]:
            side //= POOL
        return int(self.widths[-1] * (side // POOL) ** 2)


class FaceTrunk(nn.Module):
    """Aligned face to features."""

    def __init__(self, config: FaceTrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(3, config.widths[0], STEM_SIZE, 2)
        self.blocks = nn.ModuleList(FaceBlock(*sizes) for sizes in config.block_sizes())
        span = round(CHIP_SHARE * config.side)
        self.rows: Tensor
        self.columns: Tensor
        self.mean: Tensor
        rows = _sampling(config.side, round(CHIP_TOP * config.side), span)
        columns = _sampling(config.side, round(CHIP_LEFT * config.side), span).T.contiguous()
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        mean = (torch.tensor(MEAN_RGB) - 127.5) / 127.5
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Image [N,3,side,side] in [-1,1] -> features [N,feature_width]."""
        chip = self.rows @ image @ self.columns
        x = F.relu(self.stem((chip - self.mean) * (127.5 / 256)))
        x = F.max_pool2d(x, STEM_POOL, 2)
        for block in self.blocks:
            x = block(x)
        return F.avg_pool2d(x, POOL).flatten(1)


class FaceBlock(nn.Module):
    """Two convolutions beside the identity, whose new channels are zeros."""

    def __init__(self, before: int, after: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        first = (POOL, 0) if halves else (1, 1)
        self.conv1 = nn.Conv2d(before, after, 3, *first)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """X [N,I,h,h] -> [N,O,h,h], or of half the side."""
        y = self.conv2(F.relu(self.conv1(x)))
        if self.halves:
            x = F.avg_pool2d(x, POOL)
            missing = x.shape[2] - y.shape[2]  # the convolution pads nothing: one where h is even
            y = F.pad(y, (0, missing, 0, missing))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


def _sampling(side: int, first: int, span: int) -> Tensor:
    """What enlarges `span` of `side` pixels to the chip's, bilinearly: [CHIP_SIDE,side]."""
    matrix = np.zeros((CHIP_SIDE, side))
    place = np.clip((np.arange(CHIP_SIDE) + 0.5) * span / CHIP_SIDE - 0.5, 0, span - 1)
    low = np.minimum(place.astype(int), span - 2)
    matrix[np.arange(CHIP_SIDE), first + low] = low + 1 - place
    matrix[np.arange(CHIP_SIDE), first + low + 1] = place - low
    return torch.from_numpy(matrix.astype(np.float32))
