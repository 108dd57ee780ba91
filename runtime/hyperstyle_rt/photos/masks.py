"""Masks of faces, for what treats a face and its surroundings differently."""

from __future__ import annotations

import numpy as np

from ..errors import PictureError
from ..types import Array, Picture
from .faces import find_prominent_faces

WIDENED = 1.15  # the box of a face's mesh ends at the eyebrows' edge
EDGE = 0.15  # width of the soft edge, of the ellipse's radius


def face_mask(picture: Picture) -> Array:
    """An ellipse over the largest face of a picture, with a soft edge.

    Parameters
    ----------
    picture:
        uint8 [H,W,3] RGB.

    Returns
    -------
    float32 [H,W], 1 inside and 0 outside.

    Raises
    ------
    PictureError
        If no face is found.
    """
    faces = find_prominent_faces(picture)
    if not faces:
        raise PictureError(
            "no face is found to make a mask of; give a picture of the mask: white counts, black "
            "does not"
        )
    face = max(faces, key=lambda each: float(np.prod(each.box[2:] - each.box[:2])))
    centre, radii = (face.box[2:] + face.box[:2]) / 2, (face.box[2:] - face.box[:2]) / 2 * WIDENED
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    distance = np.hypot((columns - centre[0]) / radii[0], (rows - centre[1]) / radii[1])
    mask = np.clip((1 + EDGE / 2 - distance) / EDGE, 0, 1)
    return np.asarray(mask * mask * (3 - 2 * mask), np.float32)
