"""Sequences of pictures: films, folders of frames, contact sheets.

A film is written frame by frame, so that memory does not grow with its length, under a temporary
name beside the file, which takes its place when the last frame is in.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import PictureError
from ..files import make_directory, reason
from ..types import Picture
from .opencv import cv2
from .pictures import side_by_side, write_picture

AddFrame = Callable[[Picture], None]
"""Takes the next frame, uint8 [H,W,3] RGB; all frames are of one size."""

FILM_SUFFIXES = (".mp4", ".gif")
SHEET_COLUMNS = 8

_CODEC = "mp4v"  # MPEG-4 part 2: the one every OpenCV with a film writer brings along

# GIF, after the specification of 1989.
_GIF_HEADER = b"GIF89a"
_GIF_SCREEN = 13  # bytes of header and screen descriptor, before the colours
_GIF_LOOP = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"  # for ever
_GIF_DITHER = 3  # of OpenCV's -1 to 3: by far the closest to the picture
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B
_HAS_COLOURS, _COLOURS_SIZE = 0x80, 0x07


def open_film(path: Path, rate: float) -> AbstractContextManager[AddFrame]:
    """Open a film for writing: .mp4 or .gif by its suffix; any other name is a folder of frames.

    Parameters
    ----------
    path:
        What is there is replaced when the film is whole; frames are put into a folder one by one.
    rate:
        Frames a second.

    Raises
    ------
    PictureError
        If OpenCV cannot write such films here, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        return _mp4(path, rate)
    if suffix == ".gif":
        return _gif(path, rate)
    return _frames(path)


def contact_sheet(pictures: Sequence[Picture], columns: int = SHEET_COLUMNS) -> Picture:
    """Set pictures of one size in rows on white, at most `columns` in a row.

    Returns
    -------
    uint8 [H,W,3]; a single row is what :func:`~hyperstyle_rt.imaging.side_by_side` makes of it.
    """
    columns = min(columns, len(pictures))
    blank = np.full_like(pictures[0], 255)
    filled = [*pictures, *[blank] * (-len(pictures) % columns)]
    rows = [side_by_side(filled[n : n + columns]) for n in range(0, len(filled), columns)]
    gap = np.full((max(2, rows[0].shape[0] // 64), rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], axis=0)


@contextmanager
def _taking_the_place_of(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, of its suffix, renamed to it if the block succeeds."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as problem:
        raise PictureError(f"cannot write {path}: {reason(problem)}") from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextmanager
def _mp4(path: Path, rate: float) -> Iterator[AddFrame]:
    opened: list[cv2.VideoWriter] = []  # with the first frame, which gives the size

    with _taking_the_place_of(path) as temporary:

        def add(frame: Picture) -> None:
            if not opened:
                size = frame.shape[1], frame.shape[0]
                codec = cv2.VideoWriter.fourcc(*_CODEC)
                opened.append(cv2.VideoWriter(str(temporary), codec, rate, size))
            if not opened[0].isOpened():
                raise PictureError(
                    f"cannot write {path}: OpenCV {cv2.__version__} writes no such film here; "
                    "check the folder, or give a folder for the frames"
                )
            opened[0].write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

        try:
            yield add
        finally:
            for writer in opened:
                writer.release()


@contextmanager
def _gif(path: Path, rate: float) -> Iterator[AddFrame]:
    if not cv2.haveImageWriter(".gif"):
        raise PictureError(
            f"cannot write {path}: OpenCV {cv2.__version__} writes no GIF; name an .mp4 or a "
            "folder, or install a newer opencv-python-headless"
        )
    delay = max(2, round(100 / rate))  # hundredths of a second; viewers slow down what is faster
    control = b"\x21\xf9\x04\x04" + delay.to_bytes(2, "little") + b"\x00\x00"
    with _taking_the_place_of(path) as temporary, temporary.open("xb") as file:

        def add(frame: Picture) -> None:
            how = [cv2.IMWRITE_GIF_DITHER, _GIF_DITHER]
            _, encoded = cv2.imencode(".gif", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), how)
            _append_gif(file, encoded.tobytes(), control)

        yield add
        file.write(bytes([_GIF_END]))


def _append_gif(file: BinaryIO, still: bytes, control: bytes) -> None:
    """Append the picture of a whole GIF to one that is being written, with its own colours.

    OpenCV's own writer of films wants all frames at once.
    """
    flags = still[10]
    size = 3 << ((flags & _COLOURS_SIZE) + 1) if flags & _HAS_COLOURS else 0
    colours = still[_GIF_SCREEN : _GIF_SCREEN + size]
    at = _GIF_SCREEN + size
    while still[at] == _GIF_EXTENSION:
        at = _after_blocks(still, at + 2)
    assert still[at] == _GIF_IMAGE
    place, own_flags = still[at : at + 9], still[at + 9]
    if not own_flags & _HAS_COLOURS:
        own_flags |= _HAS_COLOURS | (flags & _COLOURS_SIZE)
        place += bytes([own_flags]) + colours
        start = at + 10
    else:
        start = at + 10 + (3 << ((own_flags & _COLOURS_SIZE) + 1))
        place = still[at:start]
    end = _after_blocks(still, start + 1)
    if file.tell() == 0:
        screen = still[6:10] + bytes([flags & ~_HAS_COLOURS & 0xFF, 0, 0])
        file.write(_GIF_HEADER + screen + _GIF_LOOP)
    file.write(control + place + still[start:end])


def _after_blocks(data: bytes, at: int) -> int:
    """Where a chain of blocks, each led by its length, ends: behind the empty one."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


@contextmanager
def _frames(folder: Path) -> Iterator[AddFrame]:
    make_directory(folder, PictureError)
    count = 0

    def add(frame: Picture) -> None:
        nonlocal count
        write_picture(folder / f"frame_{count:05d}.png", frame)
        count += 1

    yield add
