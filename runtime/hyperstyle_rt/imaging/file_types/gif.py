"""GIF: blocks up to the end of the first frame, which is the picture."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import PictureError
from ..opencv_decoding import decode_with_opencv
from .common import PictureFile, check_size, damaged

_SCREEN = 13  # bytes of header and screen descriptor, before the colours
_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_HAS_COLOURS, _COLOURS_SIZE = 0x80, 0x07


def parse_gif(data: bytes, path: Path) -> PictureFile:
    """Walk a GIF file; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`."""
    width, height = struct.unpack_from("<HH", data, 6)
    check_size(height, width, str(path))
    position = _SCREEN + _colours(data[10])
    while (kind := data[position]) == _EXTENSION:
        position = _after_blocks(data, position + 2)
    if kind != _IMAGE:
        raise damaged(path)
    left, top, columns, rows, flags = struct.unpack_from("<HHHHB", data, position + 1)
    if not (0 < columns <= width - left and 0 < rows <= height - top):
        raise damaged(path)
    stop = _after_blocks(data, position + 10 + _colours(flags) + 1)
    data[stop]  # the next frame or the end mark: without it the file is cut short
    still = data[:stop] + bytes([_END])
    return PictureFile(still, height, width, decode=partial(_decode, still, path))


def _decode(still: bytes, path: Path) -> NDArray[Any] | None:
    from ..opencv import cv2

    if not cv2.haveImageWriter(".gif"):  # older ones do neither
        raise PictureError(
            f"{path} is a GIF, which OpenCV {cv2.__version__} does not read; install a newer "
            "opencv-python-headless, or save it as PNG"
        )
    return decode_with_opencv(still)


def _colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << ((flags & _COLOURS_SIZE) + 1) if flags & _HAS_COLOURS else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Where a chain of blocks, each led by its length, ends: behind the empty one."""
    while length := data[at]:
        at += 1 + length
    return at + 1
