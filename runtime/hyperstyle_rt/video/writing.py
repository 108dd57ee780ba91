"""Films as they are written: pictures at their times, with the sound of another film as it is.

Sound is copied packet by packet, without being decoded; what is written is a temporary file beside
the film, which takes its place at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import PictureError
from ..imaging.films import (
    ENCODINGS,
    Encoding,
    encoder_frame,
    open_output,
    open_stream,
    taking_the_place_of,
)
from ..types import Picture
from .reading import being_read, check_films, opened

AddPicture = Callable[[Picture, int], None]
"""Takes the next picture, uint8 [H,W,3], and its time in units of the time base."""

_H264 = ENCODINGS[".mp4"]
WRITTEN_AS = {
    ".mp4": _H264,
    ".mov": replace(_H264, container="mov"),
    ".mkv": replace(_H264, container="matroska", container_options={}),
    ".webm": ENCODINGS[".webm"],
}
"""Suffix of a film with sound, one of `WRITABLE_FILMS`, to how its pictures are encoded."""


def suffix_like(suffix: str) -> str:
    """Suffix of a film that holds the pictures and the sound of one with this suffix."""
    alike = ".mp4" if suffix.lower() == ".m4v" else suffix.lower()
    return alike if alike in WRITTEN_AS else ".mkv"


def check_suffix(path: Path) -> None:
    """Refuse a name for a film with sound that ends in another suffix.

    Raises
    ------
    PictureError
        It names those there are.
    """
    check_films()
    if path.suffix.lower() not in WRITTEN_AS:
        raise PictureError(
            f"{path} must end in one of {', '.join(WRITTEN_AS)}, in which there is room for sound"
        )


@contextmanager
def open_film_with_sound(
    path: Path, time_base: Fraction, rate: Fraction, sound: Path | None
) -> Iterator[AddPicture]:
    """Open a film for writing; all pictures are of one size, and their times rise.

    Parameters
    ----------
    path:
        Ends in one of :data:`WRITTEN_AS`. What is there is replaced when the film is whole.
    time_base, rate:
        Unit of the pictures' times in seconds; pictures a second, on average.
    sound:
        Film whose sound is copied, with its own times; None for a silent film.

    Raises
    ------
    PictureError
        If it cannot be written, or its container cannot hold this sound.
    """
    check_suffix(path)
    encoding = WRITTEN_AS[path.suffix.lower()]
    with ExitStack() as stack:
        temporary = stack.enter_context(taking_the_place_of(path))
        source = None if sound is None else stack.enter_context(opened(sound))
        stack.enter_context(_being_written(path))
        output = stack.enter_context(open_output(temporary, encoding))
        film = _Film(output, encoding, time_base, rate, source, path)
        yield film.add
        film.finish()


@contextmanager
def _being_written(path: Path) -> Iterator[None]:
    """Say of FFmpeg's errors that the film cannot be written."""
    import av

    try:
        yield
    except av.FFmpegError as problem:
        raise PictureError(f"cannot write {path}: {problem.strerror or problem}") from problem


class Copies:
    """The sound of a film, copied into another one as far as its pictures have come.

    Attributes
    ----------
    held:
        The packet that is next; None when all are copied.
    """

    def __init__(self, source: Any, output: Any) -> None:
        self._output = output
        self._path = Path(source.name.removeprefix("file:"))
        sounds = list(source.streams.audio)
        self._streams = {each.index: output.add_stream_from_template(each) for each in sounds}
        self._packets: Iterator[Any] = source.demux(sounds) if sounds else iter(())
        self.held: Any | None = None

    def start(self) -> None:
        """Read the first packet."""
        self.held = self._next()

    def until(self, seconds: Fraction | None) -> None:
        """Copy what comes before a time; None for what is left."""
        while self.held is not None:
            packet = self.held
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            packet.stream = self._streams[packet.stream.index]
            self._output.mux(packet)
            self.held = self._next()

    def _next(self) -> Any | None:
        packets = (packet for packet in self._packets if packet.dts is not None)
        with being_read(self._path):
            return next(packets, None)  # those without a time are the ends of streams


class _Film:
    """Encodes pictures, with the sound that belongs to them."""

    def __init__(
        self,
        output: Any,
        encoding: Encoding,
        time_base: Fraction,
        rate: Fraction,
        source: Any | None,
        path: Path,
    ) -> None:
        self._output = output
        self._encoding = encoding
        self._time_base = time_base
        self._rate = rate
        self._source = source
        self._path = path
        self._stream: Any = None
        self._copies: Copies | None = None

    def add(self, picture: Picture, time: int) -> None:
        with _being_written(self._path):  # here, before the error comes to another film's block
            frame = encoder_frame(picture, self._encoding)
            if self._stream is None:
                self._begin(frame)
            frame.pts, frame.time_base = time, self._time_base
            if self._copies is not None:
                self._copies.until(time * self._time_base)
            self._output.mux(self._stream.encode(frame))

    def finish(self) -> None:
        if self._stream is None:
            return
        if self._copies is not None:
            self._copies.until(None)
        self._output.mux(self._stream.encode(None))

    def _begin(self, first: Any) -> None:
        """Open the streams, of the size of the first picture."""
        self._stream = open_stream(self._output, float(self._rate), self._encoding, first)
        self._stream.codec_context.time_base = self._time_base
        try:
            if self._source is not None:
                self._copies = Copies(self._source, self._output)
            self._output.start_encoding()
        except ValueError as problem:  # FFmpeg's "invalid argument", where a codec does not fit
            if self._source is None:
                raise
            names = dict.fromkeys(each.codec_context.name for each in self._source.streams.audio)
            raise PictureError(
                f"{self._path.suffix} cannot hold the film's sound ({', '.join(names)}) as it is; "
                "name the result .mkv, which can"
            ) from problem
        if self._copies is not None:
            self._copies.start()
