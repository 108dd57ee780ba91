"""Edits as people write them: ``smile=2``, or the sweep ``age=-3:3:7``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..errors import EditError
from ..formats.fields import PLAIN_NAME, is_plain_name, shown

Amounts = Mapping[str, float]
"""Direction -> how many steps along it, e.g. ``{"smile": 2.0, "age": -1.0}``."""

LONGEST_SWEEP = 100_000
LARGEST_AMOUNT = 1_000_000
"""Far beyond what shows a face; far beyond this, the numbers of a network overflow."""


def parse_edits(expressions: Sequence[str]) -> list[Amounts]:
    """Read edits as the command line has them: ``smile=2``, or the sweep ``age=-3:3:7``.

    Returns
    -------
    One for each picture; sweeps move together, other amounts are the same in all.

    Raises
    ------
    EditError
        If an expression is none of these, a direction is named twice, or sweeps differ in length.
    """
    amounts: dict[str, list[float]] = {}
    for name, text in named_texts(expressions, "smile=-3:3:7"):
        amounts[name] = _amounts(name, text)
    lengths = {len(values) for values in amounts.values()} - {1}
    if len(lengths) > 1:
        raise EditError(
            f"sweeps of one command move together, but these have {sorted(lengths)} steps; give "
            "them the same count"
        )
    count = lengths.pop() if lengths else 1
    return [{n: v[min(i, len(v) - 1)] for n, v in amounts.items()} for i in range(count)]


def named_texts(expressions: Sequence[str], example: str) -> Iterator[tuple[str, str]]:
    """Each direction, and what follows ``=``, one after the other.

    Parameters
    ----------
    expressions:
        ``DIRECTION=AMOUNT``.
    example:
        One beside ``smile=2``, for the sentence of a refusal.

    Raises
    ------
    EditError
        If an expression has another form, or a direction is named twice.
    """
    named: set[str] = set()
    for expression in expressions:
        name, equals, text = expression.partition("=")
        if not equals or not is_plain_name(name):
            raise EditError(
                f"{shown(expression)} is no edit; give DIRECTION=AMOUNT, e.g. smile=2 or "
                f"{example}, where DIRECTION is {PLAIN_NAME}"
            )
        if name in named:
            raise EditError(f"the direction {name} is given twice; give one amount for it")
        named.add(name)
        yield name, text


def _amounts(name: str, text: str) -> list[float]:
    """The values of ``2`` or ``START:STOP:COUNT``."""
    parts = text.split(":")
    try:
        if len(parts) == 1:
            return [read_amount(text)]
        start, stop, count = read_amount(parts[0]), read_amount(parts[1]), int(parts[2])
        if len(parts) == 3 and 2 <= count <= LONGEST_SWEEP:
            return evenly(start, stop, count)
    except (ValueError, IndexError):
        pass
    raise EditError(
        f"the amount of {name} must be a number or START:STOP:COUNT, from -{LARGEST_AMOUNT} to "
        f"{LARGEST_AMOUNT}, with a count from 2 to {LONGEST_SWEEP}, not {shown(text)}"
    )


def read_amount(text: str) -> float:
    """Read one amount.

    Raises
    ------
    ValueError
        If it is no number, or too large.
    """
    value = float(text)
    if not abs(value) <= LARGEST_AMOUNT:  # which is no number either
        raise ValueError(text)
    return value


def evenly(start: float, stop: float, count: int) -> list[float]:
    """`count` numbers, at least 2, from `start` to `stop`, both included."""
    return [start + (stop - start) * n / (count - 1) for n in range(count - 1)] + [stop]
