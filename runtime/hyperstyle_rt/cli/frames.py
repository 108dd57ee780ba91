"""What commands make of a sequence of pictures: a picture, a contact sheet, a film, a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HyperStyleError
from .terminal import progress_bar

if TYPE_CHECKING:
    from ..imaging import Picture


def check_out(out: Path, force: bool) -> None:
    """Refuse an output that cannot be made, or that would replace files unasked.

    Raises
    ------
    HyperStyleError
        If the suffix is unknown, or the file or a filled folder exists.
    """
    from ..films import FILM_SUFFIXES
    from ..imaging import PICTURE_SUFFIXES

    known = (*PICTURE_SUFFIXES, *FILM_SUFFIXES)
    is_folder = os.path.isdir(out)  # noqa: PTH112
    if out.suffix and out.suffix.lower() not in known and not is_folder:
        raise HyperStyleError(
            f"--out {out} must end in one of {', '.join(known)}; if it is to be a folder, create "
            "it first"
        )
    if is_folder and out.suffix.lower() in known:
        raise HyperStyleError(f"--out {out} is a folder; give another name")
    taken = any(out.iterdir()) if is_folder else os.path.lexists(out)
    if taken and not force:
        raise HyperStyleError(
            f"{out} exists; give another --out, or replace what is there with --force"
        )


def write_frames(
    frames: Iterator[Picture], total: int, out: Path, rate: float, name: str, quiet: bool
) -> None:
    """Write pictures as `out` says; films and folders take them one by one.

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
    from ..films import contact_sheet, open_film
    from ..imaging import PICTURE_SUFFIXES, write_picture

    with progress_bar(quiet) as progress:
        shown = iter(progress.track(frames, total, description=name))
        first = next(shown)  # what is wrong with the faces shows here, before anything is made
        shown = chain([first], shown)
        make_folder(out.parent)
        if out.suffix.lower() in PICTURE_SUFFIXES:
            write_picture(out, contact_sheet(list(shown)))
            return
        with open_film(out, rate) as add:
            for frame in shown:
                add(frame)


def make_folder(folder: Path) -> None:
    """Create a folder that is not there.

    Raises
    ------
    HyperStyleError
        If it cannot be created.
    """
    from ..files import reason

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HyperStyleError(f"cannot create {folder}: {reason(error)}") from error
