"""Hair as single hairs: where they are rooted, how long they are, which way they start.

Angles around the head are 0 in front and +-pi behind; angles down are 0 at the crown. Roots and
every hair's own random numbers are fixed once for all pictures, so hair is a smooth function of
the factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from .assets import HEAD, SKIN, Head
from .factors import Person, linear, triple
from .growth import Style, grow
from .shape import skull_centre

SCALP_HAIRS, BEARD_HAIRS, BROW_HAIRS = 5200, 3600, 900
POINTS = 14  # at most, of a hair of the head
STEP = 0.08  # between the points of a short hair, decimetres
SHORT_POINTS = 4  # of a hair of beard or brows
LOWEST_ROOT = np.radians(124)


def smoothstep(low: float, high: float, x: Array) -> Array:
    """`arithmetic.smooth` of an array."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


@dataclass(frozen=True)
class Roots:
    """Hair roots on the skin: vertices [N, 3], weights [N, 3], rest [N, 3], own numbers [N, 4]."""

    vertices: NDArray[np.int32]
    weights: Array
    rest: Array
    own: Array

    def of(self, values: Array) -> Array:
        """Values at vertices [V, 3], at the roots [N, 3]."""
        return np.asarray((values[self.vertices] * self.weights[..., None]).sum(1), np.float32)


def _scattered(head: Head, where: NDArray[np.bool_], count: int, seed: int) -> Roots:
    """Roots spread evenly over the skin's triangles for which `where` [T] holds."""
    rng = np.random.default_rng(seed)
    triangles = head.triangles[where]
    first, second, third = (head.rest[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(second - first, third - first), axis=1)
    ends = np.cumsum(area) / area.sum()
    chosen = triangles[np.searchsorted(ends, (np.arange(count) + rng.random(count)) / count)]
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - u, u * (1 - v), u * v], 1).astype(np.float32)
    rest = (head.rest[chosen] * weights[..., None]).sum(1)
    own = rng.random((count, 4)).astype(np.float32)
    order = rng.permutation(count)
    return Roots(chosen[order], weights[order], rest[order].astype(np.float32), own)


def angles(points: Array) -> tuple[Array, Array]:
    """Around and down [...] of points [..., 3] of the rest pose, seen from HEAD."""
    d = points - HEAD.astype(np.float32)
    around = np.arctan2(d[..., 0], d[..., 2])
    return around, np.arccos(d[..., 1] / np.linalg.norm(d, axis=-1))


def hairline(person: Person, around: Array) -> Array:
    """How far down hair is rooted at angles `around`, degrees."""
    side = np.abs(np.degrees(around))
    front = person["hairline"] - person["recession"] * np.exp(-(((side - 33) / 17) ** 2))
    line = front + (91 - front) * smoothstep(40, 70, side)
    line = line + 6 * np.exp(-(((side - 74) / 7) ** 2)) - 9 * np.exp(-(((side - 93) / 13) ** 2))
    return np.asarray(line + 30 * smoothstep(98, 135, side), np.float32)


def cover(person: Person, around: Array, down: Array) -> Array:
    """How densely hair is rooted, 0..1 (soft at the hairline, thinned by baldness)."""
    degrees = np.degrees(down)
    inside = smoothstep(-4, 7, hairline(person, around) - degrees)
    horseshoe = smoothstep(40, 62, degrees) * smoothstep(48, 78, np.abs(np.degrees(around)))
    horseshoe = np.maximum(horseshoe, smoothstep(60, 76, degrees))
    return np.asarray(inside * (1 - person["bald"] * (1 - horseshoe)), np.float32)


def beard_regions(rest: Array) -> tuple[Array, Array]:
    """Where beard and moustache grow, 0..1, for points [N, 3] of the rest pose."""
    across, up, near = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    jaw = smoothstep(6.72, 6.42, up) * smoothstep(6.08, 6.26, up)
    throat = smoothstep(0.8, 0.55, near) * smoothstep(0.58, 0.42, across)
    throat = throat * smoothstep(6.5, 6.35, up)
    jaw = jaw * (1 - throat)
    sideburn = smoothstep(0.58, 0.74, across) * smoothstep(7.25, 6.95, up)
    sideburn = sideburn * smoothstep(6.05, 6.25, up) * smoothstep(0.86, 0.78, across)
    beard = np.maximum(jaw, sideburn) * smoothstep(-0.05, 0.35, near)
    beard = beard * (1 - 0.8 * np.exp(-((across - 0.36) ** 2 / 0.012 + (up - 6.70) ** 2 / 0.02)))
    lip = np.exp(-((up - 6.745 + 0.12 * across) ** 2) / 0.004) * smoothstep(0.42, 0.3, across)
    return np.asarray(beard, np.float32), np.asarray(lip * smoothstep(1, 1.2, near), np.float32)


@numba.njit(cache=True)
def brow_place(x, y):
    """Along the brow (0 inner to 1 outer) and above its middle line, at rest x, y (or [N] each)."""
    along = (np.abs(x) - 0.115) / 0.46
    middle = 7.495 + 0.06 * np.sin(np.minimum(along, 1) * 2.2) - 0.06 * np.maximum(0, along - 0.55)
    return along, y - middle


@dataclass(frozen=True)
class Hairs:
    """Hairs ready to draw: points [N, K, 3] unposed, lengths [N], albedo [N, K, 3], depth [N, K].

    depth is 0 at the skin and 1 at the outside of the hair (less light reaches inside).
    """

    points: Array
    lengths: NDArray[np.int32]
    albedo: Array
    depth: Array
    thickness: float  # in pixels of a picture 128 pixels wide


class Hairdresser:
    """Grows the hair of any person on the head's fixed roots."""

    def __init__(self, head: Head, seed: int) -> None:
        self._head = head
        skin = head.material == SKIN
        middle = head.rest[head.triangles].mean(1)
        around, down = angles(middle)
        ears = head.ears[head.triangles].max(1) > 0.3
        highest = {"hairline": 74.0, "recession": 0.0, "bald": 0.0}
        scalp = (np.degrees(down) < hairline(highest, around) + 6) & (down < LOWEST_ROOT)
        self._scalp = _scattered(head, skin & scalp & ~ears, SCALP_HAIRS, seed)
        beard, lip = beard_regions(middle)
        inside = head.mouth[head.triangles].max(1) + head.lips[head.triangles].max(1)
        bearded = skin & (np.maximum(beard, lip) > 0.05) & (inside < 0.6) & ~ears
        self._beard = _scattered(head, bearded, BEARD_HAIRS, seed + 1)
        along, above = brow_place(middle[:, 0], middle[:, 1])
        brow = (along > -0.15) & (along < 1.15) & (abs(above) < 0.12) & (middle[:, 2] > 0.9)
        self._brow = _scattered(head, skin & brow, BROW_HAIRS, seed + 2)

    def scalp_cover(self, person: Person) -> Array:
        """How much of the skin under each vertex [V] the hair's colour shows through."""
        around, down = angles(self._head.rest)
        ears = np.clip(self._head.ears * 3, 0, 1)
        under = cover(person, around, down - np.radians(4))
        return np.asarray(under * (1 - ears), np.float32)

    def head_hair(self, person: Person, points: Array) -> Hairs:
        """The hair of the head on unposed vertices [V, 3]."""
        roots = self._scalp
        around, down = angles(roots.rest)
        dense = cover(person, around, down)
        grows = dense > 0.04 + 0.8 * roots.own[:, 3]
        length = _lengths(person, around, down) * (0.35 + 0.65 * dense)
        length = length * (0.8 + 0.25 * roots.own[:, 1])
        hull, centre = _hull(points, self._head)
        style = Style(**{name: person[name] for name in Style._fields})
        start = roots.of(points)
        lengths = np.clip(np.ceil(length / STEP) + 2, SHORT_POINTS, POINTS) * grows
        lengths = lengths.astype(np.int32)
        grown, depth = grow(
            start, around, down, length, lengths, roots.own, style, hull, centre,
            hairline(person, around),
        )  # fmt: skip
        base = linear(triple(person, "hair"))
        shade = 0.84 + 0.32 * roots.own[:, 0]
        tip = np.linspace(0.9, 1.12, POINTS, dtype=np.float32)
        albedo = base * shade[:, None, None] * tip[None, :, None]
        return Hairs(grown, lengths, albedo.astype(np.float32), depth, 1.25)

    def beard(self, person: Person, points: Array, normals: Array) -> Hairs:
        """Beard and moustache, on unposed vertices and normals [V, 3]."""
        roots = self._beard
        jaw, lip = beard_regions(roots.rest)
        amount = np.maximum(jaw * person["beard"], lip * person["moustache"])
        grows = (amount > 0.1 + 0.55 * roots.own[:, 3]) & (person["beard_length"] > 0.01)
        moustache = (lip > jaw)[:, None]
        side = np.sign(roots.rest[:, :1])
        sideways = np.hstack([0.55 * side, np.full_like(side, -0.6), np.full_like(side, 0.1)])
        fall = np.where(moustache, sideways, [0.0, -1.0, 0.0])
        direction = roots.of(normals) * 0.55 + fall + 0.35 * (roots.own[:, :3] - 0.5)
        reach = person["beard_length"] * amount * (0.7 + 0.5 * roots.own[:, 1])
        reach = np.where(moustache[:, 0], np.minimum(reach, 0.13), reach)
        colour = linear(triple(person, "beard"))
        return _short_hairs(roots, points, direction, reach, grows, colour, 0.85)

    def brows(self, person: Person, points: Array, normals: Array) -> Hairs:
        """Both brows, on unposed vertices and normals [V, 3]."""
        roots = self._brow
        along, above = brow_place(roots.rest[:, 0], roots.rest[:, 1])
        width = person["brow_width"] * (1.05 - 0.6 * np.clip(along, 0, 1))
        inside = smoothstep(1.25, 0.4, np.abs(above) / width)
        inside = inside * smoothstep(-0.06, 0.12, along) * smoothstep(0.98, 0.75, along)
        grows = inside * person["brow_density"] > 0.2 + 0.9 * roots.own[:, 3]
        side = np.sign(roots.rest[:, 0])
        slant = 1 - 1.3 * np.clip(along, 0, 1)
        direction = np.stack([side, slant, np.zeros_like(side)], 1) + 0.25 * roots.of(normals)
        reach = (0.075 + 0.03 * roots.own[:, 1]) * (1 - 0.5 * np.clip(along, 0, 1))
        colour = linear(triple(person, "brow"))
        return _short_hairs(roots, points, direction, reach, grows, colour, 0.6)


def _short_hairs(
    roots: Roots,
    points: Array,
    direction: Array,
    reach: Array,
    grows: NDArray[np.bool_],
    colour: Array,
    thickness: float,
) -> Hairs:
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    steps = np.linspace(0, 1, SHORT_POINTS)[None, :, None]
    drop = np.array([0, -0.3, 0]) * reach[:, None, None] * steps**2
    start = roots.of(points)[:, None] + 0.012 * direction[:, None]
    grown = start + direction[:, None] * reach[:, None, None] * steps + drop
    shade = 0.75 + 0.5 * roots.own[:, 0]
    albedo = np.broadcast_to(colour * shade[:, None, None], grown.shape)
    depth = np.broadcast_to(np.linspace(0.75, 1, SHORT_POINTS, dtype=np.float32), grown.shape[:2])
    return Hairs(
        grown.astype(np.float32),
        np.where(grows, SHORT_POINTS, 0).astype(np.int32),
        albedo.astype(np.float32),
        np.ascontiguousarray(depth),
        thickness,
    )


def _lengths(person: Person, around: Array, down: Array) -> Array:
    """Length of the hair rooted at these angles, decimetres."""
    side, degrees = np.abs(np.degrees(around)), np.degrees(down)
    back = smoothstep(105, 140, side)
    low = person["length_side"] * (1 - back) + person["length_back"] * back
    front = smoothstep(62, 38, side) * smoothstep(22, 42, degrees)
    high = person["length_top"] * (1 - front) + person["length_front"] * front
    top = smoothstep(82, 46, degrees + 26 * smoothstep(45, 75, side) - 10)
    return np.asarray(low * (1 - top) + high * top, np.float32)


def _hull(points: Array, head: Head) -> tuple[Array, Array]:
    """Distance of the scalp [A, P] from the skull's centre [3] of an unposed head, smoothed."""
    surface = (points[head.grid_vertices] * head.grid_weights[..., None]).sum(2)
    centre = skull_centre(points, head)
    distance = np.linalg.norm(surface - centre, axis=-1)
    ring = np.concatenate([distance[-6:-1], distance, distance[1:6]])
    kernel = np.array([1, 2, 3, 4, 3, 2, 1], np.float32) / 16
    length = len(distance)
    smoothed = sum(kernel[k] * ring[2 + k : 2 + k + length] for k in range(7))
    return np.asarray(smoothed, np.float32), centre
