"""Lights, their shadows, and how much of the main light reaches a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from . import raster
from .factors import Person, triple
from .shape import CAMERA

SHADOW_SIZE, SHADOW_SPAN = 192, 4.4  # pixels and decimetres of the shadow map
SHADOW_CENTRE = np.array([0, 7.1, 0.5])


class Light(NamedTuple):
    """All light on a portrait, as compiled code reads it.

    direction [3] to the main light, unit; main and ambient [3] linear; eye [3], where it is seen
    from; axes [3, 4] from a point to the shadow map in decimetres; shadow [S, S], the depth seen
    from the light; scale in pixels a decimetre; rim, the light on edges.
    """

    direction: Array
    main: Array
    ambient: Array
    eye: Array
    axes: Array
    shadow: Array
    scale: float
    rim: float


def light_of(
    person: Person,
    points: Array,
    triangles: NDArray[np.int32],
    hairs: Sequence[tuple[Array, NDArray[np.int32]]],
) -> Light:
    """The light on a posed mesh [V, 3] and on hairs: points [N, K, 3] and how many of each count.

    The mesh and all hairs throw shadows.
    """
    direction = np.array([person[f"light_{axis}"] for axis in "xyz"])
    direction /= np.linalg.norm(direction)
    turned = raster.view_axes(direction)
    axes = np.column_stack([turned, -turned @ SHADOW_CENTRE]).astype(np.float32)
    scale = SHADOW_SIZE / SHADOW_SPAN
    shadow = np.full((SHADOW_SIZE, SHADOW_SIZE), -np.inf, np.float32)

    def seen(points: Array) -> tuple[Array, Array]:
        moved = points @ axes[:, :3].T + axes[:, 3]
        flat = (moved[..., :2] * scale + SHADOW_SIZE / 2).astype(np.float32)
        return flat, np.ascontiguousarray(moved[..., 2], np.float32)

    raster.draw_depth(*seen(points), triangles, shadow)
    for hair, lengths in hairs:
        raster.draw_hair_depth(*seen(hair), lengths, shadow)
    eye = np.array([0, 7.1, CAMERA], np.float32)
    main, ambient = triple(person, "light"), triple(person, "ambient")
    towards = direction.astype(np.float32)
    return Light(towards, main, ambient, eye, axes, shadow, scale, person["rim"])


@numba.njit(cache=True, fastmath=True, inline="always")
def on_shadow_map(light, x, y, z):
    """A point's place on the shadow map, pixels from its corner, and its depth there."""
    axes, half = light.axes, 0.5 * light.shadow.shape[0]
    right = axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z + axes[0, 3]
    up = axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z + axes[1, 3]
    near = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z + axes[2, 3]
    return right * light.scale + half, up * light.scale + half, near


@numba.njit(cache=True, fastmath=True)
def lit_softly(shadow, x, y, z):
    """Share of the main light that passes, averaged over 3 x 3 pixels of the shadow map."""
    size = shadow.shape[0]
    i, j = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    u, v = x - 0.5 - i, y - 0.5 - j
    total = 0.0
    for dj in range(-1, 3):
        weight_j = 1.0 - v if dj == -1 else (v if dj == 2 else 1.0)
        for di in range(-1, 3):
            weight = weight_j * (1.0 - u if di == -1 else (u if di == 2 else 1.0))
            ii, jj = i + di, j + dj
            outside = ii < 0 or jj < 0 or ii >= size or jj >= size
            if outside or shadow[jj, ii] < z:
                total += weight
    return total / 9.0


@numba.njit(cache=True, fastmath=True)
def lit_roughly(shadow, x, y, z):
    """Share of the main light that passes, from 2 x 2 pixels of the shadow map."""
    size = shadow.shape[0]
    i, j = int(x), int(y)
    lit = 0.0
    for q in range(4):
        ii, jj = i + (q & 1), j + (q >> 1)
        outside = ii < 0 or jj < 0 or ii >= size or jj >= size
        if outside or shadow[jj, ii] < z:
            lit += 0.25
    return lit
