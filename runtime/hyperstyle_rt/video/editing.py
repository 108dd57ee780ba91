"""The frames of a film rendered from their inversions, edited by amounts that change over time."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

import numpy as np

from ..errors import InversionError
from ..model import Model
from ..photos.portraits import paste
from ..types import Picture
from .amounts import Course, amounts_at
from .folder import FilmFolder, FilmRecord
from .reading import Frame, read_frames


def edited_frames(
    model: Model,
    folder: FilmFolder,
    record: FilmRecord,
    courses: Mapping[str, Course],
    film: Path | None = None,
) -> Generator[tuple[Picture, int], None, None]:
    """Render a film.

    Parameters
    ----------
    courses:
        How the amounts change, by direction.
    film:
        The film that was inverted: its faces are replaced. None for the faces alone, black where
        there is none.

    Yields
    ------
    picture, time:
        uint8 [H,W,3], and its time in units of the record's time base; in their order.

    Raises
    ------
    EditError
        Before the first picture, if a direction is unknown.
    InversionError
        If a frame's inversion is missing or damaged, or the film has fewer frames or others' size.
    PictureError
        If the film cannot be read.
    """
    track = record.track
    frames: Iterable[Frame | None] = [None] * len(track) if film is None else read_frames(film)
    count = 0
    for number, frame in zip(range(len(track)), frames, strict=False):
        rendering: Picture | None = None
        count += 1
        if frame is not None and frame.picture.shape[:2] != record.size:
            (height, width), (own_height, own_width) = record.size, frame.picture.shape[:2]
            raise InversionError(
                f"{film} has {own_width} x {own_height} pixels and {folder.path} is of a film with "
                f"{width} x {height}; give --paste the film that was inverted"
            )
        if track.has_face(number):
            inversion = folder.load(number)
            amounts = amounts_at(courses, record.seconds(number))
            (rendering,) = model.sweep(inversion, [amounts])
            if frame is not None:
                if inversion.data.transform is None:
                    raise InversionError(
                        f"the frames in {folder.path} were inverted as they are, so there is "
                        "nothing to set back into the film; leave out --paste"
                    )
                rendering = paste(frame.picture, inversion.data.transform, rendering)
        if rendering is None:
            blank = np.zeros((*model.bundle.manifest.image_size, 3), np.uint8)
            rendering = blank if frame is None else frame.picture
        yield rendering, int(track.times[number])
    if count < len(track):
        raise InversionError(
            f"{film} has {count} frames and {folder.path} is of a film with {len(track)}; give "
            "--paste the film that was inverted"
        )
