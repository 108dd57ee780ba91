"""PNG: chunks with checksums."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..exif import block
from ..metadata import PNG_SIGNATURE, PNG_XMP_KEYWORD, Metadata
from .common import PictureFile, animated, check_size, cut_short, damaged

# What the pixels depend on. The rest (profiles, gamma, text, animation) is kept from libpng, which
# warns on the terminal about common harmless flaws in it.
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_GREY = 0
_MAX_METADATA = 1 << 24  # bytes of a profile or packet, unpacked
_RAW_EXIF = b"Raw profile type exif"  # ImageMagick's, of before there was eXIf


def parse_png(data: bytes, path: Path) -> PictureFile:
    """Walk a PNG file; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`."""
    kept = [PNG_SIGNATURE]
    transparent_grey = None
    found: dict[str, bytes] = {}
    for kind, start, stop in _chunks(data, path):
        content = memoryview(data)[start:stop]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", data, start)
            check_size(height, width, str(path))
        elif kind == b"tRNS" and colour == _GREY:
            (level,) = struct.unpack_from(">H", data, start)
            transparent_grey = level * 255 // (2**depth - 1) if depth < 8 else level
        elif kind == b"acTL" and struct.unpack_from(">I", data, start)[0] > 1:
            raise animated(path)
        elif kind not in _PIXEL_CHUNKS:
            for name, value in _metadata(kind, bytes(content)):
                found.setdefault(name, value)
        if kind in _PIXEL_CHUNKS:
            kept.append(data[start - 8 : stop + 4])
    exif = found.get("exif", found.get("raw exif"))
    metadata = Metadata(found.get("icc"), exif, found.get("xmp"))
    return PictureFile(
        *(b"".join(kept), height, width, metadata.orientation(), transparent_grey),
        metadata=metadata,
    )


def _chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, stop of the content) of each chunk, IHDR first and IEND last."""
    start = len(PNG_SIGNATURE) + 8
    kind = b""
    while kind != b"IEND":
        length, next_kind = struct.unpack_from(">I4s", data, start - 8)
        stop = start + length
        if stop + 4 > len(data):
            raise cut_short(path)
        (checksum,) = struct.unpack_from(">I", data, stop)
        if (kind == b"") != (next_kind == b"IHDR"):
            raise damaged(path)
        if zlib.crc32(memoryview(data)[start - 4 : stop]) != checksum:
            raise damaged(path)
        kind = next_kind
        yield kind, start, stop
        start = stop + 12


def _metadata(kind: bytes, content: bytes) -> Iterator[tuple[str, bytes]]:
    """What a chunk beside the pixels holds; nothing where it is malformed."""
    if kind == b"eXIf":
        yield "exif", block(content)
    elif kind == b"iCCP":
        _, _, packed = content.partition(b"\x00")
        if profile := _unpacked(packed[1:]):
            yield "icc", profile
    elif kind == b"iTXt" and content.startswith(PNG_XMP_KEYWORD + b"\x00"):
        text = content[20:].split(b"\x00", 2)[-1]  # behind a language and a translated keyword
        if packet := _unpacked(text) if content[18:19] == b"\x01" else text:
            yield "xmp", packet
    elif kind in (b"zTXt", b"tEXt") and content.startswith(_RAW_EXIF + b"\x00"):
        text = content[len(_RAW_EXIF) + 1 :]
        if exif := _raw_exif(_unpacked(text[1:]) if kind == b"zTXt" else text):
            yield "raw exif", exif


def _unpacked(packed: bytes) -> bytes:
    """Inflate; empty where that fails or gives too much."""
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(packed, _MAX_METADATA)
    except zlib.error:
        return b""
    return content if inflate.eof else b""


def _raw_exif(text: bytes) -> bytes:
    """EXIF as ImageMagick writes it: three lines of heading, then hexadecimal digits."""
    try:
        return block(bytes.fromhex("".join(text.decode("ascii").split("\n")[3:])))
    except ValueError:
        return b""
