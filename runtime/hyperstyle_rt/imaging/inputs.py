"""Pictures as callers hold them: paths, bytes, open files, PIL images, arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PictureError
from ..types import Picture
from .metadata import Metadata
from .pictures import Original, check_picture, decode_picture, read_picture, upright

MAX_FILE_BYTES = 1 << 29  # of an open file; no compressed picture is larger

_UNNAMED = Path("the picture")  # what errors call a picture without a name
_ORIENTATION = 0x0112  # EXIF tag
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")  # modes of PIL images

_KINDS = (
    "a path, the bytes of a picture file, an open binary file, a PIL image, or a uint8 array "
    "[height, width, 3]"
)


def as_picture(source: Any) -> Picture:
    """Make a picture of whatever a caller holds.

    Parameters
    ----------
    source:
        - str or path-like: a file, see :func:`read_picture`;
        - bytes, or an open binary file, which is read to its end: the content of such a file;
        - a PIL image of any mode: its EXIF orientation is applied, transparency laid over white
          and its colour profile followed, as for files;
        - an array, or anything numpy takes for one, such as a PyTorch tensor on the CPU: uint8,
          [H,W] or [H,W,1] grey, [H,W,3] RGB, [H,W,4] RGBA, which is laid over white. Floats are
          refused: whether they run from 0 to 1 or from -1 to 1 cannot be told from all of them.

    Returns
    -------
    uint8 [H,W,3], RGB, C-contiguous; an array that is one already is not copied.

    Raises
    ------
    PictureError
        If it is something else, or cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return read_picture(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decoded(bytes(source))
    if callable(getattr(source, "read", None)):
        return _decoded(_content(source))
    if callable(getattr(source, "getexif", None)) and hasattr(source, "mode"):
        return _of_pil(source)
    return _of_array(_array(source))


def _decoded(data: bytes) -> Picture:
    if not data:
        raise PictureError(f"{_UNNAMED} is empty; give the content of a picture file")
    return decode_picture(data, _UNNAMED)


def _content(file: Any) -> bytes:
    """Everything from where an open file is."""
    try:
        data = file.read(MAX_FILE_BYTES + 1)
    except UnicodeDecodeError:  # which no file of a picture is spared
        data = None
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise PictureError(f"cannot read the picture ({error}); open its file again") from None
    if not isinstance(data, bytes):
        raise PictureError("the picture's file is open as text; open it in binary mode, 'rb'")
    if len(data) > MAX_FILE_BYTES:
        raise PictureError("the file is too large for a picture; give another one")
    return data


def _of_pil(image: Any) -> Picture:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        if image.mode.startswith("I;16"):
            pixels = _to_8_bits(np.asarray(image))
        elif image.mode in ("I", "F"):  # of any range
            raise ValueError(f"its mode is {image.mode!r}")
        elif image.mode in _WITH_ALPHA or "transparency" in image.info:
            pixels = np.asarray(image.convert("RGBA"))
        else:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise PictureError(
            f"the PIL image cannot be used ({error}); open its file again, or convert it to RGB"
        ) from None
    picture = upright(_of_array(pixels), orientation if orientation in range(1, 9) else 1)
    return Original(picture, Metadata(icc=image.info.get("icc_profile"))).picture()


def _to_8_bits(values: np.ndarray[Any, Any]) -> Picture:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _array(source: Any) -> np.ndarray[Any, Any]:
    if isinstance(source, np.ndarray):
        return source
    if not any(hasattr(source, name) for name in ("__array__", "__array_interface__")):
        raise PictureError(f"a picture must be {_KINDS}, not {type(source).__name__}")
    try:
        return np.asarray(source)
    except Exception as error:  # every library has its own
        raise PictureError(
            f"numpy cannot read the {type(source).__name__} as an array "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); give a uint8 "
            "array [height, width, 3] in the memory of the CPU"
        ) from None


def _of_array(array: np.ndarray[Any, Any]) -> Picture:
    if array.dtype.kind == "f":
        raise PictureError(
            f"a picture must be uint8 with values 0 to 255, not {array.dtype}; scale, round and "
            "convert it, (255 * x).round().astype('uint8') for values from 0 to 1 and "
            "(127.5 * (x + 1)).round().astype('uint8') for values from -1 to 1"
        )
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        raise PictureError(
            f"a picture must have the shape [height, width, 3], not {list(array.shape)}; move its "
            "channels to the last axis"
        )
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 4:
        array = _over_white(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return check_picture(array)


def _over_white(pixels: np.ndarray[Any, Any]) -> Picture:
    """RGBA over white, rounded to the nearest level."""
    alpha = pixels[..., 3:].astype(np.uint16)
    # At most 255 * 255 + 127, which fits 16 bits.
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
