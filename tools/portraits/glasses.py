"""A pair of glasses in front of any eyes."""

from __future__ import annotations

import numpy as np
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from .factors import Person

AROUND, TUBE = 28, 5  # points of a rim, and of its cross-section
THICKNESS = 0.016  # radius of the frame, decimetres


def frame(person: Person, points: Array, eyes: Array) -> tuple[Array, NDArray[np.int32]]:
    """Frame vertices [G, 3] and triangles [H, 3] for an unposed head [V, 3] and eyes [2, 3]."""
    vertices: list[NDArray[np.float64]] = []
    triangles: list[list[int]] = []
    radius = person["glasses_size"]
    temple_x = 0.92 * np.abs(points[(points[:, 1] > 7) & (points[:, 1] < 7.5), 0]).max()
    front = eyes[:, 2].max() + 0.13
    for eye in eyes:
        side = np.sign(eye[0])
        centre = np.array([eye[0] + 0.03 * side, eye[1] - 0.03, front])
        ring = _rim(centre, side, radius, person["glasses_square"])
        _tube(ring, centre, vertices, triangles)
        hinge = ring[0] if side > 0 else ring[AROUND // 2]
        ear = np.array([side * temple_x, hinge[1] + 0.02, 0.1])
        _ribbon([hinge, ear], vertices, triangles)
    bridge = [
        np.array([eye[0] - np.sign(eye[0]) * radius, eye[1] + 0.02, front + 0.02]) for eye in eyes
    ]
    middle = (bridge[0] + bridge[1]) / 2 + [0, 0.03, 0.04]
    _ribbon([bridge[0], middle, bridge[1]], vertices, triangles)
    return np.array(vertices, np.float32), np.array(triangles, np.int32)


def _rim(
    centre: NDArray[np.float64], side: float, radius: float, square: float
) -> NDArray[np.float64]:
    """A superellipse around one eye [AROUND, 3]."""
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    reach = (np.abs(cos) ** square + np.abs(sin) ** square) ** (-1 / square)
    x, y = reach * cos * radius * 1.08, reach * sin * radius * 0.85
    back = -0.12 * np.maximum(0, x * side) ** 1.5
    return centre + np.stack([x, y, back], 1)


def _tube(
    ring: NDArray[np.float64],
    centre: NDArray[np.float64],
    vertices: list[NDArray[np.float64]],
    triangles: list[list[int]],
) -> None:
    first = len(vertices)
    for point in ring:
        out = (point - centre) / np.linalg.norm(point - centre)
        for angle in np.linspace(0, 2 * np.pi, TUBE, endpoint=False):
            offset = out * np.cos(angle) + np.array([0, 0, 1]) * np.sin(angle)
            vertices.append(point + THICKNESS * offset)
    for k in range(AROUND):
        here, there = first + k * TUBE, first + (k + 1) % AROUND * TUBE
        for m in range(TUBE):
            n = (m + 1) % TUBE
            triangles.append([here + m, here + n, there + m])
            triangles.append([here + n, there + n, there + m])


def _ribbon(
    path: list[NDArray[np.float64]],
    vertices: list[NDArray[np.float64]],
    triangles: list[list[int]],
) -> None:
    first, half_height = len(vertices), np.array([0, 0.022, 0])
    for point in path:
        vertices += [point + half_height, point - half_height]
    for k in range(len(path) - 1):
        a = first + 2 * k
        triangles += [[a, a + 1, a + 2], [a + 1, a + 3, a + 2]]
