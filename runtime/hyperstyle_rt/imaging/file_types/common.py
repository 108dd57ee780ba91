"""What the walkers of all formats share: their result, their limits, their sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import PictureError
from ..metadata import NO_METADATA, Metadata

# 108 megapixels, the largest common camera, fits; as RGB this is 360 MB. The side is libjpeg's.
MAX_PIXELS = 120_000_000
MAX_SIDE = 65_500

SAVE_AS = "save it as PNG or JPEG first"

STRAIGHT, PREMULTIPLIED, NO_ALPHA = "straight", "premultiplied", "none"

Decode = Callable[[], "NDArray[Any] | None"]


@dataclass(frozen=True)
class PictureFile:
    """A whole file of a known format whose size is within the limit.

    Attributes
    ----------
    data : bytes
        What OpenCV is given: the file, or the parts that the pixels depend on.
    height, width : int
        Stored size in pixels, before the orientation is applied.
    orientation : int
        1 to 8, as EXIF counts them; 1 is upright.
    transparent_grey : int or None
        The grey level that stands for "transparent" in a grey PNG, as the decoder returns it.
    alpha : str
        What a fourth channel of the decoder's is: `STRAIGHT`, `PREMULTIPLIED`, or `NO_ALPHA`.
    metadata : Metadata
        What the file carries beside the pixels.
    decode : callable or None
        Decodes where OpenCV's plain call would not do: to [H,W] or to [H,W,3 or 4] (BGR, BGRA), 8
        or 16 bits; None from it means damaged.
    note : str or None
        What a user should know about the file although it can be read.
    """

    data: bytes
    height: int
    width: int
    orientation: int = 1
    transparent_grey: int | None = None
    alpha: str = STRAIGHT
    metadata: Metadata = NO_METADATA
    decode: Decode | None = None
    note: str | None = None


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


def cut_short(path: Path) -> PictureError:
    """The error for a file that ends too early."""
    return PictureError(f"{path} is cut short; copy or download it again")


def damaged(path: Path) -> PictureError:
    """The error for a file that contradicts itself."""
    return PictureError(f"{path} is damaged; copy or download it again")


def animated(path: Path) -> PictureError:
    """The error for a file of several pictures where none is the picture."""
    return PictureError(f"{path} is an animation; save the frame you want as PNG or JPEG first")


def unusual(path: Path, what: str) -> PictureError:
    """The error for a rare kind of a known format."""
    return PictureError(f"{path} is {what}, which is not read here; {SAVE_AS}")
