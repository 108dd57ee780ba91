"""Rendered faces with known points, and photos made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from hyperstyle_rt.imaging.pictures import read_picture
from hyperstyle_rt.types import Picture
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("portraits")
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """A picture of one face, and the points [4,2] of its eyes and the corners of its mouth."""

    picture: Picture
    points: Array


def known_faces() -> list[Known]:
    """The renderings of `tests/runtime/portraits`: about aligned, 256 pixels a side."""
    points = json.loads((FOLDER / "landmarks.json").read_text())
    return [
        Known(read_picture(FOLDER / name), np.array(points[name], np.float64))
        for name in sorted(points)
    ]


def in_a_photo(
    face: Known, size: tuple[int, int], centre: Array, side: float, turn: float
) -> Known:
    """Lay a face into a grey photo of (height, width), turned by `turn` degrees."""
    pixels = face.picture.shape[0]
    angle = np.radians(turn)
    scale = side / pixels
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = centre - matrix @ np.full(2, (pixels - 1) / 2)
    photo = cv2.warpAffine(
        face.picture,
        np.column_stack([matrix, offset]),
        size[::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(128, 128, 128),
    )
    return Known(photo, face.points @ matrix.T + offset)
