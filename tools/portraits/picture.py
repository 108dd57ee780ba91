"""A portrait from its factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from . import glasses, raster, skin
from .assets import FRAME, LASH, Head
from .factors import Person, linear, triple
from .growth import light_hairs
from .hair import Hairdresser, Hairs
from .light import Light, light_of
from .noise import noise_volume
from .shape import Camera, Pose, Shaper, aligned_camera, skull_centre

SUPERSAMPLING = 2


@dataclass(frozen=True)
class Portrait:
    """A picture [size, size, 3] uint8 RGB and its landmarks [4, 2] in pixels, x right, y down.

    Landmarks: eye on the picture's left, eye on the right, mouth corner left, mouth corner right.
    """

    picture: NDArray[np.uint8]
    landmarks: Array


class Renderer:
    """Draws portraits; everything that is not a factor is the same in all of them.

    `seed` chooses the patterns that are fixed: skin and cloth noise, and the hair's roots.
    """

    def __init__(self, head: Head, seed: int = 0) -> None:
        self.head = head
        self._shaper = Shaper(head)
        self._hairdresser = Hairdresser(head, seed + 100)
        self._regions = skin.painted_regions(head)
        self._noise = noise_volume(seed)
        is_lash = head.material == LASH
        self._lashes = np.ascontiguousarray(head.triangles[is_lash])
        self._solid = np.ascontiguousarray(head.triangles[~is_lash])
        self._solid_material = head.material[~is_lash]

    def landmarks(self, person: Person, size: int) -> Array:
        """The landmarks [4, 2] alone, in pixels of a picture of `size`."""
        points = Pose.of(person).apply(self._shaper.landmarks.of(self._shaper.vertices(person)))
        return aligned_camera(points, person, size).project(points)[0]

    def render(self, person: Person, size: int) -> Portrait:
        """Draw one person."""
        points = self._shaper.vertices(person)
        pose = Pose.of(person)
        hairs = self._grown(person, points)
        bare, triangles, material = points, self._solid, self._solid_material
        if person["glasses"] > 0.5:
            eyes = self._shaper.landmarks.of(points)[1::-1]
            extra, faces = glasses.frame(person, points, eyes)
            bare = np.concatenate([points, extra])
            triangles = np.concatenate([triangles, faces + len(points)])
            material = np.concatenate([material, np.full(len(faces), FRAME, np.int8)])
        posed = pose.apply(bare)
        posed_hairs = [pose.apply(hair.points) for hair in hairs]
        landmarks = self._shaper.landmarks.of(posed)
        camera = aligned_camera(landmarks, person, size * SUPERSAMPLING)
        throws = [(moved, hair.lengths) for moved, hair in zip(posed_hairs, hairs, strict=True)]
        light = light_of(person, posed, triangles, throws[1:])  # brows throw no shadow
        canvas = _backdrop(person, size * SUPERSAMPLING)
        depth = self._draw_surfaces(person, bare, posed, triangles, material, camera, light, canvas)
        centre = pose.apply(skull_centre(points, self.head)[None])[0]
        for hair, moved in zip(hairs, posed_hairs, strict=True):
            flat, near = camera.project(moved)
            colours = light_hairs(moved, hair.lengths, hair.albedo, hair.depth, centre, light)
            thick = hair.thickness * size * SUPERSAMPLING / 128 / 1.6
            raster.draw_hairs(flat, near, colours, hair.lengths, thick, depth, canvas)
        final = aligned_camera(landmarks, person, size).project(landmarks)[0]
        return Portrait(_developed(canvas, person["exposure"]), final)

    def _grown(self, person: Person, points: Array) -> list[Hairs]:
        normals = raster.vertex_normals(points, self.head.triangles)
        hairs = [
            self._hairdresser.brows(person, points, normals),
            self._hairdresser.head_hair(person, points),
        ]
        if person["beard_length"] > 0.01 and max(person["beard"], person["moustache"]) > 0.15:
            hairs.append(self._hairdresser.beard(person, points, normals))
        return hairs

    def _draw_surfaces(
        self,
        person: Person,
        bare: Array,
        posed: Array,
        triangles: NDArray[np.int32],
        material: NDArray[np.int8],
        camera: Camera,
        light: Light,
        canvas: Array,
    ) -> Array:
        """Draw everything but hair into canvas [S, S, 3]; the depth [S, S]."""
        size = canvas.shape[0]
        depth = np.full((size, size), -np.inf, np.float32)
        owner = np.full((size, size), -1, np.int32)
        weights = np.zeros((size, size, 2), np.float32)
        flat, near = camera.project(posed)
        raster.draw_triangles(flat, near, triangles, depth, owner, weights)
        more = len(bare) - len(self.head.rest)
        mesh = skin.Mesh(
            triangles,
            material,
            np.concatenate([self.head.rest, bare[len(bare) - more :]]),
            posed,
            raster.vertex_normals(posed, triangles),
            np.pad(self.head.occlusion, (0, more)),
            np.pad(self._regions, ((0, more), (0, 0))),
            np.pad(self._hairdresser.scalp_cover(person), (0, more)),
        )
        paint, gaze = _paint(person), _gaze(person)
        skin.shade(canvas, owner, weights, mesh, paint, gaze, light, self._noise)
        lashes = np.full((size, size), -1, np.int32)
        raster.draw_triangles(flat, near, self._lashes, depth.copy(), lashes, weights)
        skin.veil(canvas, lashes, person["lashes"])
        return depth


def _paint(person: Person) -> skin.Paint:
    colours = np.stack([linear(triple(person, name)) for name in skin.COLOURS])
    return skin.Paint(colours, *(person[name] for name in skin.Paint._fields[1:]))


def _gaze(person: Person) -> Array:
    """Where the eyes look in the head, as tangents: at the camera, then off it by the factors."""
    yaw, pitch = person["gaze_x"] - person["yaw"], person["gaze_y"] - person["pitch"]
    return np.tan(np.radians(np.array([yaw, pitch], np.float32))).astype(np.float32)


def _backdrop(person: Person, size: int) -> Array:
    """A gradient between two colours, bent, [S, S, 3] linear."""
    x = np.linspace(-1, 1, size, dtype=np.float32)[None, :]
    y = -x.T
    along = person["backdrop_cos"] * x + person["backdrop_sin"] * y
    across = person["backdrop_cos"] * y - person["backdrop_sin"] * x
    share = np.clip(0.5 + 0.4 * along + 0.35 * person["backdrop_curve"] * across**2, 0, 1)
    share = (share * share * (3 - 2 * share))[..., None]
    first, second = linear(triple(person, "backdrop_a")), linear(triple(person, "backdrop_b"))
    return np.ascontiguousarray(first * (1 - share) + second * share, np.float32)


def _developed(canvas: Array, exposure: float) -> NDArray[np.uint8]:
    """Average the supersamples, compress highlights, encode for display."""
    step = range(SUPERSAMPLING)
    total = sum(canvas[j::SUPERSAMPLING, i::SUPERSAMPLING] for j in step for i in step)
    light = total * (0.62 * exposure / SUPERSAMPLING**2)
    light = light * (1 + light / 6) / (1 + light) * 1.25
    display = np.clip(light, 0, 1) ** (1 / 2.2)
    return np.asarray(display * 255 + 0.5).astype(np.uint8)
