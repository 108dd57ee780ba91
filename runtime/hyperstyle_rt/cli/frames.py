"""What commands make of a sequence of pictures: a picture, a contact sheet, a film, a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.records import Record, with_record
from ..batch.streams import is_pipe_out, write_pipe
from ..errors import HyperStyleError, PictureError
from ..files import is_directory, make_directory, write_atomically
from ..temporaries import remove_leftovers
from .outputs import check_suffix, check_writable, refuse_existing
from .terminal import printable, progress_bar

if TYPE_CHECKING:
    from ..imaging.pictures import Original


def film_path(out: Path | None, default: str, force: bool, inputs: Sequence[Path]) -> Path:
    """Decide where pictures go: what ``--out`` says, else to the file ``default``.

    Parameters
    ----------
    inputs:
        What is read, which is replaced by no result.

    Raises
    ------
    HyperStyleError
        If the suffix is unknown, nothing can be written there, the file or a filled folder exists
        and is not to be replaced, or an input would be.
    """
    out = Path(default) if out is None else out
    if not is_pipe_out(out):
        _check(out, force)
        _check_inputs(out, inputs)
    return out


def _check(out: Path, force: bool) -> None:
    from ..imaging.films import FILM_SUFFIXES, check_film
    from ..imaging.pictures import PICTURE_SUFFIXES

    known = (*PICTURE_SUFFIXES, *FILM_SUFFIXES)
    is_folder = is_directory(out)
    if out.suffix.lower() not in PICTURE_SUFFIXES:
        check_film(out)
    if out.suffix and not is_folder:
        check_suffix(out, known)
    if is_folder and out.suffix.lower() in known:
        raise HyperStyleError(f"--out {out} is a folder; give another name")
    check_writable(out if is_folder or not out.suffix else out.parent)
    if is_folder and any(out.iterdir()) and not force:
        raise HyperStyleError(
            f"{out} exists; give another --out, or replace what is there with --force"
        )
    if not is_folder and not force:
        refuse_existing([out])


def _check_inputs(out: Path, inputs: Sequence[Path]) -> None:
    result = os.path.realpath(out)
    for path in inputs:
        read = Path(os.path.realpath(path))
        is_frame = str(read.parent) == result and read.match("frame_*.png")
        if is_frame or str(read) == result:
            raise HyperStyleError(
                f"{path} is what the result is made of and would be overwritten; give another --out"
            )


def write_frames(
    frames: Iterator[Original],
    total: int,
    out: Path,
    rate: float,
    name: str,
    quiet: bool,
    record: Record | None = None,
) -> None:
    """Write pictures as `out` says; films and folders take them one by one, in sRGB, pipes a PNG.

    A single picture keeps its colour space and metadata.

    Parameters
    ----------
    total:
        How many there will be, for the progress bar.
    name:
        What the progress bar is called.
    record:
        To put into a PNG, by which later runs know what it is.

    Raises
    ------
    PictureError
        If a file cannot be written, or a sheet would be too large: before more than a picture.
    """
    from ..imaging.films import FILM_SUFFIXES, check_sheet, open_film
    from ..imaging.pictures import PICTURE_SUFFIXES

    suffix = out.suffix.lower()
    one_picture = suffix in PICTURE_SUFFIXES and (total == 1 or suffix not in FILM_SUFFIXES)
    with progress_bar(quiet) as progress:
        shown = iter(progress.track(frames, total, description=printable(name)))
        first = next(shown)  # errors of the faces are raised here, before a file is opened
        if total > 1 and (one_picture or is_pipe_out(out)):
            check_sheet(first.stored, total)
        shown = chain([first], shown)
        if is_pipe_out(out):
            write_pipe(out, _encode(Path("sheet.png"), list(shown)))
            return
        make_directory(out.parent, PictureError)
        for folder in (out.parent, out):
            remove_leftovers(folder)
        if one_picture:
            encoded = _encode(out, list(shown))
            if record is not None and suffix == ".png":
                encoded = with_record(encoded, record)
            write_atomically(out, encoded, PictureError)
            return
        with open_film(out, rate) as add:
            for frame in shown:
                add(frame.picture())


def _encode(path: Path, frames: Sequence[Original]) -> bytes:
    """One picture as it is, several as a sheet."""
    from ..imaging.films import contact_sheet
    from ..imaging.pictures import encode_picture

    if len(frames) == 1:
        return encode_picture(path, frames[0].stored, frames[0].metadata)
    return encode_picture(path, contact_sheet([frame.picture() for frame in frames]))
