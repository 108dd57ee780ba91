"""Films as they are read: their facts, and their frames one by one.

FFmpeg opens whatever looks like media to it, also lists of other files and addresses. Here it opens
the file that was named, as one of the containers of films, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PictureError
from ..imaging.picture_files import check_size
from ..types import Picture

_log = logging.getLogger(__name__)

_CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts"
_NO_RATE = Fraction(25)  # of files that tell none
# FFmpeg's numbers of colour spaces: as a frame is labelled, and as they are converted.
_BT601, _BT709, _BT2020 = 5, 1, 9
_CONVERTED_AS = {1: _BT709, 5: _BT601, 6: _BT601, 9: _BT2020, 10: _BT2020}
_HDR = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfer functions that need tone mapping
_HIGH_DEFINITION = 576  # lines above which unlabelled colours are BT.709, as players take them


@dataclass(frozen=True)
class FilmFacts:
    """What a film is like.

    Attributes
    ----------
    path:
        The file.
    size:
        (height, width) of the upright frames, with square pixels.
    time_base:
        Unit of the frames' times, in seconds.
    rate:
        Frames a second, on average.
    frames:
        How many there are about; 0 where the file does not tell.
    """

    path: Path
    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    frames: int


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a film.

    Attributes
    ----------
    number:
        From 0.
    time:
        When it is shown, in units of the film's time base.
    picture:
        uint8 [H,W,3], upright, with square pixels.
    """

    number: int
    time: int
    picture: Picture


def check_films() -> None:
    """Check that films can be read here.

    Raises
    ------
    PictureError
        If PyAV is not installed.
    """
    try:
        import av  # noqa: F401 - 100 MB that only films need
    except ImportError:
        raise PictureError(
            "films need PyAV; install hyperstyle-rt[films], or invert the film's frames as a "
            "folder of pictures"
        ) from None


def describe_film(path: Path) -> FilmFacts:
    """Read what a film is like, and its first frame for its size; of HDR a warning is logged.

    Raises
    ------
    PictureError
        If it cannot be read, or has no pictures.
    """
    with opened(path) as container:
        stream = _pictures_of(container, path)
        first = next(iter(_upright_frames(container, stream, path)), None)
        if first is None:
            raise PictureError(f"{path} has no frame that can be decoded; give another film")
        if hdr := _HDR.get(int(stream.codec_context.color_trc)):
            _log.warning(
                "%s is in HDR (%s), whose levels are taken as they are: it looks flat and pale; "
                "convert it to BT.709 first",
                *(path, hdr),
            )
        rate = stream.average_rate or stream.guessed_rate or _NO_RATE
        frames = stream.frames or 0
        if not frames and container.duration:
            frames = int(container.duration / 1_000_000 * rate)
        height, width = first[1].shape[:2]
        return FilmFacts(path, (height, width), stream.time_base, Fraction(rate), frames)


def read_frames(path: Path) -> Iterator[Frame]:
    """Decode a film frame by frame; no more than a few are held.

    Raises
    ------
    PictureError
        While they are read, if one cannot be decoded or the size changes.
    """
    with opened(path) as container:
        stream = _pictures_of(container, path)
        last: int | None = None
        size: tuple[int, ...] | None = None
        step = max(1, round(1 / ((stream.average_rate or _NO_RATE) * stream.time_base)))
        for number, (time, picture) in enumerate(_upright_frames(container, stream, path)):
            if size is not None and picture.shape != size:
                raise PictureError(
                    f"the frames of {path} change their size at frame {number}; cut the film there"
                )
            size = picture.shape
            following = 0 if last is None else last + step
            # Files whose frames tell no times, or go back in time, exist.
            now = following if time is None else time
            last = now if last is None else max(now, last + 1)
            yield Frame(number, last, picture)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """PyAV's container of a film, open for reading; its errors become PictureError."""
    check_films()
    import av

    limits = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    # With "file:", whatever the name looks like, an address or a command of FFmpeg's.
    with being_read(path), av.open(f"file:{path}", options=limits) as container:
        yield container


@contextmanager
def being_read(path: Path) -> Iterator[None]:
    """Say of FFmpeg's errors that the film cannot be read."""
    import av

    try:
        yield
    except av.FFmpegError as problem:
        raise PictureError(f"cannot read the film {path}: {problem.strerror}") from problem


def _pictures_of(container: Any, path: Path) -> Any:
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise PictureError(f"{path} has no pictures; give a film")
    check_size(stream.height, stream.width, f"the film {path}")
    stream.thread_type = "AUTO"
    return stream


def _upright_frames(
    container: Any, stream: Any, path: Path
) -> Iterator[tuple[int | None, Picture]]:
    """Times and pictures of all frames, turned and stretched as the film says that it is shown."""
    for frame in container.decode(stream):
        size = _with_square_pixels(frame.height, frame.width, stream.sample_aspect_ratio)
        check_size(*size, f"the film {path}")
        guessed = _BT709 if frame.height > _HIGH_DEFINITION else _BT601
        space = _CONVERTED_AS.get(int(frame.colorspace), guessed)
        height, width = size
        picture = frame.to_ndarray(format="rgb24", height=height, width=width, src_colorspace=space)
        yield frame.pts, _turned(picture, frame.rotation)


def _with_square_pixels(height: int, width: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size of a frame whose pixels are `aspect` times as wide as high, made square.

    Camcorders and DVDs have such. No side becomes shorter.
    """
    if not aspect or aspect < 0:  # not told
        return height, width
    if aspect > 1:
        return height, round(width * aspect)
    return round(height / aspect), width


def _turned(picture: Picture, degrees: int) -> Picture:
    """Turn by what phones note beside the pictures instead of turning these themselves."""
    quarters = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarters))
