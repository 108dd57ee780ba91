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


def crowd(size: tuple[int, int], rows: int, columns: int, width: float) -> tuple[Picture, Array]:
    """Lay many faces of `width` pixels into a photo of (height, width), tilted and a little astray.

    Returns
    -------
    photo:
        On a mottled ground.
    points:
        [N,4,2] of all faces, as of :class:`Known`.
    """
    rng = np.random.default_rng(0)
    height, length = size
    ground = rng.integers(90, 160, (height // 40, length // 40, 3)).astype(np.uint8)
    photo = cv2.resize(ground, (length, height), interpolation=cv2.INTER_CUBIC)
    faces, points = known_faces(), []
    scale = width / 145  # about the width of the renderings' faces
    half = round(256 * scale * 0.75)
    for n in range(rows * columns):
        face = faces[n % len(faces)]
        cell = np.array(
            [(n % columns + 0.5) * length / columns, (n // columns + 0.5) * height / rows]
        )
        centre = np.rint(cell + rng.uniform(-0.1, 0.1, 2) * height / rows).astype(int)
        soft = cv2.GaussianBlur(face.picture, (0, 0), max(0.1, 0.35 / scale))
        turn = rng.uniform(-12, 12)
        small = in_a_photo(
            Known(soft, face.points),
            (2 * half, 2 * half),
            np.array([half - 0.5, half - 0.5]),
            256 * scale,
            turn,
        )
        white = Known(np.full_like(face.picture, 255), face.points)
        mask = in_a_photo(
            white, (2 * half, 2 * half), np.array([half - 0.5, half - 0.5]), 256 * scale, turn
        )
        left, top = centre - half
        part = photo[top : top + 2 * half, left : left + 2 * half]
        part[:] = np.where(mask.picture > 250, small.picture, part)
        points.append(small.points + np.array([left, top]))
    return photo, np.array(points)
