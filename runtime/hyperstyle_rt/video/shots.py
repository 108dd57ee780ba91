"""Where a film cuts from one shot to the next: where its colours change."""

from __future__ import annotations

import numpy as np

from ..types import Doubles, Picture

ANOTHER_SHOT = 0.5
"""Less than this share in common: two frames are of two shots. What moves keeps its colours."""

SAME_SHOT = 0.8
"""At least this share in common: they are of one shot. Between the two, the faces decide."""

_THUMBNAIL = (64, 36)
_LEVELS = 8  # of each colour, in the histogram


class Colours:
    """Compares the colours of every frame with those of the frame before."""

    def __init__(self) -> None:
        self._before: Doubles | None = None

    def in_common(self, picture: Picture) -> float:
        """Share of pixels that a frame, uint8 [H,W,3], has in common with the last, by colour.

        Of the first frame 0.
        """
        now, before = _histogram(picture), self._before
        self._before = now
        return 0.0 if before is None else float(np.minimum(now, before).sum())


def _histogram(picture: Picture) -> Doubles:
    """Shares of the picture's pixels, by colour: float64 [_LEVELS ** 3]."""
    from ..imaging.opencv import cv2

    small = cv2.resize(picture, _THUMBNAIL, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    levels = small.astype(np.int64) * _LEVELS // 256
    colours = levels @ np.array([_LEVELS * _LEVELS, _LEVELS, 1])
    return np.bincount(colours, minlength=_LEVELS**3) / len(colours)
