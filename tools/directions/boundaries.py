"""Which rows of the latents a boundary moves, where its file says so (IDInvert's)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.types import Array

BOUNDARY, FACTS, ROWS = "boundary", "meta_data", "manipulate_layers"
_SPAN = re.compile(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?")


def boundary_keys(contents: Any, keys: Sequence[str] | None) -> Sequence[str] | None:
    """The entries wanted of a file: of IDInvert's, where none is named, its boundary."""
    is_boundary = isinstance(contents, Mapping) and {BOUNDARY, FACTS} <= contents.keys()
    return [BOUNDARY] if is_boundary and not keys else keys


def stated_rows(contents: Any, path: Path, count: int) -> list[int] | None:
    """The rows that a file's ``meta_data.manipulate_layers`` names, ascending; None for no word.

    It may be a list of numbers, or a text such as ``0-2, 5``.

    Parameters
    ----------
    count:
        Rows of the bundle's latents.

    Raises
    ------
    EditError
        If it is neither, or a row is beyond them.
    """
    facts = contents.get(FACTS) if isinstance(contents, Mapping) else None
    said = facts.get(ROWS) if isinstance(facts, Mapping) else None
    if said is None:
        return None
    rows = _rows_of(said)
    if not rows:
        raise EditError(
            f"{path} says {said!r:.80} of the rows that it moves ({FACTS}.{ROWS}), which is no "
            "list of rows; give --rows"
        )
    if max(rows) >= count:
        raise EditError(
            f"{path} moves row {max(rows)} of the latents ({FACTS}.{ROWS}), and those of the "
            f"bundle have {count}; is it for another generator?"
        )
    return sorted(rows)


def _rows_of(said: Any) -> set[int]:
    """No rows of what cannot be read."""
    if isinstance(said, str):
        spans = [_SPAN.fullmatch(part) for part in said.split(",") if part.strip()]
        found = [(int(m[1]), int(m[2] or m[1])) for m in spans if m is not None]
        return {row for a, b in found for row in range(a, b + 1)} if all(spans) else set()
    if isinstance(said, np.ndarray):
        said = said.ravel().tolist()
    if isinstance(said, int):
        said = [said]
    is_list = isinstance(said, list | tuple)
    return set(said) if is_list and all(type(n) is int and n >= 0 for n in said) else set()


def on_rows(vector: Array, rows: Sequence[int], count: int) -> tuple[Array, tuple[int, int]]:
    """A vector [W] or [L,W] that moves some rows only, and the (start, stop) that holds them."""
    span = rows[0], rows[-1] + 1
    if len(rows) == span[1] - span[0]:
        return vector, span
    moved = np.zeros((count, vector.shape[-1]), np.float32)
    moved[list(rows)] = np.broadcast_to(vector, moved.shape)[list(rows)]
    return moved, span
