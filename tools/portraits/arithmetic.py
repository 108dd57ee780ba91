"""Small arithmetic of compiled code, inlined where it is used."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True, inline="always")
def smooth(low, high, x):
    """The smooth step from 0 at low to 1 at high; low may be above high."""
    t = min(1.0, max(0.0, (x - low) / (high - low)))
    return t * t * (3 - 2 * t)


@numba.njit(cache=True, fastmath=True, inline="always")
def clamp(x):
    """X within 0..1."""
    return max(0.0, min(1.0, x))


@numba.njit(cache=True, fastmath=True, inline="always")
def unit(x, y, z):
    """A vector scaled to length 1; one of no length stays about 0."""
    inverse = 1 / np.sqrt(x * x + y * y + z * z + 1e-9)
    return x * inverse, y * inverse, z * inverse


@numba.njit(cache=True, fastmath=True, inline="always")
def polar(x, y, z):
    """Angle around (0 along z), angle down from y, and length of a vector."""
    length = np.sqrt(x * x + y * y + z * z)
    return np.arctan2(x, z), np.arccos(max(-1.0, min(1.0, y / length))), length
