"""Pillow's 8-bit resizing, to the last bit, without Pillow.

A filter, widened when scaling down (antialiased), in two passes of fixed point with 8-bit results.
The sums are whole multiples of 2**-22 below 2**10, hence exact in float64 in any order, so matrix
products give Pillow's result.

Along the rows first, always, like Pillow up to 12.1. Later versions begin with the columns where
that is faster, which changes the rounding of some pixels by one level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Picture

_Array = NDArray[np.float64]

# Pillow's coefficients in fixed point: 8 bits of pixel and 2 of headroom in 32.
_PRECISION_BITS = 32 - 8 - 2
# Outputs computed by one matrix product, and the inputs it may hold (32 MB as float64).
_BLOCK_OUTPUTS = 16
_BLOCK_INPUTS = 1 << 22


@dataclass(frozen=True)
class Filter:
    """A resampling kernel: weights over the distance in samples, 0 from `radius` on."""

    radius: float
    weights: Callable[[_Array], _Array]


def _triangle(distance: _Array) -> _Array:
    return np.where(np.abs(distance) < 1, 1.0 - np.abs(distance), 0.0)


def _lanczos(distance: _Array) -> _Array:
    return np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


BILINEAR = Filter(1.0, _triangle)
LANCZOS = Filter(3.0, _lanczos)


def resize(image: Picture, size: tuple[int, int], kernel: Filter) -> Picture:
    """Resize a picture as Pillow's ``resize`` does.

    Parameters
    ----------
    image : ndarray, uint8 [H,W,3]
        The picture.
    size : (int, int)
        Height and width of the result, at least 1; the aspect ratio is not kept.
    kernel : Filter
        `BILINEAR` or `LANCZOS`.

    Returns
    -------
    ndarray, uint8 [h,w,3]
        A new array, also when the size stays.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"cannot resize to {height} x {width}")
    planes = image.transpose(2, 0, 1)  # [3HW]
    planes = _resample(planes, width, kernel)  # [3Hw]
    planes = _resample(planes.transpose(0, 2, 1), height, kernel)  # [3wh]
    return planes.transpose(2, 1, 0).copy()  # [hw3]


def _resample(planes: Picture, size: int, kernel: Filter) -> Picture:
    """Resample the last axis of uint8 [3,R,N] to `size` samples."""
    samples = planes.shape[2]
    if samples == size:
        return planes
    rows = planes.reshape(-1, samples)
    resampled = np.empty((rows.shape[0], size), np.uint8)
    for first, last, start, weights in _weight_blocks(samples, size, kernel):
        step = max(1, _BLOCK_INPUTS // len(weights))
        for top in range(0, len(rows), step):
            block = rows[top : top + step, start : start + len(weights)].astype(np.float64)
            sums = block @ weights
            # Pillow's rounding, shift and clipping; the cast to uint8 truncates.
            resampled[top : top + step, first:last] = np.clip(sums + 0.5, 0, 255)
    return resampled.reshape(planes.shape[0], planes.shape[1], size)


def _weight_blocks(
    samples: int, size: int, kernel: Filter
) -> Iterator[tuple[int, int, int, _Array]]:
    """Cut the band matrix of a resize from `samples` to `size` into dense blocks.

    Yields
    ------
    first, last : int
        Range of outputs.
    start : int
        First input they need.
    weights : ndarray, float64 [inputs, last - first]
        Pillow's fixed-point coefficients over 2**22.
    """
    scale = samples / size
    stretch = max(scale, 1.0)
    reach = kernel.radius * stretch
    for first in range(0, size, _BLOCK_OUTPUTS):
        last = min(first + _BLOCK_OUTPUTS, size)
        centres = (np.arange(first, last) + 0.5) * scale
        lower = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
        upper = np.minimum((centres + reach + 0.5).astype(np.int64), samples)
        start, stop = int(lower[0]), int(upper[-1])
        inputs = np.arange(start, stop)[:, None]
        # In Pillow's own order of operations, so that every rounding of the doubles agrees.
        weights = kernel.weights((inputs - centres + 0.5) * (1.0 / stretch))
        weights[(inputs < lower) | (inputs >= upper)] = 0.0
        weights /= np.cumsum(weights, axis=0)[-1]  # cumsum adds one by one, as Pillow
        fixed = np.trunc(weights * (1 << _PRECISION_BITS) + np.copysign(0.5, weights))
        yield first, last, start, fixed / (1 << _PRECISION_BITS)
