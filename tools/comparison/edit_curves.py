"""Curves of identity against the size of an edit, one a method, and the areas between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from evaluation.metrics import distance_of
from hyperstyle_rt.types import Array, Floats

from .edits import Plan, Reading
from .rows import Row

GRID = 101  # points of the common range at which curves are compared


@dataclass(frozen=True)
class Curve:
    """One method and one direction.

    Attributes
    ----------
    row:
        Which method.
    direction:
        Which edit.
    amounts:
        A+1 steps, ascending, 0 among them.
    change:
        [A+1], mean change of the attribute over the pictures.
    identity, centred:
        [A+1], mean cosine with the picture's own embedding; the same about the mean embedding of
        the pictures, NaN for a single one.
    slope:
        Change a step, by least squares; NaN without a judge.
    right_way:
        Share of edits (pictures and amounts) whose attribute moves as asked.
    ordered:
        Share of pictures that have more of the attribute at the last amount than at the first.
    distances:
        Of every edit, the distance of its embedding from the picture's own; NaN without a network.
    """

    row: Row
    direction: str
    amounts: Floats
    change: Floats
    identity: Floats
    centred: Floats
    slope: float
    right_way: float
    ordered: float
    distances: Floats


@dataclass(frozen=True)
class Compared:
    """The curves of one direction over the range of change that all of them reach.

    Attributes
    ----------
    direction:
        Which edit.
    curves:
        One a method.
    range:
        From and to which change; None where they have none in common, or no judge.
    kept:
        Mean identity over that range, one a method: the area under its curve by its width.
    between:
        What it keeps more than the first method: the area between the two, by the width.
    """

    direction: str
    curves: list[Curve]
    range: tuple[float, float] | None
    kept: list[float]
    between: list[float]


def compare_curves(
    plan: Plan, rows: Sequence[Row], readings: Sequence[Sequence[Reading]]
) -> list[Compared]:
    """Curves of all directions.

    Parameters
    ----------
    readings:
        One list a row, of the same pictures in the same order.
    """
    mean = _mean_face(readings)
    found = []
    for at, direction in enumerate(plan.directions):
        curves = [
            _curve(row, direction, at, plan, of_row, mean)
            for row, of_row in zip(rows, readings, strict=True)
        ]
        found.append(compared(direction, curves))
    return found


def compared(direction: str, curves: list[Curve]) -> Compared:
    """Areas under and between curves, over the range of change that they have in common."""
    nothing = Compared(direction, curves, None, [], [])
    changes = [curve.change for curve in curves]
    if not curves or any(np.isnan(change).any() for change in changes):
        return nothing
    low, high = max(c.min() for c in changes), min(c.max() for c in changes)
    if low >= high:
        return nothing
    grid = np.linspace(low, high, GRID)
    kept = []
    for curve in curves:
        order = np.argsort(curve.change)
        shown = curve.identity if np.isnan(curve.centred).any() else curve.centred
        kept.append(float(np.interp(grid, curve.change[order], shown[order]).mean()))
    between = [value - kept[0] for value in kept]
    return Compared(direction, curves, (float(low), float(high)), kept, between)


def _curve(
    row: Row, direction: str, at: int, plan: Plan, readings: Sequence[Reading], mean: Array | None
) -> Curve:
    zero = int(np.searchsorted(plan.amounts, 0.0))
    amounts = np.insert(np.array(plan.amounts), zero, 0.0)
    changes = np.stack([np.insert(one.changes[at], zero, 0.0) for one in readings])
    plain = np.stack([_similarities(one, at, zero, None) for one in readings])
    about = np.stack([_similarities(one, at, zero, mean) for one in readings])
    moved = np.delete(changes, zero, 1) * np.array(plan.amounts)
    is_judged = not np.isnan(moved).any()
    cosines = torch.from_numpy(np.delete(plain, zero, 1).reshape(-1))
    return Curve(
        row,
        direction,
        amounts,
        changes.mean(0),
        plain.mean(0),
        about.mean(0) if mean is not None else np.full(len(amounts), np.nan),
        float((changes.mean(0) @ amounts) / (amounts @ amounts)),
        float(np.mean(moved > 0)) if is_judged else float("nan"),
        float(np.mean(changes[:, -1] > changes[:, 0])) if is_judged else float("nan"),
        distance_of(cosines).numpy(),
    )


def _similarities(one: Reading, at: int, zero: int, mean: Array | None) -> Floats:
    """Cosines [A+1] of the edited faces, and of the unedited one, with the picture's."""
    shown = np.insert(one.faces[at], zero, one.unedited, 0)
    if not shown.shape[1]:
        return np.full(len(shown), np.nan)
    target = one.target
    if mean is not None:
        shown, target = _about(shown, mean), _about(target, mean)
    return np.asarray(shown @ target, np.float64)


def _mean_face(readings: Sequence[Sequence[Reading]]) -> Array | None:
    """Mean embedding of the pictures; None of fewer than two, or without a network."""
    faces = [one.target for one in readings[0]] if readings else []
    if len(faces) < 2 or not len(faces[0]):
        return None
    return np.asarray(np.stack(faces).mean(0), np.float32)


def _about(vectors: Array, mean: Array) -> Array:
    shifted = vectors - mean
    norms = np.maximum(np.linalg.norm(shifted, axis=-1, keepdims=True), 1e-12)
    return np.asarray(shifted / norms, np.float32)
