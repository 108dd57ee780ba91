"""What a picture file says about itself, read before a decoder sees it.

OpenCV allocates whatever a header asks for, fills the missing half of a cut JPEG with grey in some
of its versions, and lets libpng print on the terminal. So the three formats read here are first
walked from header to end mark: their kind, size and orientation are known, and the file is known
to be whole, before any memory is taken for pixels.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import PictureError

# 108 megapixels, the largest common camera, fits; as RGB this is 360 MB. The side is libjpeg's.
MAX_PIXELS = 120_000_000
MAX_SIDE = 65_500

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What the pixels depend on. The rest (profiles, gamma, text, animation) is kept from libpng, which
# warns on the terminal about common harmless flaws in it.
_PNG_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_GREY = 0

# Frame headers: C4, C8 and CC in this range are tables, not frames.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_START_OF_SCAN, _JPEG_END, _JPEG_APP1 = 0xDA, 0xD9, 0xE1
# In scan data FF 00 is a byte, FF D0 to FF D7 are restart marks, FF FF is filling.
_JPEG_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_EXIF_PREFIX = b"Exif\x00\x00"
_EXIF_ORIENTATION, _EXIF_SHORT = 0x0112, 3

_SAVE_AS = "save it as PNG or JPEG first"
_HEIC = (
    "a HEIC picture",
    "convert it first, for example with `heif-convert photo.heic photo.jpg`",
)
# (offset, bytes found there, what the file is, how to mend it), first match wins.
_OTHER_FORMATS = (
    (4, b"ftyphei", *_HEIC),
    (4, b"ftyphev", *_HEIC),
    (4, b"ftypmif1", *_HEIC),
    (4, b"ftypmsf1", *_HEIC),
    (4, b"ftypavi", "an AVIF picture", _SAVE_AS),
    (4, b"ftyp", "a video", "save the frame you want as PNG or JPEG first"),
    (0, b"GIF8", "a GIF", _SAVE_AS),
    (0, b"BM", "a BMP picture", _SAVE_AS),
    (0, b"II*\x00", "a TIFF or camera raw picture", _SAVE_AS),
    (0, b"MM\x00*", "a TIFF or camera raw picture", _SAVE_AS),
    (0, b"\xff\x0a", "a JPEG XL picture", _SAVE_AS),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _SAVE_AS),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture", _SAVE_AS),
    (0, b"8BPS", "a Photoshop document", _SAVE_AS),
    (0, b"%PDF", "a PDF document", _SAVE_AS),
    (0, b"<svg", "an SVG drawing", _SAVE_AS),
    (0, b"<!DOCTYPE", "a web page", "download the picture itself"),
    (0, b"<!doctype", "a web page", "download the picture itself"),
    (0, b"<html", "a web page", "download the picture itself"),
)


@dataclass(frozen=True)
class PictureFile:
    """A whole file of a known format whose size is within the limit.

    Attributes
    ----------
    data : bytes
        What the decoder is given: the file, or of a PNG the chunks that the pixels depend on.
    height, width : int
        Stored size in pixels, before the orientation is applied.
    orientation : int
        EXIF orientation, 1 to 8; 1 is upright.
    transparent_grey : int or None
        The grey level that stands for "transparent" in a grey PNG, as the decoder returns it.
    """

    data: bytes
    height: int
    width: int
    orientation: int = 1
    transparent_grey: int | None = None


def parse_picture(data: bytes, path: Path) -> PictureFile:
    """Recognise a picture file by its content and check that it is whole and not too large.

    Parameters
    ----------
    data : bytes
        The file.
    path : Path
        Its name, for the error messages; the suffix is not looked at.

    Returns
    -------
    PictureFile
        Its stored size, its orientation, and the bytes for the decoder.

    Raises
    ------
    PictureError
        Not a PNG, JPEG or WebP file; cut short or damaged; an animation; without pixels, or
        with more than `MAX_PIXELS` or `MAX_SIDE`.
    """
    try:
        if data.startswith(_PNG_SIGNATURE):
            return _parse_png(data, path)
        if data.startswith(b"\xff\xd8\xff"):
            return _parse_jpeg(data, path)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _parse_webp(data, path)
    except (struct.error, IndexError) as error:  # a field lies behind the end of the file
        raise _cut_short(path) from error
    for offset, magic, what, mend in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise PictureError(f"{path} is {what}, which is not read here; {mend}")
    raise PictureError(f"{path} is not a picture; give a PNG, JPEG or WebP file")


def check_size(height: int, width: int, subject: str) -> None:
    """Refuse a picture without pixels, or with more than `MAX_PIXELS` or `MAX_SIDE`.

    Raises
    ------
    PictureError
        Names `subject` (a path, or "the picture").
    """
    if height < 1 or width < 1:
        raise PictureError(f"{subject} has no pixels ({width} x {height}); give another one")
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise PictureError(
            f"{subject} has {width} x {height} pixels, more than the {MAX_PIXELS:,} "
            f"({MAX_SIDE:,} a side) allowed; scale it down first"
        )


def _cut_short(path: Path) -> PictureError:
    return PictureError(f"{path} is cut short; copy or download it again")


def _damaged(path: Path) -> PictureError:
    return PictureError(f"{path} is damaged; copy or download it again")


def _animated(path: Path) -> PictureError:
    return PictureError(f"{path} is an animation; save the frame you want as PNG or JPEG first")


def _parse_png(data: bytes, path: Path) -> PictureFile:
    kept = [_PNG_SIGNATURE]
    orientation, transparent_grey = 1, None
    for kind, start, stop in _png_chunks(data, path):
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", data, start)
            check_size(height, width, str(path))
        elif kind == b"tRNS" and colour == _PNG_GREY:
            (level,) = struct.unpack_from(">H", data, start)
            transparent_grey = level * 255 // (2**depth - 1) if depth < 8 else level
        elif kind == b"eXIf":
            orientation = _exif_orientation(data[start:stop])
        elif kind == b"acTL" and struct.unpack_from(">I", data, start)[0] > 1:
            raise _animated(path)
        if kind in _PNG_PIXEL_CHUNKS:
            kept.append(data[start - 8 : stop + 4])
    return PictureFile(b"".join(kept), height, width, orientation, transparent_grey)


def _png_chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, stop of the content) of each chunk, IHDR first and IEND last."""
    start = len(_PNG_SIGNATURE) + 8
    kind = b""
    while kind != b"IEND":
        length, next_kind = struct.unpack_from(">I4s", data, start - 8)
        stop = start + length
        (checksum,) = struct.unpack_from(">I", data, stop)
        if (kind == b"") != (next_kind == b"IHDR"):
            raise _damaged(path)
        if zlib.crc32(memoryview(data)[start - 4 : stop]) != checksum:
            raise _damaged(path)
        kind = next_kind
        yield kind, start, stop
        start = stop + 12


def _parse_jpeg(data: bytes, path: Path) -> PictureFile:
    height = width = 0
    orientation = 1
    position = 2
    while (marker := data[position + 1]) != _JPEG_END:
        if data[position] != 0xFF:
            raise _damaged(path)
        if marker == 0xFF:  # filling before a marker
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        content, position = position + 4, position + 2 + length
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">xHH", data, content)
            check_size(height, width, str(path))
        elif marker == _JPEG_APP1 and data.startswith(_EXIF_PREFIX, content):
            orientation = _exif_orientation(data[content:position])
        elif marker == _JPEG_START_OF_SCAN:
            found = _JPEG_MARKER_IN_SCAN.search(data, position)
            if found is None:
                raise _cut_short(path)
            position = found.start()
    check_size(height, width, str(path))
    return PictureFile(data, height, width, orientation)


def _parse_webp(data: bytes, path: Path) -> PictureFile:
    (length,) = struct.unpack_from("<I", data, 4)
    stop = 8 + length
    if stop > len(data):
        raise _cut_short(path)
    kind = data[12:16]
    orientation = 1
    if kind == b"VP8X":
        flags = data[20]
        if flags & 0x02:
            raise _animated(path)
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        orientation = _webp_orientation(data, stop)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise _damaged(path)
    check_size(height, width, str(path))
    return PictureFile(data, height, width, orientation)


def _webp_orientation(data: bytes, stop: int) -> int:
    """Orientation from the EXIF chunk of an extended WebP file, 1 if there is none."""
    position = 12
    while position + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return _exif_orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2  # chunks are padded to even length
    return 1


def _exif_orientation(exif: bytes) -> int:
    """Orientation tag of a block of EXIF data; 1 if it has none or is malformed."""
    exif = exif.removeprefix(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(
                order + "HHIH", exif, directory + 2 + 12 * entry
            )
            if tag == _EXIF_ORIENTATION and kind == _EXIF_SHORT:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
