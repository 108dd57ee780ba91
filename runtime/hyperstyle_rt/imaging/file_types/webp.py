"""WebP: RIFF chunks around VP8 or VP8L."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ..exif import block
from ..metadata import NO_METADATA, Metadata
from .common import PictureFile, animated, check_size, cut_short, damaged

_ANIMATED = 0x02


def parse_webp(data: bytes, path: Path) -> PictureFile:
    """Walk a WebP file; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`."""
    (length,) = struct.unpack_from("<I", data, 4)
    if 8 + length > len(data):
        raise cut_short(path)
    metadata = NO_METADATA
    if data[12:16] == b"VP8X":
        if data[20] & _ANIMATED:
            raise animated(path)
        found: dict[bytes, bytes] = {}
        for kind, content in chunks(data):
            found.setdefault(kind, content)
        exif = found.get(b"EXIF")
        metadata = Metadata(
            found.get(b"ICCP"), None if exif is None else block(exif), found.get(b"XMP ")
        )
    try:
        height, width = size_of(data)
    except ValueError:
        raise damaged(path) from None
    check_size(height, width, str(path))
    return PictureFile(data, height, width, metadata.orientation(), metadata=metadata)


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of a WebP file; ValueError if its first chunk is none that tells."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        if len(data) < 30:
            raise struct.error("behind the end")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ValueError(kind)
    return height, width


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the chunks of a WebP file, as far as they are whole."""
    stop = min(8 + struct.unpack_from("<I", data, 4)[0], len(data))
    position = 12
    while position + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2  # chunks are padded to even length
