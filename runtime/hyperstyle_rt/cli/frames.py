"""What commands make of a sequence of pictures: a picture, a contact sheet, a film, a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HyperStyleError, PictureError
from ..files import is_directory, make_directory
from .outputs import check_suffix, refuse_existing
from .terminal import printable, progress_bar

if TYPE_CHECKING:
    from ..imaging.pictures import Original


def film_path(out: Path | None, default: str, force: bool) -> Path:
    """Decide where pictures go: what ``--out`` says, else to the file ``default``.

    Raises
    ------
    HyperStyleError
        If the suffix is unknown, or the file or a filled folder exists and is not to be replaced.
    """
    out = Path(default) if out is None else out
    _check(out, force)
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
    if is_folder and any(out.iterdir()) and not force:
        raise HyperStyleError(
            f"{out} exists; give another --out, or replace what is there with --force"
        )
    if not is_folder and not force:
        refuse_existing([out])


def write_frames(
    frames: Iterator[Original], total: int, out: Path, rate: float, name: str, quiet: bool
) -> None:
    """Write pictures as `out` says; films and folders take them one by one, in sRGB.

    A single picture keeps its colour space and metadata.

    Parameters
    ----------
    total:
        How many there will be, for the progress bar.
    name:
        What the progress bar is called.

    Raises
    ------
    PictureError
        If a file cannot be written.
    """
    from ..imaging.films import FILM_SUFFIXES, contact_sheet, open_film
    from ..imaging.pictures import PICTURE_SUFFIXES, write_picture

    with progress_bar(quiet) as progress:
        shown = iter(progress.track(frames, total, description=printable(name)))
        first = next(shown)  # what is wrong with the faces shows here, before anything is made
        shown = chain([first], shown)
        make_directory(out.parent, PictureError)
        suffix = out.suffix.lower()
        if suffix in PICTURE_SUFFIXES and total == 1:
            write_picture(out, first.stored, first.metadata)
            return
        if suffix in PICTURE_SUFFIXES and suffix not in FILM_SUFFIXES:
            write_picture(out, contact_sheet([frame.picture() for frame in shown]))
            return
        with open_film(out, rate) as add:
            for frame in shown:
                add(frame.picture())
