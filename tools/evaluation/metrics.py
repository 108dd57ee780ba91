"""Distances of pictures, as the HyperStyle family defines them (spec section 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
STABILISERS = (0.01, 0.03)  # K1, K2 of Wang et al. 2004
MEDIANS = ("seconds", "distance")
SSIM_SIDE = 256  # the official side; five scales of an 11 x 11 window need at least 176


def average(name: str, values: Sequence[float] | NDArray[np.float64]) -> float:
    """Of a figure over pictures: of seconds and of distances of faces the median, else the mean.

    NaN (MS-SSIM of pictures whose contrast is opposite) is left out; NaN if no figure is left.
    """
    known = np.asarray(values)
    known = known[~np.isnan(known)]
    if not len(known):
        return math.nan
    return float(np.median(known) if name in MEDIANS else known.mean())


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of pictures [B,3,h,w] in [-1,1], [B]: the family's L2."""
    return (a - b).square().flatten(1).mean(1)


def distance_of(cosines: Tensor) -> Tensor:
    """Euclidean distances of unit embeddings with these cosines, of any shape.

    Of dlib's network .6 is where its authors tell two people apart.
    """
    return (2 - 2 * cosines).clamp(min=0).sqrt()


def psnr(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of mean squared errors on [-1,1], whose range is 2."""
    return 10 * torch.log10(4 / error)


def ms_ssim(first: Tensor, second: Tensor) -> float:
    """Multi-scale structural similarity of two pictures [1,3,h,w], h and w at least 176.

    As the official script computes it, with its quirk: the range of values is read off the first
    picture at every scale (2 if it goes below -0.5, else 1; 255 above 128), so the measure is not
    symmetric. NaN where the contrast of a scale is opposite; the official average leaves NaN out.
    """
    kernel = _gaussian().to(first)
    value = 1.0
    last = len(SCALE_WEIGHTS) - 1
    for scale, weight in enumerate(SCALE_WEIGHTS):
        similarity, contrast = _ssim(first, second, kernel)
        factor = similarity if scale == last else contrast
        value *= factor**weight if factor >= 0 else math.nan
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return value


def _gaussian() -> Tensor:
    """The window for three channels apart, [3,1,WINDOW,WINDOW]."""
    x = torch.arange(WINDOW) - WINDOW // 2
    line = torch.exp(-x.square() / (2 * SIGMA**2))
    line /= line.sum()
    return (line[:, None] * line).expand(3, 1, WINDOW, WINDOW)


def _ssim(first: Tensor, second: Tensor, kernel: Tensor) -> tuple[float, float]:
    """Mean similarity, and its factor of contrast and structure."""

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=3)

    low = -1 if first.min() < -0.5 else 0
    high = 255 if first.max() > 128 else 1
    c1, c2 = ((k * (high - low)) ** 2 for k in STABILISERS)
    mean1, mean2 = mean(first), mean(second)
    variance1, variance2 = mean(first * first) - mean1**2, mean(second * second) - mean2**2
    covariance = mean(first * second) - mean1 * mean2
    contrast = (2 * covariance + c2) / (variance1 + variance2 + c2)
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    return (luminance * contrast).mean().item(), contrast.mean().item()
