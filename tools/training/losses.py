"""Losses between pictures, float32 [B,3,h,w] in [-1,1]; every loss gives one value a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.lpips import Lpips
from torch import Tensor

MIN_LPIPS_SIDE = 64  # AlexNet's last features need about that


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference, [B]."""
    return (x - y).abs().mean((1, 2, 3))


def l2(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference, [B]."""
    return (x - y).square().mean((1, 2, 3))


def gradient_l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference of the differences to the pixel below and to the right, [B]."""
    difference = x - y
    down = difference[:, :, 1:] - difference[:, :, :-1]
    right = difference[:, :, :, 1:] - difference[:, :, :, :-1]
    return down.abs().mean((1, 2, 3)) + right.abs().mean((1, 2, 3))


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, peak 2, [B]."""
    return 10 * torch.log10(4 / l2(x, y).clamp(min=1e-10))


class Perceptual:
    """LPIPS as a loss: features in the dtype asked for, small pictures enlarged.

    Parameters
    ----------
    lpips:
        The network.
    dtype:
        Of its convolutions.
    """

    def __init__(self, lpips: Lpips, dtype: torch.dtype) -> None:
        self.lpips = lpips
        self._dtype = dtype

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances [B]; gradients flow to `x` alone."""
        of_x = self._features(x)
        with torch.no_grad():
            of_y = self._features(y)
        return self.lpips.distance(of_x, of_y)

    def _features(self, x: Tensor) -> list[Tensor]:
        if min(x.shape[2:]) < MIN_LPIPS_SIDE:
            factor = MIN_LPIPS_SIDE / min(x.shape[2:])
            x = F.interpolate(x, scale_factor=factor, mode="bilinear")
        enabled = self._dtype != torch.float32
        with torch.autocast(x.device.type, self._dtype, enabled=enabled):
            return self.lpips.features(x)
