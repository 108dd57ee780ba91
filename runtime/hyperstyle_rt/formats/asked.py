"""Numbers as callers give them, of numpy or any other kind, made what files can hold."""

from __future__ import annotations

import math
import operator
from typing import Any

from ..errors import HyperStyleError
from .fields import shown


def as_finite(value: Any) -> float | None:
    """A number as a finite float; None for what is none, a text or a truth value among it."""
    if isinstance(value, bool | str) or not (
        hasattr(value, "__float__") or hasattr(value, "__index__")
    ):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole_number(name: str, value: Any, most: int) -> int:
    """A whole number from 0 to `most`.

    Raises
    ------
    HyperStyleError
        If it is none.
    """
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= most:
        raise HyperStyleError(f"{name} must be a whole number from 0 to {most}, not {shown(value)}")
    return number


def number_from_0(name: str, value: Any) -> float:
    """A finite number of at least 0.

    Raises
    ------
    HyperStyleError
        If it is none.
    """
    number = as_finite(value)
    if number is None or number < 0:
        raise HyperStyleError(
            f"{name} must be a finite number of at least 0, not {shown(value)}; leave it out for "
            "no such limit"
        )
    return number
