"""Noise maps as StyleGAN2's projector keeps them: without patterns, of mean 0 and mean square 1.

Else the picture would hide in the noise. ``docs/spec-methods.md``, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..types import Array

SMALLEST = 8  # side of a map that is not halved further
REGULARISER_WEIGHT = 1e5


def regulariser(noise: Array) -> tuple[float, Array]:
    """How much neighbours in a noise map resemble each other, over all its scales.

    Parameters
    ----------
    noise:
        float32 [s,s].

    Returns
    -------
    loss:
        Squared mean products of neighbours along both axes, summed over the map and its 2x2 means
        down to :data:`SMALLEST`.
    gradient:
        float32 [s,s].
    """
    scales = list(_scales(noise.astype(np.float64)))
    loss, gradient = 0.0, np.zeros_like(scales[-1])
    for scale in reversed(scales):
        if gradient.shape != scale.shape:  # the adjoint of the 2x2 mean
            gradient = np.repeat(np.repeat(gradient, 2, axis=0), 2, axis=1) / 4
        for axis in (0, 1):
            mean = float((scale * np.roll(scale, 1, axis)).mean())
            neighbours = np.roll(scale, 1, axis) + np.roll(scale, -1, axis)
            gradient = gradient + 2 * mean / scale.size * neighbours
            loss += mean * mean
    return loss, gradient.astype(np.float32)


def normalised(noise: Array) -> Array:
    """A noise map of mean 0 and mean square 1: what NVIDIA's projector does after every step."""
    centred = noise - noise.mean(dtype=np.float64)
    return np.asarray(centred / np.sqrt(np.square(centred).mean()), np.float32)


def standardised(noise: Array) -> Array:
    """A noise map of mean 0 and unbiased deviation 1: what rosinality's projector does."""
    centred = noise - noise.mean(dtype=np.float64)
    return np.asarray(centred / np.std(noise, ddof=1, dtype=np.float64), np.float32)


def split(flat: Array, sides: Sequence[int]) -> list[Array]:
    """Noise maps [s,s] of a flat array [N]."""
    bounds = np.cumsum([side * side for side in sides])[:-1]
    return [
        part.reshape(side, side) for part, side in zip(np.split(flat, bounds), sides, strict=True)
    ]


def _scales(noise: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The map and its 2x2 means."""
    while True:
        yield noise
        side = noise.shape[0]
        if side <= SMALLEST:
            return
        quads = noise.reshape(side // 2, 2, side // 2, 2)
        noise = np.asarray(quads.mean((1, 3)), np.float64)
