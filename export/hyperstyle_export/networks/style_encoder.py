"""Encoders of pSp, e4e and ReStyle: picture -> latents of W+ (docs/spec.md, sections 5.3 to 5.5).

They differ in three things: the trunk (IR-SE50 or ResNet-34), where each row of the latents is read
from (a feature pyramid, the last feature map, its mean) and whether the rows are independent or
offsets from the first one. The official classes are named in :mod:`.encoder_kinds`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import StyleEncoderConfig
from .encoder import ir_se_body
from .hypernetwork import resnet_body
from .layers import EqualLinear

STYLE_SLOPE = 0.01  # of the leaky ReLUs in a style block


class StyleBlock(nn.Module):
    """Feature map -> one row of the latents ("GradualStyleBlock")."""

    def __init__(self, in_channels: int, width: int, depth: int) -> None:
        super().__init__()
        convs: list[nn.Module] = []
        for number in range(depth):
            convs.append(nn.Conv2d(width if number else in_channels, width, 3, 2, 1))
            convs.append(nn.LeakyReLU(STYLE_SLOPE))
        self.convs = nn.Sequential(*convs)
        self.linear = EqualLinear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[B,C,h,w] -> [B,W]; the convolutions must have reduced the features to one pixel."""
        x = self.convs(features)
        assert x.shape[2:] == (1, 1), f"style block ends at {tuple(x.shape[2:])}"
        return self.linear(x.flatten(1))


class StyleEncoder(nn.Module):
    """Pictures -> latents relative to the average, or to those of the iteration before."""

    def __init__(self, config: StyleEncoderConfig) -> None:
        super().__init__()
        self.config = config
        trunk, width = config.trunk, config.style_width
        if config.body == "ir_se":
            self.input_layer = nn.Sequential(
                nn.Conv2d(config.in_channels, trunk.stem_width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(trunk.stem_width),
                nn.PReLU(trunk.stem_width),
            )
            self.body = ir_se_body(trunk, config.se_reduction)
        else:
            self.conv1 = nn.Conv2d(config.in_channels, trunk.stem_width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(trunk.stem_width)
            self.relu = nn.PReLU(trunk.stem_width)
            self.body = resnet_body(trunk)
        if config.head == "mean":
            self.linear = EqualLinear(trunk.out_width, width)
            return
        self.styles = nn.ModuleList(
            StyleBlock(trunk.out_width, width, depth) for depth in config.block_depths
        )
        if config.head == "pyramid":
            fine, middle, _ = (channels for channels, _ in trunk.groups[-3:])
            self.latlayer1 = nn.Conv2d(middle, trunk.out_width, 1)
            self.latlayer2 = nn.Conv2d(fine, trunk.out_width, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B,C,h,w] -> latents [B,L,W], without what they are relative to.

        With the head ``mean`` all rows are one vector.
        """
        groups = self.groups(pictures)
        config = self.config
        if config.head == "mean":
            w = self.linear(groups[-1].mean(dim=(2, 3)))
            return w[:, None].expand(-1, config.num_latents, -1)
        levels = self.levels(groups)
        rows = [
            block(levels[level])
            for block, level in zip(self.styles, config.row_levels, strict=True)
        ]
        if config.is_progressive:
            rows = [rows[0], *(rows[0] + row for row in rows[1:])]
        return torch.stack(rows, dim=1)

    def groups(self, pictures: Tensor) -> list[Tensor]:
        """Feature maps after every group of the trunk, each half as large as the one before."""
        if self.config.body == "ir_se":
            x = self.input_layer(pictures)
        else:
            x = self.relu(self.bn1(self.conv1(pictures)))
        found, units = [], iter(self.body)
        for _, count in self.config.trunk.groups:
            for _ in range(count):
                x = next(units)(x)
            found.append(x)
        return found

    def levels(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """What style blocks read, coarsest first: the last feature map, or a pyramid of three."""
        if self.config.head != "pyramid":
            return [groups[-1]]
        *_, fine, middle, coarse = groups
        middle = _upsampled(coarse, middle) + self.latlayer1(middle)
        fine = _upsampled(middle, fine) + self.latlayer2(fine)
        return [coarse, middle, fine]


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
