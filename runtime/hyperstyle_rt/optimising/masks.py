"""Which part of a picture a descent looks at."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import HyperStyleError
from ..formats.manifest import Manifest
from ..imaging.inputs import as_picture
from ..imaging.pictures import to_input
from ..inverting.preparing import looks_for_faces
from ..types import Array, Picture

FACE = "face"
"""In place of a picture: the face that is found in what is inverted."""

MASKED_PRESETS = ("hybrid",)
"""Those that make no sense without a mask."""


def mask_of(mask: Any | None, picture: Picture, preset: str, manifest: Manifest) -> Array | None:
    """The mask a caller means.

    Parameters
    ----------
    mask:
        A picture as `as_picture` takes it, :data:`FACE`, or None.
    picture:
        uint8 [H,W,3], what is inverted.

    Returns
    -------
    float32 [H,W] in [0,1], of the rendering's size; None for the whole picture.

    Raises
    ------
    PictureError
        If the mask cannot be read, or no face is found.
    HyperStyleError
        If the preset needs one, and none is given for a bundle that is not for faces.
    """
    if mask is None and preset in MASKED_PRESETS:
        if not looks_for_faces(manifest, "auto"):
            raise HyperStyleError(
                f"{preset!r} treats what is inside a mask and what is outside differently; give a "
                "picture of the mask: white is inside, black outside"
            )
        mask = FACE
    if mask is None:
        return None
    if isinstance(mask, str) and mask == FACE:
        from ..photos.masks import face_mask

        levels = np.round(face_mask(picture) * 255).astype(np.uint8)
        mask = np.repeat(levels[..., None], 3, axis=2)
    planes = to_input(as_picture(mask), manifest.image_size)[0]
    return np.asarray((planes.mean(0) + 1) / 2, np.float32)
