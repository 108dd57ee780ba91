"""TIFF: the first directory of tags, and whether what it points at is there."""

from __future__ import annotations

import struct
from pathlib import Path

from ...errors import PictureError
from .. import exif
from ..metadata import Metadata
from .common import (
    NO_ALPHA,
    PREMULTIPLIED,
    SAVE_AS,
    STRAIGHT,
    PictureFile,
    check_size,
    cut_short,
    damaged,
    unusual,
)

# Tags.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _STRIP_SIZES, _PLANAR = 273, 277, 279, 284
_TILE_OFFSETS, _TILE_SIZES, _EXTRA, _KIND_OF_SAMPLES = 324, 325, 338, 339
_PAGE_KIND, _SUBFILES, _XMP, _ICC, _DNG = 254, 330, 700, 34_675, 50_706
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_USED = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _STRIP_OFFSETS, _SAMPLES, _STRIP_SIZES}
_USED |= {_PLANAR, _TILE_OFFSETS, _TILE_SIZES, _TILE_WIDTH, _TILE_HEIGHT}
_USED |= {_EXTRA, _KIND_OF_SAMPLES, _PAGE_KIND, exif.ORIENTATION}

# Compressions: none, fax, LZW, JPEG, Deflate (both numbers), PackBits, Zstandard, LZMA, WebP.
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32_946, 32_773}
# Colours, and how many samples without alpha: grey (either way), RGB, palette, CMYK, YCbCr.
_SAMPLES_OF = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
_PALETTE, _CMYK, _SENSOR = 3, 5, (32_803, 34_892)
_UNSIGNED = 1
_TOGETHER = 1  # the samples of a pixel, not those of a colour
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of extra samples; others are no alpha
_CANON = b"CR\x02"

_Values = dict[int, tuple[int, ...]]


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF."""
    return exif.open_tiff(data) is not None


def parse_tiff(data: bytes, path: Path) -> PictureFile:
    """Walk the first page; see :func:`~hyperstyle_rt.imaging.picture_files.parse_picture`."""
    tiff = exif.open_tiff(data)
    assert tiff is not None
    entries: dict[int, exif.Entry] = {}
    for entry in tiff.entries(tiff.first):
        entries.setdefault(entry.tag, entry)
    values = {tag: tiff.numbers(entry) for tag, entry in entries.items() if tag in _USED}

    def one(tag: int, default: int) -> int:
        return values[tag][0] if values.get(tag) else default

    colours = one(_COLOURS, -1)
    if _is_raw(data, entries, values):
        raise PictureError(f"{path} is a camera raw picture, which is not read here; {SAVE_AS}")
    height, width = one(_HEIGHT, 0), one(_WIDTH, 0)
    check_size(height, width, str(path))
    _check_kind(values, colours, one(_COMPRESSION, 1), one(_SAMPLES, 1), path)
    _check_parts(values, len(data), path)
    if _TILE_OFFSETS in entries:  # a tile is decoded as a whole, however much sticks out
        check_size(one(_TILE_HEIGHT, 0), one(_TILE_WIDTH, 0), str(path))
    icc, xmp = (tiff.content(entries[tag]) if tag in entries else None for tag in (_ICC, _XMP))
    orientation = Metadata(xmp=xmp).orientation()
    if values.get(exif.ORIENTATION):
        # OpenCV would apply it to some kinds of TIFF and not to others.
        orientation = one(exif.ORIENTATION, 1)
        data = tiff.with_number(entries[exif.ORIENTATION], 1)
    metadata = Metadata(icc, _exif(tiff), xmp)
    upright = orientation if 1 <= orientation <= 8 else 1
    alpha = _alpha(one(_EXTRA, 0), one(_BITS, 1))
    return PictureFile(data, height, width, upright, alpha=alpha, metadata=metadata)


def _exif(tiff: exif.Tiff) -> bytes | None:
    try:
        return exif.from_tiff(tiff)
    except (struct.error, IndexError):  # malformed; the picture does not depend on it
        return None


def _alpha(kind: int, bits: int) -> str:
    """What OpenCV's fourth channel is; of 8 bits, libtiff multiplies the colours by it."""
    if kind not in (_ASSOCIATED, _UNASSOCIATED):
        return NO_ALPHA
    return PREMULTIPLIED if bits == 8 or kind == _ASSOCIATED else STRAIGHT


def _is_raw(data: bytes, entries: dict[int, exif.Entry], values: _Values) -> bool:
    """Whether the first page is a camera's sensor, or a small preview of what lies below it."""
    preview = _SUBFILES in entries and any(kind & 1 for kind in values.get(_PAGE_KIND, ()))
    sensor = any(colours in _SENSOR for colours in values.get(_COLOURS, ()))
    return sensor or preview or _DNG in entries or data.startswith(_CANON, 8)


def _check_kind(values: _Values, colours: int, compression: int, samples: int, path: Path) -> None:
    """Refuse what OpenCV reads wrongly or not at all."""
    wanted = _SAMPLES_OF.get(colours)
    bits = set(values.get(_BITS) or (1,))
    alpha = samples - wanted if wanted is not None else 0
    if wanted is None or compression not in _COMPRESSIONS:
        raise unusual(path, "a TIFF picture of a rare kind of colours or compression")
    if set(values.get(_KIND_OF_SAMPLES) or (_UNSIGNED,)) != {_UNSIGNED}:
        raise unusual(path, "a TIFF picture of signed or fractional numbers")
    deep_enough = bits in ({8}, {16}) or (wanted == 1 and samples == 1 and bits <= {1, 2, 4})
    if not deep_enough or (bits == {16} and colours in (_PALETTE, _CMYK)):
        shown = ", ".join(map(str, sorted(bits)))
        raise unusual(path, f"a TIFF picture of {shown} bits a sample in a rare arrangement")
    if bits == {16} and values.get(_PLANAR, (_TOGETHER,)) != (_TOGETHER,) and samples > 1:
        raise unusual(path, "a TIFF picture of 16 bits with a plane for every colour")
    if alpha and (wanted != 3 or alpha != 1):
        raise unusual(path, "a TIFF picture with more channels than its colours have")


def _check_parts(values: _Values, length: int, path: Path) -> None:
    """Check that all strips or tiles lie within the file."""
    tiled = bool(values.get(_TILE_OFFSETS))
    offsets = values.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    sizes = values.get(_TILE_SIZES if tiled else _STRIP_SIZES)
    if not offsets or (sizes and len(offsets) != len(sizes)):
        raise damaged(path)
    for offset, size in zip(offsets, sizes or (1,) * len(offsets), strict=True):
        if offset + size > length:
            raise cut_short(path)
