"""What edits do to the inversions of a comparison: how far they go, and whose face is left.

Every inversion is edited along every direction by the same steps. Of a step, two things are read
(docs/spec-methods.md, section 5): the change of the attribute against the unedited inversion, by a
judge of that direction; and the identity, the cosine of an embedding with the picture's own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from directions.factor_regressor import to_tensor
from evaluation.metrics import SSIM_SIDE
from hyperstyle_rt.editing.expressions import parse_edits
from hyperstyle_rt.errors import EditError, HyperStyleError
from hyperstyle_rt.files import make_directory, write_atomically
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from hyperstyle_rt.inversion import Inversion
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Array, Floats, Picture
from npz_files import read_npz

from .edit_judges import EditJudges, as_batch
from .errors import ComparisonError
from .judging import IDENTITY, Panel
from .pictures import Sample
from .rows import Row
from .store import Store


@dataclass(frozen=True)
class Plan:
    """Which edits are made.

    Attributes
    ----------
    directions:
        D names, each edited by itself.
    amounts:
        A steps along each, ascending, without 0.
    """

    directions: tuple[str, ...]
    amounts: tuple[float, ...]


@dataclass(frozen=True)
class Reading:
    """What was read off one inversion's edits.

    Attributes
    ----------
    changes:
        float64 [D,A]: of the direction's own attribute, against the unedited inversion; NaN
        without a judge.
    faces:
        float32 [D,A,V], unit embeddings of the edited pictures; `unedited` [V] and `target` [V]
        those of the inversion and the picture. V is 0 without a network.
    """

    changes: Floats
    faces: Array
    unedited: Array
    target: Array


def parse_plan(directions: str, steps: str, model: Model) -> Plan:
    """Read ``smile,yaw`` and ``-3:3:7``.

    Raises
    ------
    EditError
        If they read otherwise, or the bundle has no such direction.
    """
    names = tuple(part.strip() for part in directions.split(","))
    missing = [name for name in names if name not in model.directions]
    if missing or len(set(names)) < len(names):
        there_are = ", ".join(sorted(model.directions)) or "none"
        raise EditError(
            f"--edits {directions!r} must name directions of the bundle, each once; it has "
            f"{there_are}"
        )
    amounts = sorted({edit["x"] for edit in parse_edits([f"x={steps}"])} - {0.0})
    if not amounts:
        raise EditError(f"--edit-steps {steps!r} has no step but 0; give e.g. -3:3:7")
    return Plan(names, tuple(amounts))


def edit_all(
    model: Model,
    plan: Plan,
    work: Sequence[tuple[Row, Sample]],
    panel: Panel,
    judges: EditJudges,
    store: Store,
    on_done: Callable[[Row], None],
) -> dict[tuple[str, str], str]:
    """Edit the inversions and read the results, where that has not been done.

    Returns
    -------
    (name of a picture, name of a row) -> why its inversion cannot be edited.
    """
    settings = _settings(plan, panel, judges)
    problems = {}
    for row, sample in work:
        path = reading_file(store, row, sample)
        if _read(path, settings) is None:
            try:
                reading = _edit(model, plan, row, sample, panel, judges, store)
                _write(path, reading, settings)
            except HyperStyleError as error:
                problems[sample.name, row.name] = str(error)
        on_done(row)
    return problems


def read_reading(
    store: Store, row: Row, sample: Sample, plan: Plan, panel: Panel, judges: EditJudges
) -> Reading | None:
    """What was read with this plan and these judges; None where nothing was."""
    return _read(reading_file(store, row, sample), _settings(plan, panel, judges))


def reading_file(store: Store, row: Row, sample: Sample) -> Path:
    """Where what was read is kept."""
    return store.folder / "edits" / row.name / f"{sample.key}.npz"


def _edit(
    model: Model,
    plan: Plan,
    row: Row,
    sample: Sample,
    panel: Panel,
    judges: EditJudges,
    store: Store,
) -> Reading:
    inversion = Inversion.load(store.inversion(sample, row))
    own = model.render(inversion)
    target = read_picture(sample.path)
    changes = np.full((len(plan.directions), len(plan.amounts)), np.nan)
    faces = []
    for at, direction in enumerate(plan.directions):
        edited = list(model.sweep(inversion, [{direction: amount} for amount in plan.amounts]))
        reader = judges.readers.get(direction)
        if reader is not None:
            values = reader(as_batch([own, *edited]))
            changes[at] = values[1:] - values[0]
        faces.append(_embeddings(panel, edited))
    unedited, wanted = _embeddings(panel, [own, target])
    return Reading(changes, np.stack(faces), unedited, wanted)


def _embeddings(panel: Panel, pictures: Sequence[Picture]) -> Array:
    """Unit embeddings [N,V]; V is 0 without a network."""
    if panel.judges.identity is None:
        return np.zeros((len(pictures), 0), np.float32)
    small = [
        resize_bilinear(p, (min(p.shape[0], SSIM_SIDE), min(p.shape[1], SSIM_SIDE)))
        for p in pictures
    ]
    with torch.inference_mode():
        found: Array = panel.judges.identity(to_tensor(as_batch(small))).numpy()
    return found


def _settings(plan: Plan, panel: Panel, judges: EditJudges) -> str:
    content: dict[str, Any] = {
        "directions": plan.directions,
        "amounts": plan.amounts,
        "judges": judges.digests,
        "identity": panel.digests.get(IDENTITY),
    }
    return json.dumps(content, sort_keys=True)


def _write(path: Path, reading: Reading, settings: str) -> None:
    make_directory(path.parent, ComparisonError)
    content = io.BytesIO()
    np.savez(
        content,
        settings=settings,
        changes=reading.changes,
        faces=reading.faces,
        unedited=reading.unedited,
        target=reading.target,
    )
    write_atomically(path, content.getvalue(), ComparisonError)


def _read(path: Path, settings: str) -> Reading | None:
    """What a file holds; None if it is not there, damaged, or of other edits or judges."""
    try:
        read_with, *parts = read_npz(path, "settings", "changes", "faces", "unedited", "target")
    except ValueError:
        return None
    return Reading(*parts) if str(read_with) == settings else None
