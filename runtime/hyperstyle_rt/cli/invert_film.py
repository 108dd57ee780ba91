"""``hyperstyle-rt invert`` for films: their frames inverted, and films of what was found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.streams import is_pipe_out
from ..errors import HyperStyleError, InversionError, PictureError
from ..files import is_directory, make_directory, sha256
from . import options
from .invert_descent import check_descent
from .invert_methods import ALL_METHODS, all_settings
from .invert_options import InvertRequest
from .invert_report import report_head
from .outputs import (
    check_distinct,
    check_report,
    is_directory_for,
    refuse_existing,
    write_report,
)
from .terminal import (
    batch_progress,
    exit_with_errors,
    print_json,
    print_line,
    printable,
)

if TYPE_CHECKING:
    from ..batch.sources import Found
    from ..model import Model
    from ..video.folder import FilmFolder, FilmRecord
    from ..video.inverting import FilmSettings, InvertedFrame
    from ..video.reading import FilmFacts

FILMS = "films"
"""What is worked on, in sentences."""

Advance = Callable[[str, int], None]
"""Called with what is done and a number of frames that were done."""


def films_of(arguments: Sequence[Path]) -> list[Path]:
    """The films among what is to be inverted, and patterns of such: all of it, or none.

    Raises
    ------
    HyperStyleError
        If there are pictures beside films.
    """
    from ..video.names import READABLE_FILMS

    films = [
        path
        for path in arguments
        if path.suffix.lower() in READABLE_FILMS and not is_directory(path)
    ]
    if films and len(films) < len(arguments):
        others = next(path for path in arguments if path not in films)
        raise HyperStyleError(
            f"{films[0]} is a film and {others} is none; invert films with a command of their own"
        )
    return films


def invert_films(request: InvertRequest, films: Sequence[Path]) -> None:
    """Invert films one after the other; one that cannot be inverted does not stop the others."""
    from ..batch.sources import find_sources
    from ..model import Model
    from ..video.folder import FILM_FILE
    from ..video.names import READABLE_FILMS
    from ..video.reading import check_films

    check_films()
    _refuse_options(request)
    running, printing, folders = request.running, request.printing, request.folders
    tasks = _plan(find_sources(films, READABLE_FILMS), request)
    model = Model.load(request.search.bundle, running.backend, **running.settings())
    settings = _settings(request, model)
    if not request.force and not folders.resume:
        refuse_existing([path for task in tasks for path in task.paths(request)])
    if folders.report is not None:
        used = [p for t in tasks for p in (t.film, *t.paths(request), t.inversions / FILM_FILE)]
        check_report(folders.report, folders.resume, request.force, used)
    done: list[dict[str, Any]] = []
    errors: dict[Path, str] = {}
    try:
        for task in tasks:
            try:
                done.append(_invert(task, model, settings, request))
            except (PictureError, InversionError) as error:
                errors[task.film] = str(error)
            else:
                if printing.shows_lines:
                    print_line(_line_of(done[-1]))
    finally:
        document = _document(model, done, errors)
        if folders.report is not None:
            write_report(folders.report, document)
    if printing.json_:
        print_json(document)
    exit_with_errors(errors.values())


@dataclass(frozen=True)
class _Task:
    """A film, and what is made of it."""

    film: Path
    result: Path
    pasted: Path
    inversions: Path

    def films(self, request: InvertRequest) -> list[Path]:
        return [self.result, self.pasted] if request.photos.paste else [self.result]

    def paths(self, request: InvertRequest) -> list[Path]:
        return [*self.films(request), self.inversions]


def _refuse_options(request: InvertRequest) -> None:
    """Refuse what is for pictures."""
    written, photos, search = request.written, request.photos, request.search
    unfit = {
        "--save-steps": written.save_steps,
        "--coupled": written.coupled,
        "--export-bundle": written.export_bundle is not None,
        "--unaligned": photos.unaligned,
        "--face all": photos.face == "all",
        f"--method {ALL_METHODS}": search.method == ALL_METHODS,
        "--mask": request.descent.mask is not None,
        f"--out {written.out}": is_pipe_out(written.out),
    }
    for option, given in unfit.items():
        if given:
            raise HyperStyleError(f"{option} is for pictures, not for films; leave it out")
    options.check_face(photos.face, "largest")
    if photos.paste and photos.align is options.When.NEVER:
        raise HyperStyleError(
            "--paste needs faces that were found and aligned, and with --align never none are "
            "looked for; leave one of them out"
        )


def _settings(request: InvertRequest, model: Model) -> FilmSettings:
    from ..inverting.preparing import looks_for_faces
    from ..video.inverting import FilmSettings

    descent = request.descent
    if (descent.effort, descent.then, request.search.method) == (None, None, None):
        # Gradient steps for every frame are asked for by name: they take hours.
        descent = replace(descent, effort=options.Effort.FAST)
    (frame,) = all_settings(replace(request, descent=descent), model, None)
    check_descent(frame, model)
    manifest, films = model.bundle.manifest, request.films
    aligned = looks_for_faces(manifest, frame.align)
    if request.photos.paste and not aligned:
        raise HyperStyleError(
            f"--paste needs faces that were found and aligned, and bundle {manifest.name} looks "
            "for none; add --align always"
        )
    following = None if films.independent else films.following
    return FilmSettings(frame, aligned, films.smooth, following)


def _plan(found: Found, request: InvertRequest) -> list[_Task]:
    """Name what is made of every film."""
    from ..video.names import WRITABLE_FILMS
    from ..video.writing import suffix_like

    out = request.written.out
    if is_directory_for(out, found, WRITABLE_FILMS, FILMS):
        sources = found.sources
        tasks = [
            _task(each.path, out / each.name, suffix_like(each.path.suffix)) for each in sources
        ]
    else:
        (source,) = found.sources
        tasks = [replace(_task(source.path, out.with_suffix(""), out.suffix), result=out)]
    check_distinct([(task.film, task.paths(request)) for task in tasks], what=FILMS)
    return tasks


def _task(film: Path, name: Path, suffix: str) -> _Task:
    """What is made of a film, called by a path without suffix."""
    from ..video.folder import ENDING

    result, pasted = (
        name.with_name(f"{name.name}.{kind}{suffix}") for kind in ("inverted", "pasted")
    )
    return _Task(film, result, pasted, name.with_name(f"{name.name}{ENDING}"))


def _invert(
    task: _Task, model: Model, settings: FilmSettings, request: InvertRequest
) -> dict[str, Any]:
    """Invert one film; what the document says of it."""
    from ..video.folder import FilmFolder
    from ..video.reading import describe_film

    started = time.perf_counter()
    facts, digest = describe_film(task.film), sha256(task.film)
    folder = FilmFolder(task.inversions)
    before = folder.read() if request.folders.resume else None
    same = (digest, settings.to_json(), facts.size)
    if before is not None and (before.film, before.settings, before.size) != same:
        before = None
    wanted = task.films(request)
    earlier = before is not None and _are_written(wanted, before) and folder.is_whole(before)
    if not earlier:
        _check_free(wanted, folder, request)
    with batch_progress(request.printing.quiet) as progress:
        bar = progress.add_task("", total=facts.frames or None, rate="")

        def advance(said: str, frames: int) -> None:
            progress.update(bar, description=printable(said), completed=frames)

        record = before or _looked_through(facts, digest, settings, advance)
        progress.update(bar, total=len(record.track))
        if not earlier:
            record = folder.begin(record, keep=before is not None)
            _make_films(task, model, settings, folder, record, request, advance)
    return {
        "input": str(task.film),
        "output": str(task.result),
        "pasted": str(task.pasted) if request.photos.paste else None,
        "inversions": str(task.inversions),
        "frames": len(record.track),
        "frames_with_face": record.track.faces,
        "runs": int(record.track.runs.max()) + 1,
        "earlier": earlier,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _are_written(wanted: Sequence[Path], record: FilmRecord) -> bool:
    return all(_is_one_of(record.written, path) for path in wanted)


def _is_one_of(films: Mapping[str, str], path: Path) -> bool:
    """Whether there is a film in a file, of this name and SHA-256."""
    from ..video.folder import named

    return path.is_file() and films.get(named(path)) == sha256(path)


def _check_free(wanted: Sequence[Path], folder: FilmFolder, request: InvertRequest) -> None:
    """Refuse to replace films that are of no earlier run, and folders in any case."""
    for path in filter(is_directory, wanted):
        raise PictureError(f"{path} is a folder; move it away, or give another --out")
    if request.force:
        return
    record = folder.read()
    ours = {} if record is None else record.ours
    for path in wanted:
        if os.path.lexists(path) and not _is_one_of(ours, path):
            raise PictureError(
                f"{path} exists and is of no earlier run, so --resume leaves it alone; move it "
                "away, or replace it with --force"
            )


def _looked_through(
    facts: FilmFacts, digest: str, settings: FilmSettings, advance: Advance
) -> FilmRecord:
    from ..video.folder import FilmRecord
    from ..video.inverting import follow_face
    from ..video.tracking import Track

    track: Track | None = None
    for seen in follow_face(facts, settings):
        if isinstance(seen, Track):
            track = seen
        else:
            advance("looking for the face", seen)
    assert track is not None  # it comes last
    suffix, document = facts.path.suffix.lower(), settings.to_json()
    return FilmRecord(digest, suffix, document, facts.size, facts.time_base, facts.rate, track)


def _make_films(
    task: _Task,
    model: Model,
    settings: FilmSettings,
    folder: FilmFolder,
    record: FilmRecord,
    request: InvertRequest,
    advance: Advance,
) -> None:
    """Invert the frames, and write the films of what is found as they come."""
    from ..video.folder import named
    from ..video.inverting import FilmInverter
    from ..video.reading import read_frames
    from ..video.writing import open_film_with_sound

    inverter = FilmInverter(model, settings, folder, record.track)
    frames = inverter.run(read_frames(task.film), request.folders.jobs)
    make_directory(task.result.parent, PictureError)
    size = model.bundle.manifest.image_size
    with ExitStack() as stack:
        films = [
            stack.enter_context(
                open_film_with_sound(path, record.time_base, record.rate, task.film)
            )
            for path in task.films(request)
        ]
        for inverted in frames:
            pictures = _pictures_of(inverted, size, request.photos.paste)
            for add, picture in zip(films, pictures, strict=True):
                add(picture, inverted.frame.time)
            advance(task.film.name, inverted.frame.number + 1)
    folder.finish(record, {named(path): sha256(path) for path in task.films(request)})


def _pictures_of(inverted: InvertedFrame, size: tuple[int, int], paste: bool) -> list[Any]:
    """The frames of the films: what was found, and the film's own frame with it set back."""
    import numpy as np

    from ..photos.portraits import paste as set_back

    frame, inversion, rendering = inverted.frame, inverted.inversion, inverted.rendering
    if inversion is None or rendering is None:
        black = np.zeros((*size, 3), np.uint8)
        return [black, frame.picture] if paste else [black]
    if not paste:
        return [rendering]
    assert inversion.data.transform is not None  # it was aligned
    return [rendering, set_back(frame.picture, inversion.data.transform, rendering)]


def _document(
    model: Model, done: Sequence[dict[str, Any]], errors: dict[Path, str]
) -> dict[str, Any]:
    return {
        **report_head(model),
        "films": list(done),
        "errors": [{"input": str(path), "error": text} for path, text in errors.items()],
    }


def _line_of(film: dict[str, Any]) -> str:
    faces, frames = film["frames_with_face"], film["frames"]
    seen = f"{frames} frames" if faces == frames else f"{faces} of {frames} frames with a face"
    how = "done by an earlier run" if film["earlier"] else f"{film['seconds']:.1f} s"
    return f"{film['input']} -> {film['output']}  ({seen}, {how})"
