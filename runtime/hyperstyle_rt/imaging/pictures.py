"""Pictures in and out: decoding, the resize HyperStyle was trained with, encoding.

A picture is uint8 [H,W,3], sRGB, everywhere in this package. Pictures are written as PNG, JPEG and
WebP; what is read, `picture_files` says.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError
from ..files import read_regular, write_atomically
from ..types import Picture
from . import resampling
from .colour import ColourSpace, is_rgb_profile
from .file_types.common import NO_ALPHA, PREMULTIPLIED
from .metadata import NO_METADATA, Metadata, embed
from .opencv_decoding import decode_with_opencv
from .picture_files import MAX_SIDE, READABLE_SUFFIXES, PictureFile, check_size, parse_picture

__all__ = [
    "PICTURE_SUFFIXES",
    "READABLE_SUFFIXES",
    "Original",
    "check_picture",
    "decode_original",
    "decode_picture",
    "encode_picture",
    "gap_beside",
    "longest_side",
    "read_original",
    "read_picture",
    "read_picture_file",
    "resize_bilinear",
    "side_by_side",
    "to_input",
    "to_picture",
    "write_picture",
]

_log = logging.getLogger(__name__)

# No compressed picture within the pixel limit is larger, unless it was padded on purpose.
_MAX_FILE_BYTES = 1 << 29

# Of the files that `write_picture` makes; `READABLE_SUFFIXES` are of those `read_picture` takes.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".jfif")
_QUALITY = 95  # of JPEG and WebP
_WEBP_MAX_SIDE = 16_383

# float32 input value of every 8-bit level, as ToTensor and Normalize(0.5, 0.5) compute it.
_LEVELS = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


@dataclass(frozen=True, eq=False)
class Original:
    """A picture as its file has it, upright, for those who write it again.

    Attributes
    ----------
    stored : ndarray, uint8 [H,W,3]
        RGB in the file's own colour space.
    metadata : Metadata
        For upright pixels: the orientation is 1. The profile is that of `stored`.
    """

    stored: Picture
    metadata: Metadata = NO_METADATA

    @property
    def space(self) -> ColourSpace | None:
        """The colour space of `stored`; None for sRGB."""
        return ColourSpace.of(self.metadata.icc)

    def picture(self) -> Picture:
        """Give the picture in sRGB: `stored` itself, where it is that already."""
        space = self.space
        return self.stored if space is None else space.to_srgb(self.stored)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read a picture file, recognised by its content.

    PNG, JPEG, WebP, TIFF (the first page), BMP, GIF (the first frame), PGM and PPM; HEIC and AVIF
    where the extra ``heif`` is installed.

    The orientation is applied as Pillow does it: that of the first EXIF block, else XMP's. Colours
    are converted to sRGB by the embedded profile (:meth:`ColourSpace.of` says which are read).
    Transparent pictures are laid over white, as browsers and viewers show them: the colour stored
    under a transparent pixel is whatever the editor left there (often black or old background) and
    would be inverted as if it belonged to the face. Grey and palette pictures become RGB; 16-bit
    values are rounded to 8 bits.

    JPEG, WebP and others have no checksums, so flipped bits inside a whole file go unnoticed, but
    for a remark that libjpeg may print on standard error. A JPEG that lacks only its end mark is
    read, with a warning in the log.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ndarray, uint8 [H,W,3]
        RGB.

    Raises
    ------
    PictureError
        The file cannot be read, is of another format (the message names it and how to convert), is
        cut short or damaged, is an animation other than GIF, has no pixels or more than
        `picture_files.MAX_PIXELS`, or needs more memory than there is. Nothing is allocated for
        pixels before these checks.
    """
    return read_original(path).picture()


def read_original(path: str | os.PathLike[str]) -> Original:
    """Read a picture file as :func:`read_picture` does, but keep colour space and metadata.

    Raises
    ------
    PictureError
        As there.
    """
    path = Path(path)
    return decode_original(read_picture_file(path), path)


def read_picture_file(path: Path) -> bytes:
    """Read the bytes that :func:`decode_picture` takes.

    Raises
    ------
    PictureError
        The file cannot be read, is empty, or is too large to be a picture.
    """
    data = read_regular(path, _MAX_FILE_BYTES, PictureError)
    if not data:
        raise PictureError(f"{path} is empty; copy or download it again")
    return data


def decode_picture(data: bytes, path: Path) -> Picture:
    """Decode the content of a file as :func:`read_picture` does; the path is for the errors."""
    return decode_original(data, path).picture()


def decode_original(data: bytes, path: Path) -> Original:
    """Decode the content of a file as :func:`read_original` does; the path is for the errors."""
    file = parse_picture(data, path)
    try:
        pixels = file.decode() if file.decode is not None else decode_with_opencv(file.data)
        if pixels is None or pixels.shape[:2] != (file.height, file.width):
            raise PictureError(
                f"{path} is damaged or of an unusual kind; save it anew as PNG or JPEG"
            )
        stored = upright(_to_rgb(pixels, file), file.orientation)
    except MemoryError:
        raise PictureError(
            f"{path} has {file.width} x {file.height} pixels, for which there is not enough "
            "memory; scale it down first, or allow more memory"
        ) from None
    if file.note is not None:
        _log.warning("%s", file.note)
    metadata = file.metadata.for_upright_pixels()
    if metadata.icc is not None and not is_rgb_profile(metadata.icc):
        metadata = replace(metadata, icc=None)  # of the grey or CMYK that the file held
    return Original(stored, metadata)


def check_picture(image: Any) -> Picture:
    """Check a picture given by a caller.

    Parameters
    ----------
    image : ndarray, uint8 [H,W,3]
        RGB; any memory layout.

    Returns
    -------
    ndarray, uint8 [H,W,3]
        The same picture, C-contiguous; not copied if it was so already.

    Raises
    ------
    PictureError
        Anything else: another type, dtype or number of channels, no pixels, or too many. The
        message says how to convert.
    """
    if not isinstance(image, np.ndarray):
        raise PictureError(
            f"a picture must be a numpy array, not {type(image).__name__}; "
            "give numpy.asarray(...) of an RGB picture"
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise PictureError(
            f"a picture must have the shape [height, width, 3], not {list(image.shape)}; "
            "convert it to RGB"
        )
    if image.dtype != np.uint8:
        raise PictureError(
            f"a picture must be uint8 with values 0 to 255, not {image.dtype}; "
            "scale, round and convert it"
        )
    check_size(image.shape[0], image.shape[1], "the picture")
    return np.ascontiguousarray(image)


def resize_bilinear(image: Picture, size: tuple[int, int]) -> Picture:
    """Resize exactly as Pillow's ``resize(..., BILINEAR)`` does, which HyperStyle was trained with.

    uint8 [H,W,3] and (h, w) -> uint8 [h,w,3]; see :func:`resampling.resize`.
    """
    return resampling.resize(image, size, resampling.BILINEAR)


def to_input(image: Picture, size: tuple[int, int]) -> NDArray[np.float32]:
    """Make the networks' input of a picture.

    Parameters
    ----------
    image : ndarray, uint8 [H,W,3]
        RGB.
    size : (int, int)
        Height and width the networks take.

    Returns
    -------
    ndarray, float32 [1,3,h,w]
        C-contiguous, in [-1,1].
    """
    planes = resize_bilinear(image, size).transpose(2, 0, 1)
    values: NDArray[np.float32] = np.ascontiguousarray(_LEVELS[planes])
    return values[None]


def to_picture(tensor: NDArray[np.float32]) -> Picture:
    """Make a picture of a network's output.

    Parameters
    ----------
    tensor : ndarray, float32 [3,H,W]
        About -1 to 1; values outside are clipped.

    Returns
    -------
    ndarray, uint8 [H,W,3]
        RGB, C-contiguous. Truncated, not rounded, as the original does.

    Raises
    ------
    ValueError
        Another shape or dtype, or values that are not finite.
    """
    if tensor.ndim != 3 or tensor.shape[0] != 3 or tensor.dtype != np.float32:
        raise ValueError(f"expected float32 [3,H,W], got {tensor.dtype} {list(tensor.shape)}")
    if not np.isfinite(tensor).all():
        raise ValueError("the network's output holds values that are not finite")
    levels = np.clip((tensor + np.float32(1)) / np.float32(2), 0, 1) * np.float32(255)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))


def write_picture(
    path: str | os.PathLike[str], image: Picture, metadata: Metadata = NO_METADATA
) -> None:
    """Write a picture in the format its suffix names: PNG, or JPEG or WebP at quality 95.

    The file appears under its name complete or not at all, and the same picture always gives the
    same bytes.

    Parameters
    ----------
    path : str or path-like
        Ends in one of `PICTURE_SUFFIXES`, in any case. An existing file is replaced.
    image : ndarray, uint8 [H,W,3]
        RGB.
    metadata : Metadata
        What the file is to carry beside the pixels, as `Original.metadata` has it.

    Raises
    ------
    PictureError
        Another suffix, a folder that does not exist, a picture too large for the format, or a file
        that cannot be written.
    """
    path = Path(path)
    encoded = encode_picture(path, image, metadata)
    if not path.parent.is_dir():
        raise PictureError(
            f"cannot write {path}: there is no folder {path.parent}; create it first"
        )
    write_atomically(path, encoded, PictureError)


def encode_picture(path: Path, image: Picture, metadata: Metadata = NO_METADATA) -> bytes:
    """Encode a picture in the format that the suffix of a path names; nothing is written.

    Raises
    ------
    PictureError
        Another suffix, or a picture too large for the format.
    """
    image = check_picture(image)
    suffix = path.suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        raise PictureError(
            f"cannot write {path}: its name must end in one of {', '.join(PICTURE_SUFFIXES)}"
        )
    if max(image.shape) > longest_side(path):
        raise PictureError(
            f"cannot write {path}: WebP holds at most {_WEBP_MAX_SIDE} pixels a side; use .png"
        )
    from .opencv import cv2

    settings = {
        ".png": [],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, _QUALITY],
    }.get(suffix, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg" if suffix == ".jfif" else suffix, bgr, settings)
    return embed(bytes(encoded), metadata)


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Set pictures in a row on white, with a small gap between them.

    Parameters
    ----------
    pictures : sequence of ndarray, uint8 [H,W,3]
        At least one; lower ones are scaled up to the height of the highest.

    Returns
    -------
    ndarray, uint8 [H',W',3]
        A new array.
    """
    height = max(picture.shape[0] for picture in pictures)
    gap = np.full((height, gap_beside(height), 3), 255, np.uint8)
    row: list[Picture] = []
    for picture in pictures:
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        row += [resize_bilinear(picture, (height, width)), gap]
    return np.concatenate(row[:-1], axis=1)


def gap_beside(height: int) -> int:
    """Pixels between pictures of this height that are set beside each other."""
    return max(2, height // 64)


def longest_side(path: Path) -> int:
    """Pixels that a side has at most in the format that the suffix of a path names."""
    return _WEBP_MAX_SIDE if path.suffix.lower() == ".webp" else MAX_SIDE


def _to_rgb(pixels: NDArray[Any], file: PictureFile) -> Picture:
    """OpenCV's [H,W] or [H,W,3 or 4] (BGR, BGRA) of 8 or 16 bits as uint8 RGB over white."""
    if pixels.ndim == 2:
        if file.transparent_grey is not None:  # OpenCV reads grey PNGs without their transparency
            pixels[pixels == file.transparent_grey] = np.iinfo(pixels.dtype).max
        return np.repeat(_to_8_bits(pixels)[..., None], 3, axis=2)
    levels = _to_8_bits(pixels)
    colours = levels[..., 2::-1]
    if levels.shape[2] == 3 or file.alpha == NO_ALPHA:
        return colours
    alpha = levels[..., 3:].astype(np.uint16)
    if file.alpha == PREMULTIPLIED:
        lightened: NDArray[np.uint16] = np.minimum(colours + (255 - alpha), 255)
        return lightened.astype(np.uint8)
    # At most 255 * 255 + 127, which fits 16 bits.
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _to_8_bits(values: NDArray[Any]) -> Picture:
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) + 128) // 257  # the nearest level: 65535 / 255 = 257
    return values.astype(np.uint8, copy=False)


def upright(picture: Picture, orientation: int) -> Picture:
    """Undo an EXIF orientation (1 to 8); the result is C-contiguous."""
    if orientation >= 5:
        picture = picture.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)
