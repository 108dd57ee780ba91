"""BMP: a header of one of several ages, a table of colours, rows."""

from __future__ import annotations

import struct
from pathlib import Path

from .common import PictureFile, check_size, cut_short, damaged, unusual

_OLD_HEADER = 12  # OS/2 1.x: sides of 16 bits
_HEADERS = (40, 52, 56, 64, 108, 124)
_DEPTHS = (1, 4, 8, 16, 24, 32)
_RUN_LENGTHS, _PACKED = (1, 2), (4, 5)  # compressions; 0, 3 and 6 are plain rows


def parse_bmp(data: bytes, path: Path) -> PictureFile:
    """Walk a BMP file; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`."""
    pixels, header = struct.unpack_from("<II", data, 10)
    if header == _OLD_HEADER:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        compression, size = 0, 0
    elif header in _HEADERS:
        width, height, _, depth, compression, size = struct.unpack_from("<iiHHII", data, 18)
    else:
        raise damaged(path)
    height = abs(height)  # negative: the rows come from the top
    check_size(height, width, str(path))
    if compression in _PACKED:
        raise unusual(path, "a BMP picture with a JPEG or PNG inside")
    if depth not in _DEPTHS:
        raise damaged(path)
    if compression not in _RUN_LENGTHS:
        size = height * ((width * depth + 31) // 32 * 4)
    if pixels + size > len(data):
        raise cut_short(path)
    return PictureFile(data, height, width)
