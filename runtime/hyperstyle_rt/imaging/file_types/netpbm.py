"""PBM, PGM and PPM: a few words of header, then values as text or as bytes."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common import PictureFile, check_size, cut_short, damaged

# Words are parted by white space and by comments, which run from # to the end of their line.
_GAP = rb"(?:\s|#[^\n]*\n)+"
_BITMAP_HEADER = re.compile(rb"P([14])" + (_GAP + rb"(\d{1,9})") * 2 + rb"\s")
_HEADER = re.compile(rb"P([2356])" + (_GAP + rb"(\d{1,9})") * 3 + rb"\s")
_COMMENT = re.compile(rb"#[^\n]*")


def is_netpbm(data: bytes) -> bool:
    """Whether a file begins as PBM, PGM or PPM."""
    return bool(re.match(rb"P[1-6][\s#]", data[:3]))


def parse_netpbm(data: bytes, path: Path) -> PictureFile:
    """Read the header; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`."""
    bitmap = data[1:2] in (b"1", b"4")
    header = (_BITMAP_HEADER if bitmap else _HEADER).match(data)
    if header is None:
        raise damaged(path)
    kind = int(header[1])
    width, height = int(header[2]), int(header[3])
    check_size(height, width, str(path))
    highest = 1 if bitmap else int(header[4])
    if not 1 <= highest <= 65_535:
        raise damaged(path)
    channels = 3 if kind in (3, 6) else 1
    row = -(-width // 8) if kind == 4 else width * channels * (1 if highest < 256 else 2)
    values = data[header.end() :]
    # As text every value takes at least a digit, and all but bits a space.
    least = height * row if kind >= 4 else height * width * channels * (1 if bitmap else 2) - 1
    if len(values) < least:
        raise cut_short(path)
    decode = partial(_decode, values, kind, (height, width, channels), highest, path)
    return PictureFile(data, height, width, decode=decode)


def _decode(
    values: bytes, kind: int, shape: tuple[int, int, int], highest: int, path: Path
) -> NDArray[Any]:
    """Decode to [H,W] or [H,W,3] (BGR), with values from 0 to `highest` scaled to 8 or 16 bits."""
    height, width, channels = shape
    if kind == 4:
        packed = np.frombuffer(values, np.uint8, height * -(-width // 8)).reshape(height, -1)
        levels: NDArray[Any] = 1 - np.unpackbits(packed, axis=1)[:, :width]  # 1 is black
    elif kind > 4:
        stored = np.dtype(np.uint8 if highest < 256 else ">u2")
        levels = np.frombuffer(values, stored, height * width * channels)
    else:
        levels = _from_text(values, kind, height * width * channels, highest, path)
    if levels.max() > highest:
        raise damaged(path)
    full = 255 if highest < 256 else 65_535
    table = (np.arange(highest + 1) * full + highest // 2) // highest
    pixels: NDArray[Any] = table.astype(np.uint8 if full == 255 else np.uint16)[levels]
    return pixels.reshape(height, width) if channels == 1 else pixels.reshape(shape)[..., ::-1]


def _from_text(values: bytes, kind: int, count: int, highest: int, path: Path) -> NDArray[Any]:
    """Values written as decimal numbers, or as digits for bits, [count]."""
    text = _COMMENT.sub(b"", values)
    if kind == 1:
        digits = np.frombuffer(text.translate(None, b" \t\n\v\f\r"), np.uint8)[:count]
        if digits.size and not np.isin(digits, (48, 49)).all():
            raise damaged(path)
        levels = (1 - (digits - 48)).astype(np.int64)  # 1 is black
    else:
        words = text.split(maxsplit=count)[:count]
        if not all(word.isdigit() and len(word) <= 5 for word in words):
            raise damaged(path)
        levels = np.array(words, dtype="S5").astype(np.int64)
    if len(levels) < count:
        raise cut_short(path)
    return levels
