"""StyleGAN2's residual discriminator, for the adversarial phase."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.layers import EqualLinear, fused_leaky_relu
from torch import Tensor, nn

STDDEV_GROUP = 4  # pictures whose spread the last layers are told


class EqualConv(nn.Module):
    """Convolution with equalised learning rate and fused leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        """[B,I,h,w] -> [B,O,h,w]."""
        x = F.conv2d(x, self.weight * self.scale, padding=self.weight.shape[-1] // 2)
        return fused_leaky_relu(x, self.bias.to(x.dtype))


class DownBlock(nn.Module):
    """Two convolutions and a 2x2 mean beside a straight path of the same."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = EqualConv(in_channels, in_channels, 3)
        self.second = EqualConv(in_channels, out_channels, 3)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B,I,h,w] -> [B,O,h/2,w/2]."""
        changed = F.avg_pool2d(self.second(self.first(x)), 2)
        return (changed + self.skip(F.avg_pool2d(x, 2))) / math.sqrt(2)


class Discriminator(nn.Module):
    """Picture -> logit, large for real ones.

    Parameters
    ----------
    channels:
        Widths at 4, 8, ... px, as a generator's.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = EqualConv(3, channels[-1], 1)
        falling = channels[::-1]
        self.blocks = nn.Sequential(*(DownBlock(a, b) for a, b in itertools.pairwise(falling)))
        self.last = EqualConv(channels[0] + 1, channels[0], 3)
        self.hidden = EqualLinear(channels[0] * 16, channels[0], activation=True)
        self.logit = EqualLinear(channels[0], 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B,3,S,S] in [-1,1] -> [B]."""
        x = self.blocks(self.stem(pictures)).float()
        x = self.last(torch.cat([x, _spread(x)], 1))
        return self.logit(self.hidden(x.flatten(1)))[:, 0]


def _spread(x: Tensor) -> Tensor:
    """Mean standard deviation within groups of pictures, as one more channel [B,1,h,w]."""
    group = math.gcd(len(x), STDDEV_GROUP)
    grouped = x.view(group, -1, *x.shape[1:])
    deviation = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
    return deviation.repeat(group, 1, *x.shape[2:])
