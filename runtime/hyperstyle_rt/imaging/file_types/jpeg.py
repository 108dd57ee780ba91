"""JPEG: segments, scans, and files that lack their end mark."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exif import block
from ..metadata import JPEG_EXIF, JPEG_ICC, JPEG_XMP, Metadata
from ..opencv_decoding import decode_with_opencv
from .common import PictureFile, check_size, cut_short, damaged

# Frame headers: C4, C8 and CC in this range are tables, not frames.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset((0xC0, 0xC1))  # those whose scans hold whole coefficients
_START_OF_SCAN, _END, _APP1, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2
# In scan data FF 00 is a byte, FF D0 to FF D7 are restart marks, FF FF is filling.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_LACKS_END = "lacks the mark at its end, as interrupted copies do, but none of its pixels"
# What is put behind such a file in turn; low values, which are codes in every Huffman table.
_TAILS = tuple(bytes([value]) * 64 for value in (0x00, 0x11, 0x2A, 0x39, 0x47, 0x5B, 0x6C, 0x93))
_LAST_BYTES = 4  # without which the scan must not be whole


@dataclass
class _Walk:
    """What the segments say."""

    height: int = 0
    width: int = 0
    frame: int = 0  # its marker
    components: int = 0
    scanned: set[int] = field(default_factory=set)
    exif: bytes | None = None
    xmp: bytes | None = None
    icc: dict[int, bytes] = field(default_factory=dict)
    icc_parts: int = 0

    def metadata(self) -> Metadata:
        parts = [self.icc.get(number) for number in range(1, self.icc_parts + 1)]
        icc = b"".join(part for part in parts if part) if all(parts) else b""
        return Metadata(icc or None, self.exif, self.xmp)


def parse_jpeg(data: bytes, path: Path) -> PictureFile:
    """Walk a JPEG file; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`.

    Of several EXIF or XMP segments the first counts. What follows the end mark (further pictures of
    a multi-picture file, a phone's film clip) is not looked at.
    """
    walk = _Walk()
    position, ended = 2, True
    while (marker := data[position + 1]) != _END:
        if data[position] != 0xFF:
            raise damaged(path)
        if marker == 0xFF:  # filling before a marker
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        content, position = position + 4, position + 2 + length
        if marker in _FRAMES:
            walk.frame = marker
            walk.height, walk.width, walk.components = struct.unpack_from(">xHHB", data, content)
            check_size(walk.height, walk.width, str(path))
        elif marker == _START_OF_SCAN:
            count = data[content]
            walk.scanned |= {data[content + 1 + 2 * n] for n in range(count)}
            found = _MARKER_IN_SCAN.search(data, position)
            if found is None:
                if not _may_be_whole(walk):
                    raise cut_short(path)
                ended = False
                break
            position = found.start()
        elif not walk.scanned:  # what follows a scan is no metadata, in Pillow neither
            _read_application_data(walk, marker, data[content:position])
    check_size(walk.height, walk.width, str(path))
    metadata = walk.metadata()
    file = PictureFile(data, walk.height, walk.width, metadata.orientation(), metadata=metadata)
    if ended:
        return file
    # Half of the end mark may be there.
    decode = partial(_decode_without_end, data.removesuffix(b"\xff"), path)
    return replace(file, decode=decode, note=f"{path} {_LACKS_END}")


def _read_application_data(walk: _Walk, marker: int, content: bytes) -> None:
    if marker == _APP1 and content.startswith(JPEG_EXIF) and walk.exif is None:
        walk.exif = block(content)
    elif marker == _APP1 and content.startswith(JPEG_XMP) and walk.xmp is None:
        walk.xmp = content[len(JPEG_XMP) :]
    elif marker == _APP2 and content.startswith(JPEG_ICC) and len(content) > len(JPEG_ICC) + 2:
        number, walk.icc_parts = content[len(JPEG_ICC) : len(JPEG_ICC) + 2]
        walk.icc.setdefault(number, content[len(JPEG_ICC) + 2 :])


def _may_be_whole(walk: _Walk) -> bool:
    """Whether the scan that the file ends in can be its last one.

    A progressive file's scans refine each other, and where one ends is only known with all of the
    others, so such a file counts as cut short.
    """
    return walk.frame in _SEQUENTIAL and len(walk.scanned) == walk.components


def _decode_without_end(data: bytes, path: Path) -> NDArray[Any]:
    """Decode a file that stops in its last scan, if no pixel of it is missing.

    The scan is whole if the pixels are the same whatever follows it, and it has no more than it
    needs (as a file that was cut and filled up with zeros has) if that is so no longer without its
    last bytes. There is no end mark behind the tails: libjpeg then stops without a word.

    Raises
    ------
    PictureError
        If the scan is cut short.
    """
    pixels = _pixels_whatever_follows(data)
    if pixels is None or _pixels_whatever_follows(data[:-_LAST_BYTES]) is not None:
        raise cut_short(path)
    return pixels


def _pixels_whatever_follows(data: bytes) -> NDArray[Any] | None:
    """The pixels, if none depends on what follows the data, else None."""
    first: NDArray[Any] | None = None
    for tail in _TAILS:
        pixels = decode_with_opencv(data + tail)
        if pixels is None or (first is not None and not np.array_equal(first, pixels)):
            return None
        first = pixels
    return first
