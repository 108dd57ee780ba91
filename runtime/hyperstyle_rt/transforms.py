"""Motions of the pictures of a generator whose input can be moved: StyleGAN3's."""

from __future__ import annotations

import numpy as np

from .errors import InversionError
from .types import Array, Floats


def unaligned_transform(photo_to_crop: Floats) -> Array:
    """The motion that turns a face as it is in the photo that its aligned crop was cut out of.

    The picture that is made so shows what an upright crop of the photo shows: one of the same
    centre and side as the aligned one, as the repository stylegan3-editing inverts unaligned
    photos.

    Parameters
    ----------
    photo_to_crop:
        [3,3], ``inversion.data.transform``: from pixels of the photo to pixels of the crop.

    Returns
    -------
    float32 [3,3], for ``model.render(inversion, transform=...)``.

    Raises
    ------
    InversionError
        If it is no such transform.
    """
    transform = np.asarray(photo_to_crop, np.float64)
    if transform.shape != (3, 3) or not np.isfinite(transform).all():
        raise InversionError("the transform from the photo to the crop is no matrix [3,3]")
    # A crop is a square, so that the transform is a turn and a scale: [[a, -b], [b, a]].
    a = transform[0, 0] + transform[1, 1]
    b = transform[1, 0] - transform[0, 1]
    length = np.hypot(a, b)
    if not length > 0:
        raise InversionError(
            "the transform from the photo to the crop is damaged; align the photo again"
        )
    cosine, sine = a / length, b / length
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float32)


def as_transforms(transform: Floats | None, count: int) -> Array | None:
    """One transform [3,3], or one for each of `count` pictures, as float32 [1 or N,3,3].

    Raises
    ------
    InversionError
        If they are of another shape, not finite, or not affine.
    """
    if transform is None:
        return None
    given = np.asarray(transform, np.float32)
    motions = given[None] if given.ndim == 2 else given
    if motions.shape not in {(1, 3, 3), (count, 3, 3)}:
        wanted = "[3,3]" if count == 1 else f"[3,3] or [{count},3,3]"
        raise InversionError(f"a transform must be {wanted}, not {list(given.shape)}")
    if not np.isfinite(motions).all() or (motions[:, 2] != (0, 0, 1)).any():
        raise InversionError("a transform must be finite, with a last row of 0, 0, 1")
    return motions
