"""What the directions of a bundle do to a face (docs/spec.md, section 6).

An amount of 0 changes nothing and 1 is one step, which every direction defines for itself.
"""

from __future__ import annotations

import numpy as np

from ..formats.directions_file import ComponentDirection, LinearDirection, StyleDirection
from ..types import Array


def latent_change(
    direction: LinearDirection | ComponentDirection, latents: Array, amount: float
) -> Array:
    """What a direction adds to latents [L,W]: [L,W]."""
    change = np.zeros_like(latents)
    rows = slice(*direction.rows)
    if isinstance(direction, LinearDirection):
        vector = direction.vector if direction.vector.ndim == 1 else direction.vector[rows]
        change[rows] = np.float32(amount * direction.scale) * vector
        return change
    coordinate = float((latents[0] - direction.mean) @ direction.component) / direction.deviation
    distance = amount * (direction.target - coordinate) * direction.deviation
    change[rows] = np.float32(distance) * direction.component
    return change


def style_change(direction: StyleDirection, amount: float) -> Array:
    """What a direction adds to the styles: [S]."""
    return np.float32(amount * direction.scale) * direction.offsets
