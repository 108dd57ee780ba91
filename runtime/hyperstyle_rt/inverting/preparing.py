"""What is inverted of a picture: all of it, or its faces, cut out and aligned.

The networks of a bundle for faces were trained on crops aligned by the FFHQ recipe. This is the one
place where it is decided whether a picture is such a crop already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import HyperStyleError
from ..formats.manifest import Manifest
from ..imaging.inputs import as_picture
from ..types import Array, Picture

if TYPE_CHECKING:
    from ..photos.portraits import Portrait

Align = Literal["auto", "always", "never"]
"""When pictures are searched for faces that are then cut out and aligned.

``auto``: where the bundle is for faces and the picture is not aligned already; a picture without a
face is then used as it is, with a notice.
"""

_DOMAINS_OF_FACES = {"face", "faces", "ffhq"}


@dataclass(frozen=True, eq=False)
class Crop:
    """What is inverted of a picture.

    Attributes
    ----------
    picture:
        uint8 [H,W,3] RGB.
    transform:
        float32 [3,3], from pixels (x, y, 1) of the photo to pixels of a rendering of this bundle;
        None where the picture was taken as it is.
    """

    picture: Picture
    transform: Array | None = None


def looks_for_faces(manifest: Manifest, align: str) -> bool:
    """Whether pictures are searched for faces: as `align` says, and by the bundle's domain.

    Raises
    ------
    HyperStyleError
        If there is no such way to align.
    """
    if align not in get_args(Align):
        raise HyperStyleError(f"align must be {', '.join(get_args(Align))}, not {align!r}")
    if align == "auto":
        return bool(_DOMAINS_OF_FACES & set(manifest.domain.lower().split()))
    return align == "always"


def crops_of(
    picture: Picture, manifest: Manifest, align: str = "auto", face: str | int = "largest"
) -> tuple[tuple[Crop, ...], str | None]:
    """Decide what to invert of a picture.

    Parameters
    ----------
    picture:
        uint8 [H,W,3] RGB, upright.
    align:
        One of :data:`Align`.
    face:
        ``largest``, ``all``, or a number from 0, the largest.

    Returns
    -------
    crops:
        At least one.
    notice:
        A sentence for the user where no face was found, else None.

    Raises
    ------
    PictureError
        If there is no face where one is wanted, or not the one that was chosen.
    HyperStyleError
        If there is no such way to align.
    """
    whole = (Crop(picture),)
    if not looks_for_faces(manifest, align):
        return whole, None
    from ..photos.portraits import find_portraits, portraits_to_invert

    if align == "always":
        portraits, notice = find_portraits(picture, which=face), None
    else:
        portraits, notice = portraits_to_invert(picture, face)
    crops = tuple(crop_of_portrait(portrait, manifest) for portrait in portraits)
    return crops or whole, notice


def crop_of_portrait(portrait: Portrait, manifest: Manifest) -> Crop:
    """The crop of a face that was found and aligned."""
    transform = portrait.transform_to(manifest.resolution)
    return Crop(portrait.crop, transform.astype(np.float32))


def one_crop(
    source: Any, manifest: Manifest, align: str = "auto", face: str | int = "largest"
) -> tuple[Crop, str | None]:
    """Like :func:`crops_of`, for one face of whatever a caller holds.

    Parameters
    ----------
    source:
        A :class:`Crop` or a `Portrait`, which are taken as they are; else see
        :func:`~hyperstyle_rt.imaging.inputs.as_picture`.

    Raises
    ------
    HyperStyleError
        Also if `face` asks for all.
    """
    if isinstance(source, Crop):
        return source, None
    if hasattr(source, "transform_to"):
        return crop_of_portrait(source, manifest), None
    if face == "all":
        raise HyperStyleError(
            "one inversion is of one face; name it by largest or by a number, or invert every one "
            "of find_portraits(photo)"
        )
    crops, notice = crops_of(as_picture(source), manifest, align, face)
    return crops[0], notice
