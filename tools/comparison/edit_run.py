"""Edits of a comparison's inversions, from what is asked for to what is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from directions.judge import check_count
from hyperstyle_rt.cli.terminal import print_note, progress_bar
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.model import Model
from picture_sets.folders import known_pictures

from .edit_curves import compare_curves
from .edit_judges import EditJudges, Learning, described, open_edit_judges, parse_judge
from .edit_report import edits_document, edits_markdown, edits_plot
from .edits import Plan, Reading, edit_all, parse_plan, read_reading
from .errors import ComparisonError
from .judging import Panel
from .pictures import Sample
from .results import Comparison
from .rows import Row
from .store import Store

EDITS_FILES = ("edits.md", "edits.json", "edits.png")


@dataclass(frozen=True)
class Asked:
    """Which edits are made, and who reads them.

    Attributes
    ----------
    plan:
        The edits.
    judges:
        As :func:`open_edit_judges` reads them.
    learning:
        What a judge learns from, but for the epochs; None for no such judge.
    """

    plan: Plan
    judges: tuple[str, ...]
    learning: tuple[Path, Path, int] | None


def edits_asked(
    model: Model,
    directions: str | None,
    steps: str,
    judges: Sequence[str],
    learning: tuple[Path | None, Path | None],
    count: int,
) -> Asked | None:
    """Read what is asked for, before any work; None without directions.

    Raises
    ------
    ComparisonError
        If judges are given without edits, or renders without their recipe, or a judge is no
        judge of these edits.
    EditError
        As :func:`parse_plan`, or if the renders cannot be learnt from.
    """
    folder, recipe = learning
    if directions is None:
        if judges or folder or recipe:
            raise ComparisonError("--judge, --train and --recipe are of edits; name some: --edits")
        return None
    if (folder is None) != (recipe is None):
        raise ComparisonError("the judge of attributes needs both; give --train and --recipe")
    plan, learnt = parse_plan(directions, steps, model), None
    for text in judges:
        parse_judge(text, plan.directions)
    if folder is not None and recipe is not None:
        learnt = folder, recipe, count
        described(plan.directions, recipe)
        check_count(min(count, len(known_pictures(folder, EditError).paths)))
    return Asked(plan, tuple(judges), learnt)


def run_edits(
    model: Model,
    asked: Asked,
    epochs: int,
    comparison: Comparison,
    samples: Sequence[Sample],
    panel: Panel,
    store: Store,
    quiet: bool,
) -> list[str]:
    """Edit every inversion that has not been, and write the report of edits.

    Returns
    -------
    Sentences: judges that cannot be used, inversions that cannot be edited.
    """
    learning = None if asked.learning is None else Learning(*asked.learning, epochs)
    judges = open_edit_judges(
        asked.plan.directions,
        learning,
        asked.judges,
        lambda epoch, loss: print_note(f"judge, epoch {epoch + 1} of {epochs}: {loss:.3f}"),
    )
    for sentence in judges.problems:
        print_note(sentence)
    work = [
        (result.row, sample)
        for result in comparison.rows
        for sample in samples
        if sample.digest in comparison.common and result.digests
    ]
    with progress_bar(quiet) as progress:
        task = progress.add_task("editing", total=len(work))

        def advance(row: Row) -> None:
            progress.update(task, advance=1, description=f"editing {row.name}")

        failed = edit_all(model, asked.plan, work, panel, judges, store, advance)
    _write(asked.plan, comparison, samples, panel, judges, store)
    problems = [f"{name}, {row}, edits: {text}" for (name, row), text in failed.items()]
    return judges.problems + problems


def _write(
    plan: Plan,
    comparison: Comparison,
    samples: Sequence[Sample],
    panel: Panel,
    judges: EditJudges,
    store: Store,
) -> None:
    """Write tables, curves and JSON, of the pictures that were edited after every method."""
    rows = [result.row for result in comparison.rows if result.digests]
    readings: list[list[Reading]] = [[] for _ in rows]
    names = []
    for sample in samples:
        found = [read_reading(store, row, sample, plan, panel, judges) for row in rows]
        known = [reading for reading in found if reading is not None]
        if known and len(known) == len(rows):
            names.append(sample.name)
            for of_row, reading in zip(readings, known, strict=True):
                of_row.append(reading)
    if not names:
        return
    compared = compare_curves(plan, rows, readings)
    page, document, plot = (store.folder / name for name in EDITS_FILES)
    text = json.dumps(edits_document(compared, names), indent=1)
    write_atomically(page, edits_markdown(compared, len(names)).encode(), ComparisonError)
    write_atomically(document, text.encode(), ComparisonError)
    write_atomically(plot, edits_plot(compared), ComparisonError)
