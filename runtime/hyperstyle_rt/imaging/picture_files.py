"""What a picture file says about itself, read before a decoder sees it.

OpenCV allocates whatever a header asks for, fills the missing half of a cut JPEG with grey in some
of its versions, and lets libpng print on the terminal. So every file is first walked from header to
end mark by the module of its format in ``file_types``: its kind, size and orientation are known,
and the file is known to be whole, before any memory is taken for pixels.
"""

from __future__ import annotations

import struct
from pathlib import Path

from ..errors import PictureError
from .file_types.bmp import parse_bmp
from .file_types.common import (
    MAX_PIXELS,
    MAX_SIDE,
    SAVE_AS,
    PictureFile,
    check_size,
    cut_short,
)
from .file_types.gif import parse_gif
from .file_types.heif import kind_of, parse_heif
from .file_types.jpeg import parse_jpeg
from .file_types.netpbm import is_netpbm, parse_netpbm
from .file_types.png import parse_png
from .file_types.tiff import is_tiff, parse_tiff
from .file_types.webp import parse_webp
from .metadata import PNG_SIGNATURE

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "READABLE",
    "READABLE_SUFFIXES",
    "PictureFile",
    "check_size",
    "parse_picture",
]

READABLE = "PNG, JPEG, WebP, TIFF, BMP, GIF, PGM or PPM"
"""The kinds of files that are read in any case, for sentences."""

READABLE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp"),
    *(".tif", ".tiff", ".bmp", ".dib", ".gif", ".pgm", ".ppm", ".pbm", ".pnm"),
    *(".heic", ".heif", ".hif", ".avif"),
)
"""Suffixes of files that `read_picture` takes, the last row with the extra ``heif``.

What a folder is searched for. A file that is named is read whatever its suffix.
"""

_FILM = (
    "a film",
    "save the frame you want as PNG or JPEG first, or `invert` the film itself, by a name that "
    "ends in .mp4, .mov, .mkv or the like",
)
_RAW = ("a camera raw picture", SAVE_AS)
# (offset, bytes found there, what the file is, how to mend it), first match wins.
_OTHER_FORMATS = (
    (4, b"ftyp", *_FILM),
    (0, b"\x1aE\xdf\xa3", *_FILM),  # Matroska and WebM
    (8, b"AVI ", *_FILM),
    (0, b"\x00\x00\x01\xba", *_FILM),  # MPEG
    (0, b"IIRO", *_RAW),
    (0, b"IIRS", *_RAW),
    (0, b"MMOR", *_RAW),
    (0, b"IIU\x00", *_RAW),
    (0, b"FUJIFILMCCD-RAW", *_RAW),
    (0, b"P7\n", "a PAM picture", SAVE_AS),
    (0, b"\xff\x0a", "a JPEG XL picture", SAVE_AS),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", SAVE_AS),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture", SAVE_AS),
    (0, b"8BPS", "a Photoshop document", SAVE_AS),
    (0, b"%PDF", "a PDF document", SAVE_AS),
    (0, b"<svg", "an SVG drawing", SAVE_AS),
    (0, b"<!DOCTYPE", "a web page", "download the picture itself"),
    (0, b"<!doctype", "a web page", "download the picture itself"),
    (0, b"<html", "a web page", "download the picture itself"),
)


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
        Its stored size, its orientation, its metadata, and the bytes for the decoder.

    Raises
    ------
    PictureError
        Of a format that is not read; cut short or damaged; an animation (of GIF the first frame is
        the picture); without pixels, or with more than `MAX_PIXELS` or `MAX_SIDE`.
    """
    try:
        file = _parse_known(data, path)
    except (struct.error, IndexError) as error:  # a field lies behind the end of the file
        raise cut_short(path) from error
    if file is not None:
        return file
    for offset, magic, what, mend in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise PictureError(f"{path} is {what}, which is not read here; {mend}")
    raise PictureError(f"{path} is not a picture; give a {READABLE} file")


def _parse_known(data: bytes, path: Path) -> PictureFile | None:
    """Let the module of its format walk a file; None if there is none."""
    if data.startswith(PNG_SIGNATURE):
        return parse_png(data, path)
    if data.startswith(b"\xff\xd8\xff"):
        return parse_jpeg(data, path)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return parse_webp(data, path)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return parse_gif(data, path)
    if data.startswith(b"BM"):
        return parse_bmp(data, path)
    if is_tiff(data):
        return parse_tiff(data, path)
    if is_netpbm(data):
        return parse_netpbm(data, path)
    if kind := kind_of(data):
        return parse_heif(data, path, kind)
    return None
