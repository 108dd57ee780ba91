"""Sequences of pictures: films, folders of frames, contact sheets.

A film is written frame by frame, so that memory does not grow with its length, under a temporary
name beside the file, which takes its place when the last frame is in. GIF is written here; H.264,
VP9 and animated WebP by FFmpeg, which the wheels of PyAV carry (the extra ``films``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import PictureError
from ..files import make_directory, reason
from ..temporaries import remove_leftovers, replacing
from ..types import Picture
from .opencv import cv2
from .picture_files import MAX_PIXELS, MAX_SIDE
from .pictures import gap_beside, side_by_side, write_picture

AddFrame = Callable[[Picture], None]
"""Takes the next frame, uint8 [H,W,3] RGB; all frames are of one size."""

FILM_SUFFIXES = (".mp4", ".webm", ".webp", ".gif")
SHEET_COLUMNS = 8


@dataclass(frozen=True)
class Encoding:
    """How FFmpeg writes a kind of film: container, codec, the pixels it takes, and settings."""

    container: str
    codec: str
    pixels: str
    codec_options: dict[str, str]
    container_options: dict[str, str] = field(default_factory=dict)


# 4:2:0 is what browsers, notebooks and phones play; faststart puts the index before the pictures,
# so that a film plays while it loads. All qualities are near to what the eye can tell.
ENCODINGS = {
    ".mp4": Encoding(
        *("mp4", "libx264", "yuv420p", {"crf": "16", "preset": "medium"}),
        {"movflags": "+faststart"},
    ),
    ".webm": Encoding(
        *("webm", "libvpx-vp9", "yuv420p"),
        {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
    ".webp": Encoding(
        "webp", "libwebp_anim", "bgra", {"quality": "90", "lossless": "0"}, {"loop": "0"}
    ),
}
_BT709, _LIMITED_RANGE = 1, 1  # FFmpeg's numbers for what players take for granted
_MAX_DENOMINATOR = 1001  # of the frames a second: 30000/1001 and its like are exact

# GIF, after the specification of 1989.
_GIF_HEADER = b"GIF89a"
_GIF_SCREEN = 13  # bytes of header and screen descriptor, before the colours
_GIF_LOOP = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"  # for ever
_GIF_DITHER = 3  # of OpenCV's -1 to 3: the one with by far the smallest error
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B
_HAS_COLOURS, _COLOURS_SIZE = 0x80, 0x07


def open_film(path: Path, rate: float) -> AbstractContextManager[AddFrame]:
    """Open a film for writing, by its suffix; a name without any of them is a folder of frames.

    ``.mp4`` is H.264, ``.webm`` VP9, both in 4:2:0 with sides made even by repeating the last row
    or column; ``.webp`` and ``.gif`` are animations that go round for ever.

    Parameters
    ----------
    path:
        What is there is replaced when the film is whole; frames are put into a folder one by one,
        and at the end those that were more before are removed.
    rate:
        Frames a second.

    Raises
    ------
    PictureError
        If what writes such films is not installed, or the file cannot be written.
    """
    check_film(path)
    suffix = path.suffix.lower()
    if suffix in ENCODINGS:
        return _video(path, rate, ENCODINGS[suffix])
    if suffix == ".gif":
        return _gif(path, rate)
    return _frames(path)


def default_film_suffix() -> str:
    """``.mp4`` where PyAV can write it, else ``.gif``, which needs nothing more."""
    return ".mp4" if find_spec("av") is not None else ".gif"


def check_film(path: Path) -> None:
    """Check before any work that a film of this name can be written here.

    Raises
    ------
    PictureError
        If what writes such films is not installed; the sentence names it.
    """
    suffix = path.suffix.lower()
    if suffix in ENCODINGS:
        try:
            import av  # noqa: F401 - 100 MB that only films need
        except ImportError:
            raise PictureError(
                f"cannot write {path}: {suffix} films need PyAV; install hyperstyle-rt[films], or "
                "name a .gif or a folder"
            ) from None
    elif suffix == ".gif" and not cv2.haveImageWriter(".gif"):
        raise PictureError(
            f"cannot write {path}: OpenCV {cv2.__version__} writes no GIF; name an .mp4 or a "
            "folder, or install a newer opencv-python-headless"
        )


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
    gap = np.full((gap_beside(rows[0].shape[0]), rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], axis=0)


def check_sheet(first: Picture, count: int) -> None:
    """Refuse a contact sheet that would be too large to be written, before its pictures are made.

    Parameters
    ----------
    first:
        The first of `count` pictures of one size.

    Raises
    ------
    PictureError
        If it is; the sentence says what to do instead.
    """
    height, width = first.shape[:2]
    columns = min(SHEET_COLUMNS, count)
    rows = -(-count // columns)
    gap = gap_beside(height)
    sheet = rows * (height + gap) - gap, columns * (width + gap) - gap
    if sheet[0] * sheet[1] > MAX_PIXELS or max(sheet) > MAX_SIDE:
        raise PictureError(
            f"{count} pictures of {width} x {height} make a sheet of {sheet[1]} x {sheet[0]} "
            f"pixels, more than the {MAX_PIXELS:,} ({MAX_SIDE:,} a side) allowed; take fewer, or "
            "name a film or a folder"
        )


def in_rows(pictures: Sequence[Picture], longest: int) -> Picture:
    """Set pictures of one size beside each other, in as few rows as no side becomes too long.

    Parameters
    ----------
    longest:
        Pixels of a side that there are at most.
    """
    height, width = pictures[0].shape[:2]
    fitting = max(1, (longest + gap_beside(height)) // (width + gap_beside(height)))
    rows = -(-len(pictures) // fitting)
    return contact_sheet(pictures, -(-len(pictures) // rows))


@contextmanager
def taking_the_place_of(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, of its suffix, renamed to it if the block succeeds."""
    remove_leftovers(path.parent)
    try:
        with replacing(path, path.suffix) as temporary:
            yield temporary
    except OSError as problem:
        raise PictureError(f"cannot write {path}: {reason(problem)}") from problem


@contextmanager
def _video(path: Path, rate: float, video: Encoding) -> Iterator[AddFrame]:
    import av

    streams: list[Any] = []  # opened with the first frame, which gives the size

    def add(frame: Picture) -> None:
        shown = encoder_frame(frame, video)
        if not streams:
            streams.append(open_stream(container, rate, video, shown))
        container.mux(streams[0].encode(shown))

    try:
        with taking_the_place_of(path) as temporary:
            if not path.parent.is_dir():
                raise PictureError(f"cannot write {path}: there is no folder {path.parent}")
            with open_output(temporary, video) as container:
                yield add
                for stream in streams:
                    container.mux(stream.encode(None))
    except av.FFmpegError as problem:
        raise PictureError(f"cannot write {path}: {problem.strerror or problem}") from problem


def open_output(path: Path, encoding: Encoding) -> Any:
    """PyAV's container of a film, open for writing."""
    import av

    # With "file:", whatever its folders are called: a colon would make an address of them.
    return av.open(f"file:{path}", "w", encoding.container, options=encoding.container_options)


def encoder_frame(picture: Picture, encoding: Encoding) -> Any:
    """Make PyAV's frame of a picture, in the pixels that an encoding takes."""
    import av

    if encoding.pixels != "yuv420p":
        shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        return shown.reformat(format=encoding.pixels)
    odd = [(0, side % 2) for side in picture.shape[:2]]
    even = np.pad(picture, (*odd, (0, 0)), mode="edge") if any(map(any, odd)) else picture
    shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    return shown.reformat(format=encoding.pixels, dst_colorspace="ITU709")


def open_stream(container: Any, rate: float, encoding: Encoding, first: Any) -> Any:
    """Begin the pictures of a film in an open container, of the size of its first frame."""
    frames = Fraction(rate).limit_denominator(_MAX_DENOMINATOR)
    stream = container.add_stream(encoding.codec, rate=frames, options=encoding.codec_options)
    stream.height, stream.width = first.height, first.width
    stream.pix_fmt = encoding.pixels
    if encoding.pixels == "yuv420p":
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
    return stream


@contextmanager
def _gif(path: Path, rate: float) -> Iterator[AddFrame]:
    delay = max(2, round(100 / rate))  # hundredths of a second; viewers slow down what is faster
    control = b"\x21\xf9\x04\x04" + delay.to_bytes(2, "little") + b"\x00\x00"
    with taking_the_place_of(path) as temporary, temporary.open("wb") as file:

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
    try:
        for path in folder.glob("frame_*.png"):  # of a longer film that was here before
            number = path.stem.removeprefix("frame_")
            if number.isdecimal() and int(number) >= count:
                path.unlink()
    except OSError as problem:
        raise PictureError(f"cannot clear {folder}: {reason(problem)}") from problem
