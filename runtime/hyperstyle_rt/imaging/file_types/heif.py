"""HEIC and AVIF: boxes within boxes; decoded by packages that the extra ``heif`` installs."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PictureError
from ..exif import block, orientation
from ..metadata import Metadata
from .common import PictureFile, check_size, cut_short, damaged

_HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_GENERAL_BRANDS = {b"mif1", b"msf1", b"mif2", b"miaf"}
_CONTAINERS = {b"meta": 12, b"iprp": 8, b"ipco": 8}  # and where their boxes begin
_TO_THE_END = 0
_DAMAGED = (ValueError, EOFError, SyntaxError, OSError, RuntimeError)  # what the packages raise

_INSTALL = "install hyperstyle-rt[heif], or convert it first, e.g. `heif-convert photo.heic a.jpg`"


def kind_of(data: bytes) -> str | None:
    """``HEIC``, ``AVIF``, or None if the file is of another kind."""
    if data[4:8] != b"ftyp":
        return None
    (length,) = struct.unpack_from(">I", data)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(length, 256), 4))}
    if data[8:12] in _AVIF_BRANDS or (data[8:12] in _GENERAL_BRANDS and brands & _AVIF_BRANDS):
        return "AVIF"
    return "HEIC" if data[8:12] in _HEVC_BRANDS | _GENERAL_BRANDS else None


def parse_heif(data: bytes, path: Path, kind: str) -> PictureFile:
    """Walk the boxes, then let the decoder's package read the header.

    Raises
    ------
    PictureError
        Also if the packages are not installed; the sentence names the extra.
    """
    sides = [struct.unpack_from(">II", data, at + 12) for at in _boxes_of(data, b"ispe", path)]
    if not sides:
        raise damaged(path)
    for width, height in sides:  # of the picture, of its tiles, of its thumbnails
        check_size(height, width, str(path))
    opened = _open_avif(data, path) if kind == "AVIF" else _open_heic(data, path)
    width, height = opened.size
    check_size(height, width, str(path))
    info = opened.info
    exif, icc, xmp = (info.get(key) or None for key in ("exif", "icc_profile", "xmp"))
    metadata = Metadata(icc, block(exif) if exif else None, xmp)
    # The file's own way to say how the picture is turned: libheif applies it, Pillow's reader of
    # AVIF writes it into the EXIF data.
    turned = (orientation(metadata.exif or b"") or 1) if kind == "AVIF" else 1
    if not 1 <= turned <= 8:
        turned = 1
    decode = partial(_decode, opened)
    return PictureFile(data, height, width, turned, metadata=metadata, decode=decode)


def _open_heic(data: bytes, path: Path) -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise PictureError(f"{path} is a HEIC picture; to read it, {_INSTALL}") from None
    try:
        return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    except _DAMAGED as error:
        raise damaged(path) from error


def _open_avif(data: bytes, path: Path) -> Any:
    try:
        from PIL import AvifImagePlugin, features
    except ImportError:
        raise PictureError(f"{path} is an AVIF picture; to read it, {_INSTALL}") from None
    if not features.check("avif"):
        raise PictureError(f"{path} is an AVIF picture; to read it, {_INSTALL}")
    try:
        return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    except _DAMAGED as error:
        raise damaged(path) from error


def _decode(opened: Any) -> NDArray[Any] | None:
    """The pixels as OpenCV would give them, BGR or BGRA; None if they are damaged."""
    try:
        if hasattr(opened, "to_pillow"):
            opened = opened.to_pillow()
        picture = np.asarray(opened.convert("RGBA" if opened.has_transparency_data else "RGB"))
    except _DAMAGED:
        return None
    return picture[..., [2, 1, 0, 3][: picture.shape[2]]]


def _boxes_of(data: bytes, wanted: bytes, path: Path) -> Iterator[int]:
    """Yield where boxes of a kind lie among the properties of the pictures."""
    todo = [(0, len(data))]
    while todo:
        position, stop = todo.pop()
        while position + 8 <= stop:
            length, kind = struct.unpack_from(">I4s", data, position)
            if length == 1:
                (length,) = struct.unpack_from(">Q", data, position + 8)
            elif length == _TO_THE_END:
                length = stop - position
            if length < 8:
                raise damaged(path)
            if position + length > stop:
                raise cut_short(path)
            if kind == wanted:
                yield position
            elif kind in _CONTAINERS:
                todo.append((position + _CONTAINERS[kind], position + length))
            position += length
