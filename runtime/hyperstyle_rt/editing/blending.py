"""Edits along named directions, and what lies between two faces (docs/spec.md, section 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import EditError
from ..formats.asked import as_finite
from ..formats.directions_file import Direction, StyleDirection
from ..formats.fields import shown
from ..free_inputs import Free
from ..types import Array
from .directions import latent_change, style_change
from .expressions import Amounts

Blend = Callable[[Array, Array, float], Array]
"""Between two arrays of latents [L,W]: fraction 0 gives the first, 1 the second."""


@dataclass(frozen=True, eq=False)
class Edited:
    """What edits make of latents.

    Attributes
    ----------
    latents:
        float32 [N,L,W], one for each edit.
    styles:
        float32 [N,S], what is added to the styles; None where no edit changes styles.
    """

    latents: Array
    styles: Array | None


def edit_latents(
    directions: Mapping[str, Direction],
    latents: Array,
    edits: Sequence[Amounts],
    styles: Array | None = None,
) -> Edited:
    """Apply edits to a face.

    Every direction starts from the unedited latents, so their order does not matter.

    Parameters
    ----------
    directions:
        Those there are, by name.
    latents:
        float32 [L,W].
    edits:
        One for each result.
    styles:
        float32 [S], what earlier edits add to the styles of the face; None for nothing.

    Raises
    ------
    EditError
        If a direction is unknown, or an amount is not a finite number or too large.
    """
    edited = np.repeat(latents[None], len(edits), axis=0)
    styled = None if styles is None else np.repeat(styles[None], len(edits), axis=0)
    for row, amounts in enumerate(edits):
        for name, amount in amounts.items():
            direction = _find(directions, name)
            # What is beyond float32 is told below.
            with np.errstate(over="ignore", invalid="ignore"):
                change = _change(direction, latents, _finite(name, amount))
            if not np.isfinite(change).all():
                raise EditError(
                    f"the amount of {name} moves a face beyond what float32 holds; give a smaller "
                    f"number than {shown(amount)}"
                )
            if not isinstance(direction, StyleDirection):
                edited[row] += change
                continue
            if styled is None:
                styled = np.zeros((len(edits), len(change)), np.float32)
            styled[row] += change
    return Edited(edited, styled)


def _change(direction: Direction, latents: Array, amount: float) -> Array:
    """What a direction adds to latents, or to styles."""
    if isinstance(direction, StyleDirection):
        return style_change(direction, amount)
    return latent_change(direction, latents, amount)


def _finite(name: str, amount: object) -> float:
    number = as_finite(amount)
    if number is None:
        raise EditError(f"the amount of {name} must be a finite number, not {shown(amount)}")
    return number


def _find(directions: Mapping[str, Direction], name: str) -> Direction:
    if name not in directions:
        there_are = ", ".join(sorted(directions)) or "none: convert some for it"
        raise EditError(
            f"the bundle has no direction {shown(name)}; its directions are {there_are}"
        )
    return directions[name]


def finite_fractions(fractions: Sequence[float]) -> list[float]:
    """Places between two faces, as plain numbers.

    Raises
    ------
    EditError
        If one is not a finite number.
    """
    numbers: list[float] = []
    for fraction in fractions:
        number = as_finite(fraction)
        if number is None:
            raise EditError(
                f"a fraction must be a finite number, 0 for the first face and 1 for the second, "
                f"not {shown(fraction)}"
            )
        numbers.append(number)
    return numbers


def linear(first: Array, second: Array, fraction: float) -> Array:
    """Between two arrays of one shape in a straight line."""
    return np.float32(1 - fraction) * first + np.float32(fraction) * second


def linear_additions(first: Array | None, second: Array | None, fraction: float) -> Array | None:
    """Between what is added to two faces' styles or kernels, of one shape; None is zero."""
    if first is None and second is None:
        return None
    none = np.zeros((), np.float32)
    start, end = (none if addition is None else addition for addition in (first, second))
    return linear(start, end, fraction)


def linear_free(first: Free, second: Free, fraction: float, stored_noise: Array | None) -> Free:
    """Between what two inversions change of the generator.

    Parameters
    ----------
    stored_noise:
        float32 [N], what stands for the noise of one that has none of its own; None where neither
        has some.
    """

    def of_both(name: str) -> Array | None:
        return linear_additions(getattr(first, name), getattr(second, name), fraction)

    if stored_noise is None:
        return Free(None, of_both("weights"), of_both("features"))
    start, end = (stored_noise if each.noise is None else each.noise for each in (first, second))
    return Free(linear(start, end, fraction), of_both("weights"), of_both("features"))


def spherical_about(centre: Array | None) -> Blend:
    """Blend latents [L,W] along arcs about a centre [L,W], the average latent; None is zero.

    Every row keeps a distance from the centre between those of the two faces: on a straight line
    it would come closer, to a face more average than both.
    """

    def blend(first: Array, second: Array, fraction: float) -> Array:
        if fraction in (0, 1):  # the face itself, to the last bit
            return second if fraction else first
        middle = np.zeros_like(first) if centre is None else centre
        rows = zip(first, second, middle, strict=True)
        return np.stack([c + _slerp(a - c, b - c, fraction) for a, b, c in rows])

    return blend


def _slerp(first: Array, second: Array, fraction: float) -> Array:
    """Turn one vector [W] into another; the length changes linearly."""
    lengths = [float(np.linalg.norm(v.astype(np.float64))) for v in (first, second)]
    if min(lengths) == 0:
        return linear(first, second, fraction)
    a, b = (v.astype(np.float64) / n for v, n in zip((first, second), lengths, strict=True))
    angle = math.acos(float(np.clip(a @ b, -1, 1)))
    if math.sin(angle) < 1e-6:  # no arc, or no single one
        return linear(first, second, fraction)
    turned = math.sin((1 - fraction) * angle) * a + math.sin(fraction * angle) * b
    length = (1 - fraction) * lengths[0] + fraction * lengths[1]
    return (turned * (length / math.sin(angle))).astype(np.float32)
