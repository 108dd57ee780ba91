"""Edits that change over a film, as people write them: ``smile=2``, ``smile=0@0,2@1.5,0@3``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..editing.expressions import LARGEST_AMOUNT, Amounts, named_texts, read_amount
from ..errors import EditError
from ..formats.fields import shown

_MOST_KNOTS = 1000


@dataclass(frozen=True)
class Course:
    """How an amount changes: linearly between knots, and not before the first or after the last.

    Attributes
    ----------
    seconds:
        Of the knots, rising.
    amounts:
        At the knots.
    """

    seconds: tuple[float, ...]
    amounts: tuple[float, ...]

    def at(self, seconds: float) -> float:
        """The amount at a time."""
        return float(np.interp(seconds, self.seconds, self.amounts))


def parse_courses(expressions: Sequence[str], duration: float) -> Mapping[str, Course]:
    """Read edits of a film.

    Parameters
    ----------
    expressions:
        ``smile=2`` for the whole film, ``smile=0:2`` from its first frame to its last, or
        ``smile=0@0,2@1.5,0@3``: amounts at seconds of the film.
    duration:
        Seconds from the first frame to the last.

    Returns
    -------
    By direction.

    Raises
    ------
    EditError
        If an expression is none of these, or a direction is named twice.
    """
    texts = named_texts(expressions, "smile=0@0,2@1.5")
    return {name: _course(name, text, duration) for name, text in texts}


def amounts_at(courses: Mapping[str, Course], seconds: float) -> Amounts:
    """All amounts at a time."""
    return {name: course.at(seconds) for name, course in courses.items()}


def _course(name: str, text: str, duration: float) -> Course:
    try:
        if "@" in text:
            return _with_knots(text)
        ends = [read_amount(part) for part in text.split(":")]
        if len(ends) == 1:
            return Course((0.0,), (ends[0],))
        if len(ends) == 2:
            return Course((0.0, max(duration, 1e-9)), (ends[0], ends[1]))
    except ValueError:
        pass
    raise EditError(
        f"the amount of {name} in a film must be a number from -{LARGEST_AMOUNT} to "
        f"{LARGEST_AMOUNT}, START:STOP, or amounts at seconds that rise, as 0@0,2@1.5, not "
        f"{shown(text)}"
    )


def _with_knots(text: str) -> Course:
    knots = [knot.split("@") for knot in text.split(",")]
    if len(knots) > _MOST_KNOTS or any(len(knot) != 2 for knot in knots):
        raise ValueError(text)
    seconds = tuple(_finite(when) for _, when in knots)
    if any(later <= earlier for earlier, later in pairwise(seconds)):
        raise ValueError(text)
    return Course(seconds, tuple(read_amount(amount) for amount, _ in knots))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
