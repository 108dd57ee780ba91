"""``hyperstyle-rt edit``: faces along directions, as pictures, contact sheets, or films."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.records import Record, is_result, read_record
from ..batch.streams import STANDARD, is_pipe_out
from ..errors import HyperStyleError, InversionError, PictureError
from . import options
from .edit_film import edit_film, film_folder_of
from .edit_report import Edited, EditReport
from .frames import film_path, write_frames
from .outputs import (
    check_distinct,
    check_report,
    is_directory_for,
    numbered,
    refuse_existing,
    write_report,
)
from .pipes import as_file, called_by_its_name, refuse_json_to_pipe
from .subjects import digest_of, is_inversion, open_faces, open_model, pasted_together
from .terminal import exit_with_errors, print_json, print_line, print_passed_over

if TYPE_CHECKING:
    from ..batch.sources import Found, Source
    from ..editing.expressions import Amounts
    from ..imaging.pictures import Original
    from ..inversion import Inversion
    from ..model import Model
    from ..types import Array

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt edit face.safetensors smile=2 age=-1

hyperstyle-rt edit face.png smile=-3:3:7 --out smiles.png

hyperstyle-rt edit face.safetensors yaw=-2:2:60 pitch=0.5 --out turning.mp4

hyperstyle-rt edit party.jpg smile=2 --face all --paste party.jpg

hyperstyle-rt edit film.inversions smile=0@0,2@1.5 age=-1 --paste film.mp4

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
    face: options.Face = "largest"
    paste: options.PasteInto = None
    unaligned: Annotated[
        bool,
        options.flag(
            "--unaligned",
            says="Turned as in the photo that the face was cut out of. For generators that can "
            "move their pictures: StyleGAN3's.",
            panel=options.PHOTOS,
        ),
    ] = False
    resume: options.Resume = False
    report: options.ReportTo = None
    printing: options.Printing

    @property
    def photos(self) -> list[Path]:
        """What is read beside the faces."""
        return [] if self.paste is None else [self.paste]


def edit(request: EditRequest) -> None:
    """Edit faces: along directions such as smile or age, all renders with the same weights.

    Writes NAME.edited.png without --out; of several pictures into the directory
    --out. One that cannot be edited does not stop the others: its error is
    printed at the end, and the exit status is 2. Sweeps of one command move
    together and have the same count. To name a direction that does not exist
    lists those that do. Of a film, NAME.inversions, amounts may change over time:
    START:STOP, or amounts at seconds, 0@0,2@1.5.
    """
    from ..batch.sources import find_faces
    from ..editing.expressions import parse_edits
    from ..photos.portraits import ALL, LARGEST
    from ..rendering import check_moves

    out, report, printing = request.out, request.report, request.printing
    subjects, edits = split_arguments(request.arguments)
    if folder := film_folder_of(subjects):
        edit_film(request, folder, edits)
        return
    options.check_face(request.face, LARGEST, ALL)
    steps = parse_edits(edits)
    found = find_faces(subjects)
    tasks = _plan(found, request)
    if out is not None:
        refuse_json_to_pipe(out, printing.json_)
    if request.unaligned and request.paste is not None:
        raise HyperStyleError(
            "--paste sets a face back that is turned as the crop is; leave out --unaligned"
        )
    if report is not None:
        used = [path for task in tasks for path in (task.subject, task.first)]
        check_report(report, request.resume, request.force, [*used, *request.photos])
    named = _of_known_bundle([task.subject for task in tasks])
    say = printing.shows_lines and not is_pipe_out(tasks[0].out)
    results = EditReport(found, steps)
    with as_file(named) as first:
        model = open_model(request.bundle, first, request.running)
        if request.unaligned:
            check_moves(model.bundle.manifest)
        work = _Work(model, steps, request)
        try:
            for task in tasks:
                lines = results.add(task.subject, partial(work.edit, task, named, first))
                for line in lines if say else ():
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
    """An inversion or a picture, what is written for it, and whether by the numbers of faces."""

    subject: Path
    out: Path
    by_faces: bool

    def file(self, face: int) -> Path:
        return numbered(self.out, face, ENDING)

    @property
    def first(self) -> Path:
        """The file, or of several faces that of the first: the others are not known yet."""
        return self.file(int(self.by_faces))


def _plan(found: Found, request: EditRequest) -> list[_Task]:
    """Name what is written for each subject, and refuse what may not be replaced."""
    from ..imaging.films import FILM_SUFFIXES
    from ..imaging.pictures import PICTURE_SUFFIXES
    from ..photos.portraits import ALL

    def task(source: Source, out: Path) -> _Task:
        several = request.face == ALL and request.paste is None
        return _Task(source.path, out, several and not is_inversion(source.path))

    out, force, resume = request.out, request.force, request.resume
    sources = found.sources
    one = len(sources) == 1 and not (found.folders or found.patterns)
    if one and not resume:
        (source,) = sources
        only = task(source, Path(f"{source.name}{ENDING}") if out is None else out)
        if only.by_faces and is_pipe_out(only.out):
            raise HyperStyleError(f"--out {out} takes one face; give a file or directory for all")
        film_path(only.first, "", force, [only.subject, *request.photos])
        return [only]
    folder = Path() if out is None else out
    if not is_directory_for(folder, found, (*PICTURE_SUFFIXES, *FILM_SUFFIXES)):
        raise HyperStyleError(f"--out {out} names one file; --resume and folders need a directory")
    tasks = [task(source, folder / f"{source.name}{ENDING}") for source in sources]
    check_distinct([(each.subject, [each.first]) for each in tasks], request.photos)
    if not force and not resume:
        refuse_existing([each.first for each in tasks])
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

    def edit(self, task: _Task, piped: Path, spooled: Path) -> Iterator[Edited]:
        """Edit the faces of one subject and write the results, unless an earlier run has.

        Yields
        ------
        What was written, each as soon as it is.
        """
        from ..imaging.pictures import Original

        request = self.request
        subject = spooled if task.subject == piped else task.subject
        with as_file(subject) as file, called_by_its_name(file, task.subject):
            record = self._record(file)
            if request.resume and (earlier := _earlier(task, record)):
                yield from earlier
                return
            if request.resume:
                self._check_free([task.first])
            started = time.perf_counter()
            faces = open_faces(self.model, file, request.align, request.method, request.face)
            if request.paste is not None:
                inversions = [face for _, face in faces]
                with self._pasted(inversions, request.paste, file) as frames:
                    yield self._write(task, 0, frames, record, started)
                return
            self._check_free([task.file(number) for number, _ in faces[1:]])
            for number, face in faces:
                motion = self._motion(face, file)
                frames = map(Original, self.model.sweep(face, self.steps, motion))
                of_face = replace(record, face=number, faces=len(faces) if number else 0)
                yield self._write(task, number, frames, of_face, started)
                started = time.perf_counter()

    def _motion(self, face: Inversion, file: Path) -> Array | None:
        """What turns a face as it is in its photo, where that is asked for."""
        from ..transforms import unaligned_transform

        if not self.request.unaligned:
            return None
        if face.data.transform is None:
            raise HyperStyleError(
                f"{file}: --unaligned needs a face that was cut out of a photo; invert the photo "
                "itself with --align always"
            )
        return unaligned_transform(face.data.transform)

    @contextmanager
    def _pasted(
        self, faces: Sequence[Inversion], photo: Path, file: Path
    ) -> Iterator[Iterator[Original]]:
        """The photo with all its faces edited, step by step."""
        with ExitStack() as opened:  # a session keeps the kernels of one face at a time
            sessions = [opened.enter_context(self.model.session()) for _ in faces]
            frames = [
                session.sweep(face, self.steps)
                for session, face in zip(sessions, faces, strict=True)
            ]
            yield pasted_together(frames, photo, faces, file, self.request.force)

    def _write(
        self, task: _Task, number: int, frames: Iterator[Original], record: Record, started: float
    ) -> Edited:
        request, count, out = self.request, len(self.steps), task.file(number)
        name, silent = task.subject.name, not request.printing.shows_lines
        write_frames(frames, count, out, request.rate, name, silent, record)
        return Edited(out, count, time.perf_counter() - started, face=number)

    def _check_free(self, paths: Sequence[Path]) -> None:
        """Refuse to replace what is there, unless asked to, or an earlier run's where resuming."""
        if self.request.force:
            return
        resume = self.request.resume
        refuse_existing([p for p in paths if not (resume and is_result(p))], PictureError)

    def _record(self, file: Path) -> Record:
        from ..work import computed_by

        request, paste = self.request, self.request.paste
        settings: dict[str, Any] = {
            "bundle": self.model.bundle.digest,
            "edits": [dict(step) for step in self.steps],
            "align": request.align.value,
            "face": request.face,
            "method": request.method,
            "precision": request.running.precision,
            "paste": None if paste is None else str(paste),
            "unaligned": request.unaligned,
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


def _earlier(task: _Task, record: Record) -> list[Edited]:
    """What an earlier run has written for a subject, wherever it ran, if all of it is there."""
    first = read_record(task.first)
    if first is None:
        return []
    numbers = range(1, first.faces + 1) if task.by_faces else (0,)
    for number in numbers:
        found = read_record(task.file(number))
        wanted = replace(record, face=number, faces=first.faces)
        if found is None or replace(found, computed=record.computed) != wanted:
            return []
    return [Edited(task.file(number), 0, 0.0, skipped=True, face=number) for number in numbers]
