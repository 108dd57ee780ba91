"""All rows over all pictures: what is missing is inverted and measured, whatever fails is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.imaging.pictures import read_picture

from .judging import Panel, measure
from .pictures import Sample
from .processes import Engine, RowProcess
from .rows import Row
from .store import Store

WORKERS_LOG = "processes.log"


@dataclass
class Outcome:
    """What went wrong.

    Attributes
    ----------
    rows:
        Name of a row -> why it could not be run at all.
    pictures:
        (name of a picture, name of a row) -> why it has no result.
    """

    rows: dict[str, str] = field(default_factory=dict)
    pictures: dict[tuple[str, str], str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """All of it for people."""
        found = [f"{row}: {text}" for row, text in self.rows.items()]
        return found + [f"{name}, {row}: {text}" for (name, row), text in self.pictures.items()]


def samples_of(row: Row, samples: Sequence[Sample]) -> Sequence[Sample]:
    """The pictures that a row takes."""
    return samples[: row.limit]


def run_all(
    engine: Engine,
    rows: Sequence[Row],
    samples: Sequence[Sample],
    panel: Panel,
    store: Store,
    on_done: Callable[[Row], None],
) -> Outcome:
    """Invert and measure what the store lacks; `on_done(row)` after every picture of a row."""
    outcome = Outcome()
    for row in rows:
        _run_row(engine, row, samples_of(row, samples), panel, store, outcome, on_done)
    return outcome


def _run_row(
    engine: Engine,
    row: Row,
    samples: Sequence[Sample],
    panel: Panel,
    store: Store,
    outcome: Outcome,
    on_done: Callable[[Row], None],
) -> None:
    process: RowProcess | None = None
    try:
        for sample in samples:
            if store.inverted(sample, row) is None and row.name not in outcome.rows:
                if process is not None and process.failure is not None:
                    process.close()
                    process = None
                if process is None:
                    process = _start(engine, row, store)
                if process.failure is not None:
                    outcome.rows[row.name] = process.failure
                else:
                    answer = process.invert(store.task(sample, row))
                    if answer.get("ends"):  # what is wrong is the bundle
                        outcome.rows[row.name] = answer["error"]
                    else:
                        store.add_inversion(sample, row, answer)
                    if "error" in answer and row.name not in outcome.rows:
                        outcome.pictures[sample.name, row.name] = answer["error"]
            try:
                _measure(sample, row, panel, store)
            except HyperStyleError as error:  # a rendering that has been altered
                outcome.pictures[sample.name, row.name] = str(error)
            on_done(row)
    finally:
        if process is not None:
            process.close()


def _start(engine: Engine, row: Row, store: Store) -> RowProcess:
    said = store.folder / WORKERS_LOG
    return RowProcess(engine, row, said)


def _measure(sample: Sample, row: Row, panel: Panel, store: Store) -> None:
    record = store.inverted(sample, row)
    if record is None or store.measured(sample, row, panel.digests) is not None:
        return
    between = str(store.between(sample, row))
    ways = [Path(between.format(number)) for number in range(len(record["marks"]))]
    target = read_picture(sample.path)
    found = measure(target, ways, store.rendering(sample, row), panel.judges)
    store.add_figures(sample, row, panel.digests, found)
