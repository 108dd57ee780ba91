"""What ``hyperstyle-rt invert`` tells about every picture, to people and to machines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.records import REPORT_FORMAT
from ..optimising.names import AUTO

if TYPE_CHECKING:
    from ..batch.pipeline import Failure
    from ..batch.run import Done, Finished, Task
    from ..model import Model


_MEASURES = (("l2", "L2"), ("perceptual", "perceptual"))


@dataclass
class Report:
    """What became of the pictures so far, in their order.

    Attributes
    ----------
    passed_over:
        What else was in the folders.
    pipe:
        Where the only result goes instead of a file.
    worked_on:
        Number of pictures that were inverted or failed, not skipped.
    """

    tasks: Sequence[Task]
    passed_over: Sequence[Path] = ()
    pipe: Path | None = None
    done: list[tuple[Path, Done]] = field(default_factory=list)
    skipped: list[tuple[Path, tuple[Path, ...]]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    worked_on: int = 0
    _started: float = field(default_factory=time.perf_counter)

    def add(self, picture: Path, outcome: Finished | Failure) -> list[str]:
        """Take up a picture.

        Returns
        -------
        A line for each result that was written.
        """
        if isinstance(outcome, Exception):
            self.worked_on += 1
            self.failed.append((picture, str(outcome)))
            return []
        if outcome.earlier:
            self.skipped.append((picture, outcome.earlier))
        else:
            self.worked_on += 1
        if outcome.notice is not None:
            self.notices.append(outcome.notice)
        self.done += [(picture, done) for done in outcome.done]
        return [
            f"{picture} -> {done.outputs.result}  ({_work_of(done)}"
            f"{_size_of(done.outputs.inversion)})"
            for done in outcome.done
        ]

    def sort(self) -> None:
        """Put what was added in the order of the pictures."""
        places = {task.picture: place for place, task in enumerate(self.tasks)}
        for entries in (self.done, self.skipped, self.failed):
            entries.sort(key=lambda entry: places[entry[0]])

    @property
    def seconds(self) -> float:
        """Time since the report was begun."""
        return time.perf_counter() - self._started

    @property
    def rate(self) -> str:
        """How fast it goes, for people; empty while nothing is done."""
        if not self.worked_on:
            return ""
        rate = self.worked_on / self.seconds
        return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"

    def summary(self) -> str:
        """Write one line about all pictures."""
        parts = [f"{self.worked_on - len(self.failed)} inverted"]
        parts += [f"{len(self.skipped)} skipped"] if self.skipped else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        rate = f" ({self.rate})" if self.worked_on else ""
        return f"{', '.join(parts)} of {len(self.tasks)} in {self.seconds:.1f} s{rate}"

    def to_json(self, model: Model) -> dict[str, Any]:
        """Make the document of ``--json`` and ``--report``."""
        return {
            **report_head(model),
            "pictures": len({task.picture for task in self.tasks}),
            "seconds": round(self.seconds, 3),
            "inversions": [_done_to_json(*each, self.pipe) for each in self.done],
            "skipped": [
                {"input": str(picture), "results": [str(path) for path in results]}
                for picture, results in self.skipped
            ],
            "passed_over": [str(path) for path in self.passed_over],
            "notices": self.notices,
            "errors": [
                {"input": str(path), "error": text} for path, text in dict.fromkeys(self.failed)
            ],
        }


def report_head(model: Model) -> dict[str, Any]:
    """What every report of an inversion begins with: its format, the bundle, what computed."""
    bundle = model.bundle
    return {
        "format": REPORT_FORMAT,
        "version": 1,
        "bundle": {
            "name": bundle.manifest.name,
            "directory": str(bundle.directory),
            "digest": bundle.digest,
        },
        "provider": model.backend.provider,
    }


def _work_of(done: Done) -> str:
    """Iterations, where there were any, gradient steps and seconds."""
    iterations = f", {_counted(done.iterations, 'iteration')}" if done.iterations else ""
    return f"{iterations}{_said_of(done.effort)}, {done.seconds:.1f} s".removeprefix(", ")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _said_of(effort: Mapping[str, Any] | None) -> str:
    """What gradient steps followed, and why, for a line about the picture."""
    if effort is None:
        return ""
    steps = int(effort["steps"])
    if effort["name"] != AUTO or "fits_from" not in effort:
        return f", {_counted(steps, 'gradient step')}"
    before, level = (
        " and ".join(f"{kind} {effort[at][name]:.3f}" for name, kind in _MEASURES)
        for at in ("before", "fits_from")
    )
    if not steps:
        return f", which fit: {before} of at most {level}"
    return f", {_counted(steps, 'gradient step')}, as {before} is not within {level}"


def _done_to_json(picture: Path, done: Done, pipe: Path | None) -> dict[str, Any]:
    outputs = done.outputs
    return {
        "input": str(picture),
        "face": done.face or None,
        "outputs": {
            "result": str(pipe or outputs.result),
            "steps": [str(path) for path in outputs.steps],
            "coupled": None if outputs.coupled is None else str(outputs.coupled),
            "inversion": None if outputs.inversion is None else str(outputs.inversion),
            "pasted": None if outputs.pasted is None else str(outputs.pasted),
            "unaligned": None if outputs.unaligned is None else str(outputs.unaligned),
        },
        "iterations": done.iterations,
        "effort": None if done.effort is None else dict(done.effort),
        "seconds": round(done.seconds, 3),
        "inversion_bytes": _bytes_of(outputs.inversion),
    }


def _bytes_of(inversion: Path | None) -> int | None:
    """Size of an inversion file; None where there is none, or where it has been moved away."""
    try:
        return None if inversion is None else inversion.stat().st_size
    except OSError:
        return None


def _size_of(inversion: Path | None) -> str:
    """The same for people: free weights make it large."""
    size = _bytes_of(inversion)
    if size is None:
        return ""
    return (
        f", inversion of {size / 1e6:.1f} MB"
        if size >= 1e5
        else f", inversion of {size / 1e3:.1f} kB"
    )
