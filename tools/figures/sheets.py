"""Contact sheets with headings."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from hyperstyle_rt.types import Picture

HEADER, INDENT, BASELINE, TEXT = 18, 4, 13, 0.4  # at pictures of 128 pixels
REFERENCE_WIDTH = 128


def headed_sheet(headings: Sequence[str], rows: Sequence[Sequence[Picture]]) -> Picture:
    """Rows of pictures of one size under the headings of their columns.

    Parameters
    ----------
    headings:
        One a column.
    rows:
        uint8 [h,w,3], as many a row as there are headings.
    """
    body = np.concatenate([np.concatenate(row, 1) for row in rows])
    width = rows[0][0].shape[1]
    scale = width / REFERENCE_WIDTH
    heading = np.full((round(HEADER * scale), body.shape[1], 3), 255, np.uint8)
    for column, text in enumerate(headings):
        place = (round(column * width + INDENT * scale), round(BASELINE * scale))
        cv2.putText(
            heading,
            text,
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            TEXT * scale,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return np.concatenate([heading, body])
