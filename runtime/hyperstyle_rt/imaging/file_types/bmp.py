"""BMP: a header of one of several ages, a table of colours, rows.

Rows are decoded here: OpenCV knows neither the masks of most files that have them nor the oldest
header. It decodes those that are run-length encoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common import PictureFile, check_size, cut_short, damaged, unusual

_FILE_HEADER = 14
_OLD_HEADER = 12  # OS/2 1.x: sides of 16 bits, colours of three bytes
_HEADERS = (40, 52, 56, 64, 108, 124)
_MASKS_AT = _FILE_HEADER + 40  # inside the longer headers, behind the shortest
_ROWS, _MASKED, _MASKED_WITH_ALPHA = 0, 3, 6
_RUN_LENGTHS, _PACKED = (1, 2), (4, 5)
_MASKS = {
    16: (0x1F, 0x1F << 5, 0x1F << 10, 0),  # blue, green, red, alpha
    32: (0xFF, 0xFF << 8, 0xFF << 16, 0),
}


@dataclass(frozen=True)
class _Header:
    """What the rows depend on; `masks` are of blue, green, red, alpha, and () below 16 bits."""

    pixels: int
    height: int
    width: int
    depth: int
    from_top: bool
    masks: tuple[int, ...]
    colours: NDArray[np.uint8]  # [2**depth,3], BGR, or empty

    @property
    def stride(self) -> int:
        return (self.width * self.depth + 31) // 32 * 4


def parse_bmp(data: bytes, path: Path) -> PictureFile:
    """Walk a BMP file; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`."""
    pixels, length = struct.unpack_from("<II", data, 10)
    compression, size, used = _ROWS, 0, 0
    if length == _OLD_HEADER:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    elif length in _HEADERS:
        width, height, _, depth, compression, size = struct.unpack_from("<iiHHII", data, 18)
        (used,) = struct.unpack_from("<I", data, 46)
    else:
        raise damaged(path)
    check_size(abs(height), width, str(path))  # negative: the rows come from the top
    if compression in _PACKED:
        raise unusual(path, "a BMP picture with a JPEG or PNG inside")
    if compression in _RUN_LENGTHS:
        if pixels + size > len(data):
            raise cut_short(path)
        return PictureFile(data, abs(height), width)
    if depth not in (1, 4, 8, 16, 24, 32) or compression not in (
        _ROWS,
        _MASKED,
        _MASKED_WITH_ALPHA,
    ):
        raise damaged(path)
    header = _Header(
        *(pixels, abs(height), width, depth, height < 0),
        masks=_masks(data, length, depth, compression),
        colours=_colours(data, length, depth, used) if depth <= 8 else np.empty((0, 3), np.uint8),
    )
    if pixels + header.stride * header.height > len(data):
        raise cut_short(path)
    return PictureFile(data, header.height, width, decode=partial(_decode, data, header))


def _masks(data: bytes, length: int, depth: int, compression: int) -> tuple[int, ...]:
    """Where blue, green, red and alpha are among the bits of a pixel; alpha 0 if it has none."""
    if compression == _ROWS or depth not in _MASKS:
        return _MASKS.get(depth, ())
    red, green, blue = struct.unpack_from("<III", data, _MASKS_AT)
    alpha = 0
    if compression == _MASKED_WITH_ALPHA or length >= 56:
        (alpha,) = struct.unpack_from("<I", data, _MASKS_AT + 12)
    return blue, green, red, alpha


def _colours(data: bytes, length: int, depth: int, used: int) -> NDArray[np.uint8]:
    """The table of colours, [2**depth,3], BGR; black where the file has none."""
    each = 3 if length == _OLD_HEADER else 4
    count = min(used or 1 << depth, 1 << depth)
    table = np.zeros((1 << depth, 3), np.uint8)
    stored = data[_FILE_HEADER + length : _FILE_HEADER + length + count * each]
    stored = stored[: len(stored) // each * each]
    given = np.frombuffer(stored, np.uint8).reshape(-1, each)[:, :3]
    table[: len(given)] = given
    return table


def _decode(data: bytes, header: _Header) -> NDArray[Any]:
    """Decode to [H,W,3] (BGR) or, where there is a mask for alpha, [H,W,4]."""
    count = header.stride * header.height
    rows = np.frombuffer(data, np.uint8, count, header.pixels).reshape(header.height, -1)
    if not header.from_top:
        rows = rows[::-1]
    if header.depth == 24:
        return rows[:, : header.width * 3].reshape(header.height, header.width, 3)
    if header.depth < 16:
        bits = np.unpackbits(rows, axis=1) if header.depth < 8 else rows
        if header.depth == 4:
            bits = np.stack([rows >> 4, rows & 15], axis=-1).reshape(header.height, -1)
        return header.colours[bits[:, : header.width]]
    values = np.ascontiguousarray(rows).view(f"<u{header.depth // 8}")[:, : header.width]
    channels = header.masks if header.masks[3] else header.masks[:3]
    return np.stack([_channel(values, mask) for mask in channels], axis=-1)


def _channel(values: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """The bits under a mask as levels."""
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    highest = mask >> shift
    if highest == 0:
        return np.zeros(values.shape, np.uint8)
    bits = (values & values.dtype.type(mask & np.iinfo(values.dtype).max)) >> shift
    levels: NDArray[np.uint64] = (bits.astype(np.uint64) * 255 + highest // 2) // highest
    return levels.astype(np.uint8)
