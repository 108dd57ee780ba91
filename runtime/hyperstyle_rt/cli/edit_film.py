"""``hyperstyle-rt edit`` for the folder of a film's inversions: edits that change over time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HyperStyleError, PictureError
from ..files import is_directory, make_directory, reason, sha256
from .options import When
from .outputs import check_report, check_writable, refuse_existing, write_report
from .terminal import batch_progress, print_done, printable

if TYPE_CHECKING:
    from ..model import Model
    from ..video.amounts import Course
    from ..video.folder import FilmFolder, FilmRecord
    from .edit import EditRequest


def film_folder_of(subjects: Sequence[Path]) -> Path | None:
    """The folder of a film's inversions, where that is what is to be edited.

    Raises
    ------
    HyperStyleError
        If there is anything beside it.
    """
    from ..video.folder import is_film_folder

    folders = [path for path in subjects if is_film_folder(path)]
    if folders and len(subjects) > 1:
        raise HyperStyleError(
            f"{folders[0]} holds the inversions of a film; edit it with a command of its own"
        )
    return folders[0] if folders else None


def edit_film(request: EditRequest, path: Path, edits: Sequence[str]) -> None:
    """Edit a film: every frame along directions, by amounts that change over time."""
    from ..model import Model
    from ..video.amounts import parse_courses
    from ..video.folder import FILM_FILE, open_film_folder

    started = time.perf_counter()
    _refuse_options(request)
    folder, record = open_film_folder(path)
    courses = parse_courses(edits, record.duration)
    out = _out(request, path, record)
    if request.report is not None:
        used = [path / FILM_FILE, out, *request.photos]
        check_report(request.report, request.resume, request.force, used)
    if request.paste is not None and not request.force:
        _check_paste(request.paste, path, record)
    running, printing = request.running, request.printing
    bundle = request.bundle or _bundle_of(folder, record)
    model = Model.load(bundle, running.backend, **running.settings())
    with batch_progress(printing.quiet) as progress:
        bar = progress.add_task(printable(path.name), total=len(record.track), rate="")
        for _ in _written(model, folder, record, courses, request.paste, out):
            progress.advance(bar)
    document = {
        "input": str(path),
        "output": str(out),
        "frames": len(record.track),
        "bundle": model.bundle.manifest.name,
        "provider": model.backend.provider,
        "seconds": round(time.perf_counter() - started, 3),
    }
    if request.report is not None:
        write_report(request.report, document)
    line = f"{path} -> {out}  ({len(record.track)} frames, {document['seconds']:.1f} s)"
    print_done(document, line, printing.json_, printing.quiet)


def _refuse_options(request: EditRequest) -> None:
    unfit = {
        "--resume": request.resume,
        "--unaligned": request.unaligned,
        "--method": request.method is not None,
        "--face": request.face != "largest",
        "--align": request.align is not When.AUTO,
        "--rate": request.rate != type(request).rate,  # the film keeps its own times
    }
    for option, given in unfit.items():
        if given:
            raise HyperStyleError(f"{option} is not for the inversions of a film; leave it out")


def _check_paste(film: Path, path: Path, record: FilmRecord) -> None:
    """Refuse another film than the one that was inverted."""
    try:
        digest = sha256(film)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        raise PictureError(f"cannot read the film {film}: {reason(problem)}") from problem
    if digest != record.film:
        raise PictureError(
            f"{film} is not the film whose inversions are in {path}; give --paste that one, or "
            "take this all the same with --force"
        )


def _out(request: EditRequest, path: Path, record: FilmRecord) -> Path:
    """Name the film that is written."""
    from ..video.folder import ENDING
    from ..video.writing import check_suffix, suffix_like

    stem = Path(os.path.realpath(path)).name.removesuffix(ENDING)
    out = request.out
    if out is None or is_directory(out):
        out = (out or Path()) / f"{stem}.edited{suffix_like(record.suffix)}"
    check_suffix(out)
    if is_directory(out):
        raise HyperStyleError(f"{out} is a folder; give another --out")
    check_writable(out.parent)
    if not request.force:
        refuse_existing([out])
    if request.paste is not None and os.path.realpath(out) == os.path.realpath(request.paste):
        raise HyperStyleError(f"{out} is the film itself; give another --out")
    return out


def _bundle_of(folder: FilmFolder, record: FilmRecord) -> str:
    """Name of the bundle that the frames were inverted with."""
    number = next(n for n in range(len(record.track)) if record.track.has_face(n))
    return folder.load(number).data.bundle_name


def _written(
    model: Model,
    folder: FilmFolder,
    record: FilmRecord,
    courses: Mapping[str, Course],
    paste: Path | None,
    out: Path,
) -> Iterator[None]:
    """Write the edited film, frame by frame."""
    from ..video.editing import edited_frames
    from ..video.writing import open_film_with_sound

    make_directory(out.parent, PictureError)
    with (
        closing(edited_frames(model, folder, record, courses, paste)) as frames,
        open_film_with_sound(out, record.time_base, record.rate, paste) as add,
    ):
        for picture, when in frames:
            add(picture, when)
            yield
