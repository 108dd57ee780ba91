"""What a comparison has found: figures of every row, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from evaluation.metrics import average
from hyperstyle_rt.types import Floats

from .pictures import Sample
from .rows import Row
from .run import samples_of
from .store import Store

MEASURED = ("identity", "distance", "ms_ssim", "lpips", "l2", "psnr")
SPENT = ("seconds", "cpu")
"""By the clock and of the processor; a mark on the way has both, in this order."""


@dataclass(frozen=True)
class RowResult:
    """One row's figures.

    Attributes
    ----------
    row:
        Which.
    names:
        Of the N pictures that have a result.
    digests:
        SHA-256 of each.
    values:
        Figure -> float64 [N], NaN where it is none; ``seconds`` and ``cpu`` of an inversion.
    courses:
        For every picture times and figures on the way, the result last, float64 [K] each.
    steps_done:
        Most steps that were taken; fewer than asked where a descent has a stop.
    peak:
        Bytes of the process; 0 without a result.
    missing:
        Pictures that should have a result and have none.
    """

    row: Row
    names: list[str]
    digests: list[str]
    values: Mapping[str, Floats]
    courses: list[dict[str, Floats]]
    steps_done: int
    peak: int
    missing: list[str]

    def mean(self, among: Sequence[str]) -> dict[str, float]:
        """Means over the pictures with these digests; of times and distances the medians."""
        kept = [digest in among for digest in self.digests]
        return {name: _average(name, values[kept]) for name, values in self.values.items()}

    def mean_course(self, among: Sequence[str]) -> dict[str, list[float]]:
        """The same on the way, where all these pictures have equally many marks."""
        courses = [c for c, d in zip(self.courses, self.digests, strict=True) if d in among]
        if not courses or len({len(course["seconds"]) for course in courses}) > 1:
            return {}
        return {
            name: [_average(name, [c[name][at] for c in courses]) for at in range(len(values))]
            for name, values in courses[0].items()
        }


@dataclass(frozen=True)
class Comparison:
    """All rows.

    Attributes
    ----------
    title:
        What was compared on what.
    rows:
        In the order of the table.
    common:
        SHA-256 of the pictures that every row with a result has.
    strangers:
        Mean identity similarity of different pictures; None without a network, or of one picture.
    problems:
        Sentences: pictures, rows and judges that could not be used.
    settings:
        With what.
    """

    title: str
    rows: list[RowResult]
    common: list[str]
    strangers: float | None
    problems: list[str]
    settings: Mapping[str, Any]

    @property
    def uneven(self) -> bool:
        """Whether some rows have more pictures than others."""
        return any(len(row.digests) > len(self.common) for row in self.rows)


def gather(
    title: str,
    rows: Sequence[Row],
    samples: Sequence[Sample],
    store: Store,
    judges: Mapping[str, str],
    strangers: float | None,
    problems: list[str],
    settings: Mapping[str, Any],
) -> Comparison:
    """Put together what a store has of these rows and pictures, as these judges measured it."""
    found = [_row_result(row, samples_of(row, samples), store, judges) for row in rows]
    with_results = [set(result.digests) for result in found if result.digests]
    common = set.intersection(*with_results) if with_results else set()
    ordered = [sample.digest for sample in samples if sample.digest in common]
    return Comparison(title, found, ordered, strangers, problems, settings)


def _row_result(
    row: Row, samples: Sequence[Sample], store: Store, judges: Mapping[str, str]
) -> RowResult:
    names, digests, missing, courses = [], [], [], []
    values: dict[str, list[float]] = {}
    steps_done = peak = 0
    for sample in samples:
        record, measured = store.inverted(sample, row), store.measured(sample, row, judges)
        if record is None or measured is None:
            missing.append(sample.name)
            continue
        names.append(sample.name)
        digests.append(sample.digest)
        steps_done = max(steps_done, record["steps_done"])
        peak = max(peak, record["peak"])
        course = {name: _numbers(of_one) for name, of_one in measured["figures"].items()}
        for name in MEASURED:
            if name in course:
                values.setdefault(name, []).append(course[name][-1])
        for name in SPENT:
            values.setdefault(name, []).append(record[name])
        for number, name in enumerate(SPENT, 1):
            course[name] = np.array([*(mark[number] for mark in record["marks"]), record[name]])
        courses.append(course)
    arrays = {name: np.array(numbers) for name, numbers in values.items()}
    return RowResult(row, names, digests, arrays, courses, steps_done, peak, missing)


def _average(name: str, values: Sequence[float] | Floats) -> float:
    """The mean, of both times the median."""
    return average("seconds" if name in SPENT else name, np.asarray(values))


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values])
