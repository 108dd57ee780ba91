"""What a picture file carries beside its pixels, kept from file to file: ICC profile, EXIF, XMP."""

from __future__ import annotations

import logging
import re
import struct
import zlib
from dataclasses import dataclass, replace

from . import exif as exif_blocks

_log = logging.getLogger(__name__)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_XMP_KEYWORD = b"XML:com.adobe.xmp"
JPEG_EXIF, JPEG_XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
JPEG_ICC = b"ICC_PROFILE\x00"

_JPEG_SEGMENT = 65_533  # bytes of content that its length of 16 bits can say
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([0-9])")
_WEBP_ICC, _WEBP_ALPHA, _WEBP_EXIF, _WEBP_XMP = 0x20, 0x10, 0x08, 0x04


@dataclass(frozen=True)
class Metadata:
    """Blocks of a file, each as it stands there, or None.

    Attributes
    ----------
    icc : bytes or None
        The colour profile of the pixels.
    exif : bytes or None
        A TIFF structure, without the ``Exif`` mark that JPEG sets before it.
    xmp : bytes or None
        A packet of XML.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def __bool__(self) -> bool:
        return any((self.icc, self.exif, self.xmp))

    def orientation(self) -> int:
        """EXIF orientation, 1 to 8; XMP's where EXIF has none, as in Pillow."""
        value = exif_blocks.orientation(self.exif) if self.exif else None
        if value is None and self.xmp and (found := _XMP_ORIENTATION.search(self.xmp)):
            value = int(found[2])
        return value if value is not None and 1 <= value <= 8 else 1

    def for_upright_pixels(self) -> Metadata:
        """The same for a new picture: its orientation is 1, and the old thumbnail is gone."""
        return replace(
            self,
            exif=exif_blocks.for_upright_pixels(self.exif) if self.exif else None,
            xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", self.xmp) if self.xmp else None,
        )


NO_METADATA = Metadata()


def embed(encoded: bytes, metadata: Metadata) -> bytes:
    """Put metadata into a PNG, JPEG or WebP file as `encode_picture` makes them.

    JPEG holds at most 64 KB of EXIF and of XMP; what is longer is left out with a warning.
    """
    if not metadata:
        return encoded
    if encoded.startswith(PNG_SIGNATURE):
        return _into_png(encoded, metadata)
    if encoded.startswith(b"\xff\xd8"):
        return _into_jpeg(encoded, metadata)
    return _into_webp(encoded, metadata)


def _into_png(encoded: bytes, metadata: Metadata) -> bytes:
    chunks = []
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\x00\x00" + zlib.compress(metadata.icc)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", PNG_XMP_KEYWORD + bytes(5) + metadata.xmp))
    after_header = len(PNG_SIGNATURE) + 25
    added = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return encoded[:after_header] + added + encoded[after_header:]


def _into_jpeg(encoded: bytes, metadata: Metadata) -> bytes:
    segments = []
    for name, mark, block in (
        ("EXIF", JPEG_EXIF, metadata.exif),
        ("XMP", JPEG_XMP, metadata.xmp),
    ):
        if block and len(mark) + len(block) > _JPEG_SEGMENT:
            _log.warning("the %s data have %d bytes, more than JPEG holds", name, len(block))
        elif block:
            segments.append((0xE1, mark + block))
    if metadata.icc:
        step = _JPEG_SEGMENT - len(JPEG_ICC) - 2
        parts = [metadata.icc[at : at + step] for at in range(0, len(metadata.icc), step)]
        segments += [
            (0xE2, JPEG_ICC + bytes([number, len(parts)]) + part)
            for number, part in enumerate(parts, 1)
        ]
    at = 2
    if encoded[2:4] == b"\xff\xe0":  # JFIF comes first
        at += 2 + int.from_bytes(encoded[4:6], "big")
    added = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
        for marker, content in segments
    )
    return encoded[:at] + added + encoded[at:]


def _into_webp(encoded: bytes, metadata: Metadata) -> bytes:
    from .file_types.webp import chunks, size_of

    height, width = size_of(encoded)
    picture = [(kind, content) for kind, content in chunks(encoded) if kind != b"VP8X"]
    flags = _WEBP_ALPHA if any(kind == b"ALPH" for kind, _ in picture) else 0
    before, after = [], []
    if metadata.icc:
        flags |= _WEBP_ICC
        before.append((b"ICCP", metadata.icc))
    if metadata.exif:
        flags |= _WEBP_EXIF
        after.append((b"EXIF", metadata.exif))
    if metadata.xmp:
        flags |= _WEBP_XMP
        after.append((b"XMP ", metadata.xmp))
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    header = [(b"VP8X", bytes([flags, 0, 0, 0]) + sides)]
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        for kind, content in (*header, *before, *picture, *after)
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body
