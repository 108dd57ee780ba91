"""How a hair grows from its root, and how light falls on it, compiled.

A hair starts off the skin and along its combing, bends with combing and gravity, is drawn to the
head unless it stands, keeps off the skull and the face, and winds about its own path.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .arithmetic import clamp, polar, smooth, unit
from .light import lit_roughly, on_shadow_map

LOWEST = np.radians(128.0)  # of the hull, see `assets.Head.grid_vertices`
BELOW = 2.2  # radians down from the crown: neck rather than skull
PI_2 = 6.2832


class Style(NamedTuple):
    """The factors of a hair style, `factors.FACTORS`."""

    part: float
    comb_side: float
    comb_back: float
    lift: float
    volume: float
    gravity: float
    curl: float
    curl_rate: float
    frizz: float


@numba.njit(cache=True, fastmath=True, inline="always")
def _skull(hull, around, down):
    """The hull's distance at two angles, bilinear."""
    a = (around / np.pi + 1) * 0.5 * (hull.shape[0] - 1)
    d = (down - 0.02) / (LOWEST - 0.02) * (hull.shape[1] - 1)
    a = min(hull.shape[0] - 1.001, max(0.0, a))
    d = min(hull.shape[1] - 1.001, max(0.0, d))
    i, j = int(a), int(d)
    u, v = a - i, d - j
    above = hull[i, j] * (1 - u) + hull[i + 1, j] * u
    below = hull[i, j + 1] * (1 - u) + hull[i + 1, j + 1] * u
    return above * (1 - v) + below * v


@numba.njit(cache=True, fastmath=True, inline="always")
def _combed(style, down, side, ux, uy, uz):
    """Along the skin at u, where hair rooted `down` and on `side` of the parting is combed."""
    temple = smooth(0.8, 1.4, down)
    cx = style.comb_side * side * (1 - 0.6 * temple)
    cy = -0.25 - temple * (1 - 0.6 * clamp(style.comb_back))
    cz = -style.comb_back * (1 - 0.35 * temple)
    along = cx * ux + cy * uy + cz * uz
    return unit(cx - along * ux, cy - along * uy, cz - along * uz)


@numba.njit(cache=True, fastmath=True, inline="always")
def _kept_off(hull, centre, x, y, z, clear):
    """A point moved out of the skull, and below it out of the neck."""
    wx, wy, wz = x - centre[0], y - centre[1], z - centre[2]
    around, down, far = polar(wx, wy, wz)
    least = _skull(hull, around, down) + clear
    if down < BELOW:
        push = max(1.0, least / far)
        return centre[0] + wx * push, centre[1] + wy * push, centre[2] + wz * push
    push = max(1.0, least * 0.79 / (np.sqrt(wx * wx + wz * wz) + 1e-6))
    return centre[0] + wx * push, y, centre[2] + wz * push


@numba.njit(cache=True, fastmath=True)
def grow(start, around, down, length, points, own, style, hull, centre, line):
    """Hairs [N, K, 3] from their roots, and their depth in the hair [N, K].

    start [N, 3], around and down [N] radians, length [N] decimetres, points [N] of each hair (0:
    none), own [N, 4] numbers 0..1, style a `Style`, hull and centre see `hair`, line [N] the
    hairline at each root, degrees.
    """
    count, most = start.shape[0], points.max()
    out = np.zeros((count, most, 3), np.float32)
    depth = np.zeros((count, most), np.float32)
    for h in range(count):
        if points[h] == 0:
            continue
        x, y, z = start[h, 0], start[h, 1], start[h, 2]
        ux, uy, uz = unit(x - centre[0], y - centre[1], z - centre[2])
        parting = 0.6 * style.part * smooth(1.2, 0.3, abs(around[h]))
        side = 1.0 if ux > parting else -1.0
        cx, cy, cz = _combed(style, down[h], side, ux, uy, uz)
        rise, wild = style.lift * (0.5 + own[h, 2]), style.frizz * 0.9
        dx = rise * ux + cx + wild * (own[h, 0] - 0.5)
        dy = rise * uy + cy + wild * (own[h, 1] - 0.5)
        dz = rise * uz + cz + wild * (own[h, 2] - 0.5)
        fringe = smooth(1.15, 0.7, abs(around[h])) * smooth(0.35, 0.7, down[h])
        avoid = 1 - fringe * clamp(-style.comb_back)  # only a fringe hangs over the face
        step = length[h] / (points[h] - 1)
        layer = style.volume * (0.25 + 0.75 * own[h, 2])
        cluster = np.sin(around[h] * 19) + np.sin(down[h] * 23 + 2) + 1.2 * own[h, 1]
        for k in range(points[h]):
            grown = k * step
            # the point itself, wound about the path
            turn = PI_2 * style.curl_rate * grown + 2.2 * cluster
            radius = style.curl * min(1.0, grown / 0.12 + 0.1)
            sx, sy, sz = unit(dy * uz - dz * uy, dz * ux - dx * uz, dx * uy - dy * ux)
            ca, sa = radius * np.cos(turn), 0.7 * radius * np.sin(turn)
            out[h, k, 0] = x + ca * sx + sa * ux
            out[h, k, 1] = y + ca * sy + sa * uy
            out[h, k, 2] = z + ca * sz + sa * uz
            a, d, far = polar(x - centre[0], y - centre[1], z - centre[2])
            above = far - _skull(hull, a, d)
            depth[h, k] = clamp(0.25 + above / (style.volume + 0.08))
            # where the path goes on
            over_face = smooth(-0.02, 0.12, d - np.radians(line[h])) if abs(a) < 1.0 else 0.0
            over_face *= smooth(1.0, 0.6, abs(a)) * avoid
            pull = style.gravity * step * 3.5 * (1 - 0.7 * over_face)
            hug = max(0.0, 1.1 - style.lift) * clamp(above / (style.volume + 0.05) - 0.5)
            hug = 0.6 * hug + 0.35 * (cx * ux + cy * uy + cz * uz)
            dx, dy, dz = unit(dx, dy, dz)
            dx, dy, dz = unit(
                dx + 0.35 * cx - hug * ux + over_face * side,
                dy + 0.35 * cy - hug * uy - pull,
                dz + 0.35 * cz - hug * uz - over_face * 0.25,
            )
            wx, wy, wz = x + dx * step, y + dy * step, z + dz * step
            clear = 0.02 + layer * min(1.0, (grown + step) / 0.3)
            nx, ny, nz = _kept_off(hull, centre, wx, wy, wz, clear)
            dx, dy, dz = nx - x, ny - y, nz - z
            x, y, z = nx, ny, nz
            ux, uy, uz = unit(wx - centre[0], wy - centre[1], wz - centre[2])
    return out, depth


@numba.njit(cache=True, fastmath=True)
def light_hairs(points, lengths, albedo, depth, centre, light):
    """Colours [N, K, 3], linear, of posed hairs [N, K, 3] under a `light.Light`; see `Hairs`.

    Kajiya and Kay 1989: diffuse and shine by the angle to the strand.
    """
    lx, ly, lz = light.direction
    eye = light.eye
    count, most = depth.shape
    colours = np.zeros((count, most, 3), np.float32)
    for h in range(count):
        for k in range(lengths[h]):
            a, b = max(0, k - 1), min(lengths[h] - 1, k + 1)
            tx, ty, tz = unit(
                points[h, b, 0] - points[h, a, 0],
                points[h, b, 1] - points[h, a, 1],
                points[h, b, 2] - points[h, a, 2],
            )
            px, py, pz = points[h, k, 0], points[h, k, 1], points[h, k, 2]
            nx, ny, nz = unit(px - centre[0], (py - centre[1]) * 0.7, pz - centre[2])
            vx, vy, vz = unit(eye[0] - px, eye[1] - py, eye[2] - pz)
            sx, sy, sz = on_shadow_map(light, px, py, pz)
            lit = 0.25 + 0.75 * lit_roughly(light.shadow, sx, sy, sz + 0.12)
            facing = nx * lx + ny * ly + nz * lz
            along = tx * lx + ty * ly + tz * lz
            diffuse = np.sqrt(max(0.0, 1 - along * along)) * max(0.0, 0.3 + 0.7 * facing)
            hx, hy, hz = unit(lx + vx, ly + vy, lz + vz)
            half = tx * hx + ty * hy + tz * hz
            shine = max(0.0, 1 - half * half)
            sharp, broad = shine**30, shine**7
            glow = max(0.0, 0.35 + facing) * lit
            inner = 0.3 + 0.7 * depth[h, k]
            edge = light.rim * 0.4 * (1 - max(0.0, nx * vx + ny * vy + nz * vz)) ** 3
            for c in range(3):
                base, main = albedo[h, k, c], light.main[c]
                value = base * (main * diffuse * lit + light.ambient[c] * (0.6 + 0.3 * ny))
                value += main * glow * (0.018 * sharp + 0.35 * base * broad)
                colours[h, k, c] = (value + edge * base) * inner
    return colours
