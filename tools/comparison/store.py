"""The folder of a comparison: what has been done so far, and how.

- `settings.json`: what all results depend on; a run with other settings is refused;
- `inversions.jsonl`, `figures.jsonl`: a record for every picture and row (:mod:`comparison.log`);
- `pictures/`: the crops; `renderings/`, `inversions/`: results, a folder a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperstyle_rt.files import make_directory, read_regular, write_atomically

from .errors import ComparisonError
from .log import Log, Record
from .pictures import Sample
from .rows import Row

SETTINGS = "settings.json"
CROPS = "pictures"
LARGEST_SETTINGS = 1 << 20
Key = tuple[str, str]  # SHA-256 of a picture, name of a row


class Store:
    """What a comparison has found so far.

    Parameters
    ----------
    folder:
        Where it is kept.
    settings:
        What all results depend on.
    resume:
        Whether to go on with what is there.

    Raises
    ------
    ComparisonError
        If there is a comparison already and `resume` is not set, or it has other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], resume: bool) -> None:
        self.folder = folder
        make_directory(folder, ComparisonError)
        path = folder / SETTINGS
        self._is_new = not path.exists()
        if not self._is_new:
            if not resume:
                raise ComparisonError(
                    f"there is a comparison in {folder}; add --resume to go on with it, or --force "
                    "to begin anew"
                )
            _check_settings(path, settings)
        else:
            text = json.dumps(dict(settings), indent=1)
            write_atomically(path, text.encode(), ComparisonError)
        self._inversions = Log(folder / "inversions.jsonl")
        self._figures = Log(folder / "figures.jsonl")
        self.inversions: dict[Key, Record] = {_key(r): r for r in self._inversions.records}
        self.figures: dict[Key, Record] = {_key(r): r for r in self._figures.records}

    def give_up(self) -> None:
        """Leave no comparison in the folder if there was none: nothing has been inverted."""
        if not self._is_new:
            return
        (self.folder / SETTINGS).unlink(missing_ok=True)
        with suppress(OSError):  # what holds something stays
            (self.folder / CROPS).rmdir()
            self.folder.rmdir()

    def check_rows(self, rows: list[Row]) -> None:
        """Refuse rows that have been run with other numbers of steps.

        Raises
        ------
        ComparisonError
            If so.
        """
        wanted = {row.name: row.steps for row in rows}
        for (_, name), record in self.inversions.items():
            steps = wanted.get(name, record["steps"])
            if steps != record["steps"]:
                raise ComparisonError(
                    f"{name} has been run with {record['steps']} steps in {self.folder}, not "
                    f"{steps}; give it the same, or another --out"
                )

    def inverted(self, sample: Sample, row: Row) -> Record | None:
        """The record of an inversion that was made; None for none, or one that failed."""
        record = self.inversions.get((sample.digest, row.name))
        if record is None or "error" in record or not self.rendering(sample, row).exists():
            return None
        return record

    def add_inversion(self, sample: Sample, row: Row, answer: Mapping[str, Any]) -> None:
        """Record what a process answered."""
        record = {**_names(sample, row), "steps": row.steps, **answer}
        self._inversions.append(record)
        self.inversions[_key(record)] = record

    def measured(self, sample: Sample, row: Row, judges: Mapping[str, str]) -> Record | None:
        """Figures by these judges; None where there are none."""
        record = self.figures.get((sample.digest, row.name))
        return record if record is not None and record["judges"] == dict(judges) else None

    def add_figures(
        self, sample: Sample, row: Row, judges: Mapping[str, str], figures: Mapping[str, Any]
    ) -> None:
        """Record what was measured, one number for every picture on the way and the result."""
        record = {**_names(sample, row), "judges": dict(judges), "figures": dict(figures)}
        self._figures.append(record)
        self.figures[_key(record)] = record

    def rendering(self, sample: Sample, row: Row) -> Path:
        """Where the rendering of an inversion is."""
        return self.folder / "renderings" / row.name / f"{sample.key}.png"

    def between(self, sample: Sample, row: Row) -> Path:
        """Where the pictures on the way are, with ``{}`` for their number."""
        return self.folder / "renderings" / row.name / "between" / f"{sample.key}.{{}}.png"

    def inversion(self, sample: Sample, row: Row) -> Path:
        """Where the inversion file is."""
        return self.folder / "inversions" / row.name / f"{sample.key}.safetensors"

    def task(self, sample: Sample, row: Row) -> dict[str, str]:
        """What a row's process is asked; the folders are there then."""
        paths = {
            "picture": sample.path,
            "rendering": self.rendering(sample, row),
            "between": self.between(sample, row),
            "inversion": self.inversion(sample, row),
        }
        for path in paths.values():
            make_directory(path.parent, ComparisonError)
        return {name: str(path) for name, path in paths.items()}


def _names(sample: Sample, row: Row) -> Record:
    return {"picture": sample.digest, "name": sample.name, "row": row.name}


def _key(record: Record) -> Key:
    return record["picture"], record["row"]


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = json.loads(read_regular(path, LARGEST_SETTINGS, ComparisonError))
    except ValueError as error:
        raise ComparisonError(f"{path} is damaged ({error}); give another --out") from None
    for name in {**before, **settings}:
        if before.get(name) != settings.get(name):
            raise ComparisonError(
                f"the comparison in {path.parent} has {name} {before.get(name)!r}, not "
                f"{settings.get(name)!r}; give it the same, or another --out"
            )
