"""One small volume of smooth noise, looked up instead of computed: the same for every picture."""

from __future__ import annotations

import numba
import numpy as np
from hyperstyle_rt.types import Array

SIZE = 64  # of the volume, which repeats; a power of two


def noise_volume(seed: int) -> Array:
    """Three octaves of periodic value noise, [SIZE, SIZE, SIZE], standard deviation 1/3."""
    rng = np.random.default_rng(seed)
    total = np.zeros((SIZE, SIZE, SIZE), np.float32)
    for octave, cells in enumerate((8, 16, 32)):
        lattice = rng.uniform(-1, 1, (cells, cells, cells)).astype(np.float32)
        for axis in range(3):
            lattice = _stretched(lattice, axis)
        total += lattice / 2**octave
    return np.ascontiguousarray(total / (3 * total.std()))


def _stretched(values: Array, axis: int) -> Array:
    """Smoothly interpolated to SIZE along one axis, periodic."""
    cells = values.shape[axis]
    position = np.arange(SIZE) * cells / SIZE
    low = position.astype(int)
    part = (position - low).astype(np.float32)
    shape = [1, 1, 1]
    shape[axis] = SIZE
    part = (part * part * (3 - 2 * part)).reshape(shape)
    here = np.take(values, low, axis)
    there = np.take(values, (low + 1) % cells, axis)
    return np.asarray(here * (1 - part) + there * part)


@numba.njit(cache=True, fastmath=True, inline="always")
def lookup(volume, x, y, z):
    """Nearest value; one cell of the coarsest octave is one unit of x, y, z."""
    return volume[
        int(np.floor(x * 8)) & (SIZE - 1),
        int(np.floor(y * 8)) & (SIZE - 1),
        int(np.floor(z * 8)) & (SIZE - 1),
    ]
