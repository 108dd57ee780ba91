"""Portraits in photos: found, cut out as aligned crops, and set back in (docs/spec.md, section 7).

The networks were trained on crops aligned by the FFHQ recipe. A photo straight from a camera is
none; here its faces become such crops, with the transform that leads back.

Transforms map pixels (x, y, 1) to pixels, where whole numbers are the centres of pixels, x to the
right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError
from ..imaging import resampling
from ..imaging.pictures import Original, check_picture, resize_bilinear
from ..types import Doubles, Picture
from .alignment import align, padding, quadrilateral
from .faces import Face, find_faces, find_prominent_faces

CROP_SIDE = 1024
"""Side of the crops the official models were trained and tested with."""

LARGEST, ALL = "largest", "all"

FEATHER = 0.12
"""Width of the seam of a pasted picture, in its sides: in it the mask rises from 0 to 1."""

Transform = NDArray[np.floating]
T = TypeVar("T")

_ALIGNED = (
    0.1  # of the side: how far an aligned crop's corners may lie from where aligning has them
)
_ROWS = 256  # of the photo, pasted at once


@dataclass(frozen=True, eq=False)
class Portrait:
    """A face of a photo as an aligned crop.

    Attributes
    ----------
    crop:
        uint8 [S,S,3] RGB; `Model.invert` takes it as it is.
    transform:
        float64 [3,3], from pixels of the photo to pixels of the crop.
    score:
        Of the detector, 0 to 1.
    box:
        float64 [4]: left, top, right, bottom of the face in pixels of the photo; may stick out.
    landmarks:
        float64 [4,2]: (x, y) of the left eye, the right eye and the left and the right corner of
        the mouth in the photo; left and right as the viewer sees them.
    """

    crop: Picture
    transform: Doubles
    score: float
    box: Doubles
    landmarks: Doubles

    def transform_to(self, side: int) -> Doubles:
        """Give the transform to pixels of a picture of the crop with another side.

        What is stored in an inversion and handed to :func:`paste` is the transform to the picture
        that the model renders: ``portrait.transform_to(manifest.resolution)``.
        """
        return _scaled(self.transform, side / self.crop.shape[0])


def find_portraits(
    photo: Picture, size: int = CROP_SIDE, which: str | int = ALL
) -> tuple[Portrait, ...]:
    """Find the faces of a photo and align them.

    Parameters
    ----------
    photo:
        uint8 [H,W,3] RGB, upright (`read_picture` sees to that).
    size:
        Side of the crops. Smaller crops than `CROP_SIDE` are made at that size and then resized as
        HyperStyle resizes its inputs, so the default loses nothing.
    which:
        The faces to align, as in :func:`choose_portraits`.

    Returns
    -------
    One per face, the largest first.

    Raises
    ------
    PictureError
        No face was found, or none of that number; the sentence says what to try.
    """
    photo = check_picture(photo)
    faces = _faces(photo, which)
    if not faces:
        raise PictureError(
            "no face was found; try a photo with a larger, upright face that is not turned away, "
            "or, if the picture is an aligned crop already, use it as it is (--align never)"
        )
    return tuple(_portrait(photo, face, size) for face in choose_portraits(faces, which))


def choose_portraits(portraits: Sequence[T], which: str | int) -> tuple[T, ...]:
    """Choose among the faces or portraits of a photo: the meaning of ``--face``.

    Parameters
    ----------
    portraits:
        The largest first, as :func:`find_portraits` gives them.
    which:
        ``largest``, ``all``, or a number from 0 (the largest), also as text.

    Raises
    ------
    PictureError
        If ``which`` is something else, or a number the photo has no face for.
    """
    if which == ALL:
        return tuple(portraits)
    text = "0" if which == LARGEST else str(which)
    if not (text.isascii() and text.isdecimal()):
        raise PictureError(
            f"the face must be {LARGEST}, {ALL} or a number from 0 (the largest), not {which!r}"
        )
    if len(text) > 9 or int(text) >= len(portraits):
        count = f"{len(portraits)} face{'s' if len(portraits) != 1 else ''}"
        raise PictureError(
            f"there is no face {which} in the photo, which has {count}; numbers count from 0"
        )
    return (portraits[int(text)],)


def portraits_to_invert(
    photo: Picture, which: str | int = LARGEST
) -> tuple[tuple[Portrait, ...], str | None]:
    """Decide what to invert of a picture that may be aligned already: ``--align auto``.

    Returns
    -------
    portraits:
        The chosen faces (:func:`choose_portraits`); empty if the picture is to be used as it is.
    notice:
        A sentence for the user where that is because no face was found, else None: None with no
        portraits means that the picture is an aligned crop.

    Raises
    ------
    PictureError
        If the photo has faces, but not the chosen one.
    """
    photo = check_picture(photo)
    faces = _faces(photo, which)
    if not faces:
        return (), "no face was found, so the picture is used as it is, as an aligned crop"
    chosen = choose_portraits(faces, which)
    if chosen[0] is faces[0] and _is_aligned(photo, faces[0]):
        return (), None
    return tuple(_portrait(photo, face, CROP_SIDE) for face in chosen), None


def paste(photo: Picture, transform: Transform, picture: Picture) -> Picture:
    """Set a rendered crop back into its photo, at the photo's full resolution.

    The mask is 0 at the edge of the crop, and where aligning has blurred the photo because the crop
    sticks out of it.

    Parameters
    ----------
    photo:
        uint8 [H,W,3] RGB, the one the portrait was found in.
    transform:
        [3,3], from pixels of the photo to pixels of ``picture``: `Portrait.transform_to`, or the
        ``transform`` of an inversion.
    picture:
        uint8 [h,w,3] RGB.

    Returns
    -------
    uint8 [H,W,3], a new array. Where the feathered mask is 0 it has the photo's very bytes.

    Raises
    ------
    PictureError
        If the transform cannot be inverted, or leads to no pixel of the photo.
    """
    photo, picture = check_picture(photo), check_picture(picture)
    to_picture = np.asarray(transform, np.float64)
    (a, b), (c, d) = to_picture[:2, :2]
    scale = np.sqrt(abs(a * d - b * c))  # pixels of the picture per pixel of the photo
    if not (np.isfinite(to_picture).all() and scale > 1e-6):
        raise PictureError("the transform from the photo to the crop is damaged; align it again")
    if scale > 1:  # else sampling would skip pixels
        height, width = (max(1, round(n / scale)) for n in picture.shape[:2])
        to_picture = _scaled(to_picture, width / picture.shape[1])
        picture = resampling.resize(picture, (height, width), resampling.LANCZOS)
    quad = _quad(to_picture, picture)
    (left, top), (right, bottom) = _extent(photo, quad)
    if left >= right or top >= bottom:
        raise PictureError(
            "the crop lies outside this photo; give the photo that the crop was made of"
        )
    result = photo.copy()
    ramps = _edge_ramps(photo, quad)
    for row in range(top, bottom, _ROWS):
        rows, columns = slice(row, min(row + _ROWS, bottom)), slice(left, right)
        mask = ramps[1][rows, None] * ramps[0][columns]
        _blend(result[rows, columns], to_picture @ _shift(left, row), picture, mask)
    return result


def paste_into(original: Original, transform: Transform, picture: Picture) -> Original:
    """Set a rendered crop back into its photo, in the photo's own colour space.

    Parameters
    ----------
    original:
        The photo as :func:`~hyperstyle_rt.imaging.pictures.read_original` gives it.
    transform:
        As of :func:`paste`.
    picture:
        uint8 [h,w,3], sRGB; it is converted, the photo is not.

    Returns
    -------
    The photo with its metadata, to be written by ``write_picture(path, .stored, .metadata)``; where
    the mask is 0, it has the photo's very bytes.

    Raises
    ------
    PictureError
        As :func:`paste`.
    """
    space = original.space
    if space is not None:
        picture = space.from_srgb(check_picture(picture))
    return replace(original, stored=paste(original.stored, transform, picture))


def _faces(photo: Picture, which: str | int) -> list[Face]:
    """The faces among which to choose; the small ones only where they may be meant."""
    if str(which) in (LARGEST, "0"):
        return find_prominent_faces(photo)
    return find_faces(photo)


def _portrait(photo: Picture, face: Face, size: int) -> Portrait:
    crop, transform = align(photo, quadrilateral(face.points), max(size, CROP_SIDE))
    if size < CROP_SIDE:
        crop, transform = resize_bilinear(crop, (size, size)), _scaled(transform, size / CROP_SIDE)
    return Portrait(crop, transform, face.score, face.box, face.points)


def _is_aligned(photo: Picture, face: Face) -> bool:
    """Whether the picture is about the square that aligning would cut out of it."""
    height, side = photo.shape[:2]
    whole = np.array([[0, 0], [0, side], [side, side], [side, 0]]) - 0.5
    off = np.hypot(*(quadrilateral(face.points) - whole).T).mean()
    return height == side and bool(off < _ALIGNED * side)


def _scaled(transform: Doubles, factor: float) -> Doubles:
    """The transform to a picture resized by `factor`, which keeps edges of pixels, not centres."""
    resize = np.diag([factor, factor, 1.0])
    resize[:2, 2] = (factor - 1) / 2
    return resize @ transform


def _shift(x: int, y: int) -> Doubles:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _quad(to_picture: Doubles, picture: Picture) -> Doubles:
    """The corners of the picture in the photo, in the order of `alignment.quadrilateral`."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]]) - 0.5
    to_photo = np.linalg.inv(to_picture)
    return np.asarray(corners @ to_photo[:2, :2].T + to_photo[:2, 2])


def _extent(photo: Picture, quad: Doubles) -> NDArray[np.int64]:
    """[[left, top], [right, bottom]] of the photo's pixels that the picture may reach."""
    low = np.clip(np.floor(quad.min(axis=0)), 0, photo.shape[1::-1])
    high = np.clip(np.ceil(quad.max(axis=0)) + 1, 0, photo.shape[1::-1])
    return np.array([low, high]).astype(np.int64)


def _edge_ramps(photo: Picture, quad: Doubles) -> tuple[Doubles, Doubles]:
    """Masks [W] and [H] that keep to what aligning has not blurred at the photo's edges."""
    size = np.array(photo.shape[1::-1])
    side = float(np.hypot(*(quad[3] - quad[0])))
    before, after = padding(size, quad, side)
    ramps = []
    for length, *added in zip(size, before, after, strict=True):
        ramp = np.ones(length)
        for distance, width in zip(
            (np.arange(length), np.arange(length)[::-1]), added, strict=True
        ):
            if width:  # of which a third is blurred; a little more, for shrunk photos
                ramp *= _smooth((distance - width / 3 - 0.01 * side) / (FEATHER * side))
        ramps.append(ramp)
    return ramps[0], ramps[1]


def _smooth(share: Doubles) -> Doubles:
    """Rise from 0 to 1 without corners."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def _blend(part: Picture, to_picture: Doubles, picture: Picture, mask: Doubles) -> None:
    """Lay the picture over a part of the photo, in place, where mask [h,w] and its seam let it."""
    from ..imaging.opencv import cv2

    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    for line, length in zip(to_picture[:2], picture.shape[1::-1], strict=True):
        place = (line[0] * columns + line[1] * rows + line[2] + 0.5) / length  # 0 to 1 inside
        mask = mask * _smooth(np.minimum(place, 1 - place) / FEATHER)
    sampled = cv2.warpAffine(
        picture.astype(np.float32),
        to_picture[:2],
        part.shape[1::-1],
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    shares = mask[..., None]
    mixed = part + (sampled - part) * shares
    part[:] = np.where(shares > 0, np.clip(np.rint(mixed), 0, 255), part)
