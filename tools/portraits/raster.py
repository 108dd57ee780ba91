"""Triangles and hairs into depth buffers, compiled.

Screen coordinates are in pixels, x right, y down, pixel centres at .5; depth grows towards the
viewer. A buffer that nothing has been drawn into holds -inf.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


def view_axes(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Right, up and towards-the-viewer axes [3, 3] of a view from `direction` (unit, [3])."""
    right = np.cross([0.0, 1.0, 0.01], direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])


@numba.njit(cache=True)
def vertex_normals(points, triangles):
    """Unit normals [V, 3] float32 of a mesh, weighted by triangle area."""
    normals = np.zeros(points.shape, np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, vx = points[b, 0] - points[a, 0], points[c, 0] - points[a, 0]
        uy, vy = points[b, 1] - points[a, 1], points[c, 1] - points[a, 1]
        uz, vz = points[b, 2] - points[a, 2], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for v in range(normals.shape[0]):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + 1e-12
        for k in range(3):
            normals[v, k] /= length
    return normals


@numba.njit(cache=True, fastmath=True, inline="always")
def _bounds(x0, x1, x2, size):
    low = int(np.ceil(min(x0, x1, x2) - 0.5))
    high = int(np.floor(max(x0, x1, x2) - 0.5))
    return max(0, low), min(size - 1, high)


@numba.njit(cache=True)
def draw_triangles(flat, near, triangles, depth, owner, weights):
    """Draw a mesh: flat [V, 2], near [V]; depth, owner [H, W] int32 and weights [H, W, 2] change.

    weights are the barycentric coordinates of the owner's first two corners.
    """
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1 = flat[a, 0], flat[a, 1], flat[b, 0], flat[b, 1]
        x2, y2 = flat[c, 0], flat[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        left, right = _bounds(x0, x1, x2, width)
        top, bottom = _bounds(y0, y1, y2, height)
        inverse = 1.0 / area
        for j in range(top, bottom + 1):
            py = j + 0.5
            for i in range(left, right + 1):
                px = i + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inverse
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inverse
                w2 = 1 - w0 - w1
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * near[a] + w1 * near[b] + w2 * near[c]
                if z > depth[j, i]:
                    depth[j, i] = z
                    owner[j, i] = t
                    weights[j, i, 0] = w0
                    weights[j, i, 1] = w1


@numba.njit(cache=True)
def draw_depth(flat, near, triangles, depth):
    """Draw a mesh's depth only, nearest wins: flat [V, 2], near [V]; depth [H, W] changes."""
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1 = flat[a, 0], flat[a, 1], flat[b, 0], flat[b, 1]
        x2, y2 = flat[c, 0], flat[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        left, right = _bounds(x0, x1, x2, width)
        top, bottom = _bounds(y0, y1, y2, height)
        inverse = 1.0 / area
        for j in range(top, bottom + 1):
            py = j + 0.5
            for i in range(left, right + 1):
                px = i + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inverse
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inverse
                w2 = 1 - w0 - w1
                if w0 >= 0 and w1 >= 0 and w2 >= 0:
                    z = w0 * near[a] + w1 * near[b] + w2 * near[c]
                    depth[j, i] = max(depth[j, i], z)


@numba.njit(cache=True)
def draw_hairs(flat, near, colour, lengths, thickness, depth, picture):
    """Draw polylines over a picture: flat [N, K, 2], near [N, K], colour [N, K, 3].

    lengths [N] int32 says how many points each hair has (0: none); thickness in pixels, thinner
    towards the tip. depth [H, W] and picture [H, W, 3] change where a hair is nearest.
    """
    height, width = depth.shape
    for h in range(flat.shape[0]):
        for k in range(lengths[h] - 1):
            x0, y0, x1, y1 = flat[h, k, 0], flat[h, k, 1], flat[h, k + 1, 0], flat[h, k + 1, 1]
            taper = thickness * (1 - 0.5 * (k + 0.5) / lengths[h])
            half = 0.5 * taper
            steps = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
            steep = abs(y1 - y0) > abs(x1 - x0)
            for s in range(steps):
                t = (s + 0.5) / steps
                x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
                z = near[h, k] + (near[h, k + 1] - near[h, k]) * t
                across = x if steep else y
                first = int(np.ceil(across - half - 0.5))
                last = int(np.floor(across + half - 0.5))
                for q in range(first, last + 1):
                    j, i = (int(y), q) if steep else (q, int(x))
                    if i < 0 or j < 0 or i >= width or j >= height or z <= depth[j, i]:
                        continue
                    depth[j, i] = z
                    for c in range(3):
                        start = colour[h, k, c]
                        picture[j, i, c] = start + (colour[h, k + 1, c] - start) * t


@numba.njit(cache=True)
def draw_hair_depth(flat, near, lengths, depth):
    """Draw polylines' depth, one pixel thick: arguments as `draw_hairs`."""
    height, width = depth.shape
    for h in range(flat.shape[0]):
        for k in range(lengths[h] - 1):
            x0, y0, x1, y1 = flat[h, k, 0], flat[h, k, 1], flat[h, k + 1, 0], flat[h, k + 1, 1]
            steps = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
            for s in range(steps):
                t = (s + 0.5) / steps
                i, j = int(x0 + (x1 - x0) * t), int(y0 + (y1 - y0) * t)
                if 0 <= i < width and 0 <= j < height:
                    z = near[h, k] + (near[h, k + 1] - near[h, k]) * t
                    depth[j, i] = max(depth[j, i], z)
