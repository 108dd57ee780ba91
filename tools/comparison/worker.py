"""One row's process: inverts pictures on request, so that its peak memory is its own.

It opens the runtime alone, without torch and without the networks that measure. The first line of
standard input is the job, every further one a picture; each is answered by one line. It ends with
standard input, or, in the middle of a descent, when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperstyle_rt.errors import BackendError, BundleError, HyperStyleError
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear, to_picture, write_picture
from hyperstyle_rt.inversion import Inversion
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Array, Picture
from processes import peak_memory

from comparison.rows import Row

MARKED = (16, 8, 4, 2)  # parts of a descent after which its picture is kept
MEASURED_SIDE = 256  # pictures between are kept at the size at which they are measured


@dataclass
class Course:
    """Pictures on the way to an inversion.

    Attributes
    ----------
    wanted:
        Numbers of steps after which a picture is kept.
    started:
        Seconds by the clock and of the processor when it began.
    pictures, marks:
        What was kept; what it is called, and after which seconds, of both kinds, it was there.
    steps:
        How many were done.
    parent:
        The process that waits for the inversion.
    """

    wanted: frozenset[int]
    started: tuple[float, float] = field(default_factory=lambda: _clocks())
    pictures: list[Picture] = field(default_factory=list)
    marks: list[tuple[str, float, float]] = field(default_factory=list)
    steps: int = 0
    parent: int = field(default_factory=os.getppid)

    def iterated(self, done: int, image: Array, _codes: Array | None) -> None:
        """Called after an iteration."""
        self._keep(f"iteration {done}", image)

    def stepped(self, done: int, _loss: float, image: Array) -> None:
        """Called before the first step of a descent and after every one."""
        if os.getppid() != self.parent:
            raise SystemExit(1)
        self.steps = done
        if done in self.wanted:
            self._keep(f"step {done}", image)

    def spent(self) -> tuple[float, float]:
        """Seconds since it began, by the clock and of the processor."""
        seconds, cpu = (now - then for now, then in zip(_clocks(), self.started, strict=True))
        return round(seconds, 4), round(cpu, 4)

    def _keep(self, label: str, image: Array) -> None:
        self.marks.append((label, *self.spent()))
        picture = to_picture(image)
        height, width = picture.shape[:2]
        self.pictures.append(
            resize_bilinear(picture, (min(height, MEASURED_SIDE), min(width, MEASURED_SIDE)))
        )


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def invert(model: Model, row: Row, picture: Picture) -> tuple[Inversion, Course]:
    """Invert a picture as a row says; pictures are taken as they are."""
    course = Course(frozenset(max(1, row.steps // part) for part in MARKED))
    inversion = None
    if row.method is not None:
        iterates = model.bundle.manifest.method(row.method).iterating_phase is not None
        inversion = model.invert(
            picture,
            row.iterations,
            on_iteration=course.iterated if iterates else None,
            method=row.method,
            align="never",
        )
    if row.preset is not None:
        inversion = model.optimise(
            inversion,
            picture,
            row.preset,
            steps=row.steps,
            on_step=course.stepped,
            align="never",
        )
    assert inversion is not None
    return inversion, course


def prepare(model: Model, row: Row, picture: Picture) -> None:
    """Open all graphs of a row: the first run of each takes longer than the others."""
    short = Row(row.name, row.method, row.iterations, row.preset, min(row.steps, 2))
    invert(model, short, picture)


def answer_picture(model: Model, row: Row, task: dict[str, str], is_first: bool) -> dict[str, Any]:
    """Invert a picture, and write the rendering, those on the way, and the inversion."""
    picture = resize_bilinear(read_picture(Path(task["picture"])), model.bundle.manifest.image_size)
    if is_first:
        prepare(model, row, picture)
    inversion, course = invert(model, row, picture)
    seconds, cpu = course.spent()
    for number, between in enumerate(course.pictures):
        write_picture(Path(task["between"].format(number)), between)
    write_picture(Path(task["rendering"]), inversion.image)
    inversion.save(task["inversion"])
    return {
        "seconds": seconds,
        "cpu": cpu,
        "peak": peak_memory(),
        "steps_done": course.steps,
        "marks": course.marks,
    }


def main() -> None:
    """Answer lines until there are none."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    engine, row = job["engine"], Row(**job["row"])
    try:
        model = Model.load(engine.pop("bundle"), **engine)
    except Exception as error:
        answer({"error": _sentence(error)})
        return
    answer({"opened": peak_memory()})
    is_first = True
    for line in sys.stdin:
        try:
            answer(answer_picture(model, row, json.loads(line), is_first))
            is_first = False
        except (BundleError, BackendError) as error:  # the same for every picture
            answer({"error": str(error), "ends": True})
            return
        except Exception as error:
            answer({"error": _sentence(error)})


def _sentence(error: Exception) -> str:
    """An error for the report; what is no user's mistake is told in full on standard error."""
    if isinstance(error, HyperStyleError):
        return str(error)
    traceback.print_exc()
    return f"{type(error).__name__}: {error}"
