"""What comes back from a worker: what became of each picture, as a table of plain columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..batch.results import Outputs
from ..batch.run import Done, Finished
from ..errors import BackendError, BundleError, HyperStyleError, InversionError, PictureError
from .urls import as_location

_KINDS: dict[str, type[HyperStyleError]] = {
    kind.__name__: kind
    for kind in (PictureError, InversionError, BundleError, BackendError, HyperStyleError)
}
"""Errors that are told apart; a kind comes before what it is derived from."""

_FILES = ("result", "coupled", "inversion", "pasted", "unaligned")


def outcome_schema() -> Any:
    """The columns, a pyarrow schema.

    ``name`` is the picture's. ``error`` is the sentence that says what is wrong, and ``kind`` the
    name of its class; both are null where nothing is. ``faces`` has a struct for each
    :class:`Done`, with ``effort`` as JSON, and ``earlier`` and ``notice`` are as in
    :class:`Finished`.
    """
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    face = pa.struct(
        [
            ("face", pa.int32()),
            ("iterations", pa.int32()),
            ("seconds", pa.float64()),
            ("effort", text),
            ("steps", texts),
            *((name, text) for name in _FILES),
        ]
    )
    return pa.schema(
        [
            ("name", text),
            ("error", text),
            ("kind", text),
            ("notice", text),
            ("earlier", texts),
            ("faces", pa.list_(face)),
        ]
    )


def table_of(outcomes: Mapping[str, Finished | HyperStyleError]) -> Any:
    """Write down what became of pictures, by their names: a pyarrow table."""
    import pyarrow as pa

    rows = [{"name": name, **_columns(outcome)} for name, outcome in outcomes.items()]
    return pa.Table.from_pylist(rows, outcome_schema())


def outcome_of(row: Mapping[str, Any]) -> Finished | HyperStyleError:
    """Read what became of a picture.

    Parameters
    ----------
    row:
        Of :func:`table_of`, as a dict.
    """
    if row["kind"] is not None:
        return _KINDS[row["kind"]](row["error"])
    return Finished(
        done=tuple(map(_done, row["faces"])),
        earlier=tuple(as_location(Path(path)) for path in row["earlier"]),
        notice=row["notice"],
    )


def _columns(outcome: Finished | HyperStyleError) -> dict[str, Any]:
    if isinstance(outcome, HyperStyleError):
        kind = next(name for name, kind in _KINDS.items() if isinstance(outcome, kind))
        return {"error": str(outcome), "kind": kind}
    return {
        "notice": outcome.notice,
        "earlier": list(map(str, outcome.earlier)),
        "faces": list(map(_face, outcome.done)),
    }


def _face(done: Done) -> dict[str, Any]:
    """What :func:`_done` reads."""
    paths = {name: getattr(done.outputs, name) for name in _FILES}
    return {
        "face": done.face,
        "iterations": done.iterations,
        "seconds": done.seconds,
        "effort": None if done.effort is None else json.dumps(dict(done.effort)),
        "steps": list(map(str, done.outputs.steps)),
        **{name: None if path is None else str(path) for name, path in paths.items()},
    }


def _done(face: Mapping[str, Any]) -> Done:
    """What :func:`_face` has written."""
    written = {name: face[name] for name in _FILES if face[name] is not None}
    return Done(
        face=face["face"],
        outputs=Outputs(
            steps=tuple(map(Path, face["steps"])),
            **{name: as_location(Path(path)) for name, path in written.items()},
        ),
        iterations=face["iterations"],
        seconds=face["seconds"],
        effort=None if face["effort"] is None else json.loads(face["effort"]),
    )
