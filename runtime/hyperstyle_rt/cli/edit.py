"""``hyperstyle-rt edit``: faces along directions, as pictures, contact sheets, or films."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.streams import STANDARD, is_pipe_out
from ..errors import HyperStyleError, InversionError
from . import options
from .edit_report import Edited, EditReport
from .frames import film_path, write_frames
from .outputs import check_report, is_directory_for, refuse_existing, write_report
from .pipes import as_file, called_by_its_name, refuse_json_to_pipe
from .subjects import digest_of, is_inversion, open_model, open_subject, pasted
from .terminal import exit_with_errors, print_json, print_line, print_passed_over

if TYPE_CHECKING:
    from ..batch.records import Record
    from ..batch.sources import Found
    from ..editing.expressions import Amounts
    from ..model import Model

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt edit face.safetensors smile=2 age=-1

hyperstyle-rt edit face.png smile=-3:3:7 --out smiles.png

hyperstyle-rt edit face.safetensors yaw=-2:2:60 pitch=0.5 --out turning.mp4

hyperstyle-rt edit results 'more/*.png' smile=2 --out smiling --resume --report smiling.json
"""

ENDING = ".edited.png"


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """What `edit` is asked for."""

    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="INVERSION|PICTURE... DIRECTION=AMOUNT...",
            help="Inversion files (.safetensors), pictures, folders of them, or quoted patterns; "
            "then steps along directions of the bundle, or sweeps, START:STOP:COUNT.",
            show_default=False,
        ),
    ]
    out: options.FilmOut = None
    rate: options.Rate = 25.0
    bundle: options.SubjectBundle = None
    method: options.Method = None
    running: options.Running
    force: options.Force = False
    align: options.Align = options.When.AUTO
    paste: options.PasteInto = None
    resume: options.Resume = False
    report: options.ReportTo = None
    printing: options.Printing


def edit(request: EditRequest) -> None:
    """Edit faces: along directions such as smile or age, all renders with the same weights.

    Writes NAME.edited.png without --out; of several faces into the directory
    --out. One that cannot be edited does not stop the others: its error is
    printed at the end, and the exit status is 2. Sweeps of one command move
    together and have the same count. To name a direction that does not exist
    lists those that do.
    """
    from ..batch.sources import find_faces
    from ..editing.expressions import parse_edits

    out, report, printing = request.out, request.report, request.printing
    subjects, edits = split_arguments(request.arguments)
    steps = parse_edits(edits)
    found = find_faces(subjects)
    tasks = _plan(found, request)
    if out is not None:
        refuse_json_to_pipe(out, printing.json_)
    if report is not None:
        check_report(report, request.resume, request.force)
    named = _of_known_bundle([task.subject for task in tasks])
    say = printing.shows_lines and not is_pipe_out(tasks[0].out)
    results = EditReport(found, steps)
    with as_file(named) as first:
        model = open_model(request.bundle, first, request.running)
        work = _Work(model, steps, request)
        try:
            for task in tasks:
                line = results.add(task.subject, partial(work.edit, task, named, first))
                if say and line is not None:
                    print_line(line)
        finally:
            if report is not None:
                write_report(report, results.to_json(model))
    if printing.json_:
        print_json(results.to_json(model))
    if not printing.quiet:
        print_passed_over(found.passed_over)
    exit_with_errors(results.failed.values())


def split_arguments(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Tell subjects, which come first, from edits.

    Raises
    ------
    HyperStyleError
        If there are none of one or the other.
    """
    count = 0
    while count < len(arguments) and _is_subject(arguments[count]):
        count += 1
    subjects, edits = list(map(Path, arguments[:count])), list(arguments[count:])
    if not subjects:
        raise HyperStyleError("name the face before the edits; give an inversion or a picture")
    if not edits:
        raise HyperStyleError("there is no edit; give DIRECTION=AMOUNT, e.g. smile=2")
    return subjects, edits


def _is_subject(argument: str) -> bool:
    if os.path.lexists(argument) or argument == str(STANDARD):
        return True
    path = Path(argument)
    looks_like_one = bool(path.suffix) or len(path.parts) > 1 or has_magic(argument)
    return looks_like_one and "=" not in argument


@dataclass(frozen=True)
class _Task:
    subject: Path
    out: Path


def _plan(found: Found, request: EditRequest) -> list[_Task]:
    """Name what is written for each subject, and refuse what is there already."""
    from ..imaging.films import FILM_SUFFIXES

    out, force, resume = request.out, request.force, request.resume
    sources = found.sources
    one = len(sources) == 1 and not (found.folders or found.patterns)
    if one and not resume:
        (source,) = sources
        return [_Task(source.path, film_path(out, f"{source.name}{ENDING}", force))]
    folder = Path() if out is None else out
    if not is_directory_for(folder, found, FILM_SUFFIXES):
        raise HyperStyleError(f"--out {out} names one file; --resume and folders need a directory")
    tasks = [_Task(source.path, folder / f"{source.name}{ENDING}") for source in sources]
    if not force and not resume:
        refuse_existing([task.out for task in tasks])
    return tasks


def _of_known_bundle(subjects: Sequence[Path]) -> Path:
    """The subject that tells the bundle: the first inversion that can be read, else the first."""
    from ..inversion import Inversion

    for subject in subjects if len(subjects) > 1 else ():
        with suppress(InversionError):
            if is_inversion(subject) and Inversion.load(subject):
                return subject
    return subjects[0]


@dataclass(frozen=True)
class _Work:
    model: Model
    steps: list[Amounts]
    request: EditRequest

    def edit(self, task: _Task, piped: Path, spooled: Path) -> Edited:
        """Edit one subject and write the result, unless an earlier run has."""
        from ..batch.records import is_result, read_record

        started = time.perf_counter()
        request = self.request
        subject = spooled if task.subject == piped else task.subject
        with as_file(subject) as file, called_by_its_name(file, task.subject):
            record = self._record(file)
            if request.resume and read_record(task.out) == record:
                return Edited(task.out, 0, 0.0, skipped=True)
            if request.resume and not request.force and not is_result(task.out):
                refuse_existing([task.out])
            face = open_subject(self.model, file, request.align, request.method)
            edited = self.model.sweep(face, self.steps)
            frames = pasted(edited, request.paste, face, file, request.force)
            count = len(self.steps)
            name, silent = task.subject.name, not request.printing.shows_lines
            write_frames(frames, count, task.out, request.rate, name, silent, record)
        return Edited(task.out, count, time.perf_counter() - started)

    def _record(self, file: Path) -> Record:
        from ..batch.records import Record
        from ..work import computed_by

        paste = self.request.paste
        settings: dict[str, Any] = {
            "bundle": self.model.bundle.digest,
            "edits": [dict(step) for step in self.steps],
            "align": self.request.align.value,
            "method": self.request.method,
            "paste": None if paste is None else str(paste),
        }
        return Record(
            picture=digest_of(file),
            settings=settings,
            computed=computed_by(self.model.backend),
            iterations=0,
            face=0,
            faces=0,
            beside=(),
        )
