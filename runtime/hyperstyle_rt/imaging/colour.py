"""Colour spaces of photos: ICC profiles of a matrix and three curves, to sRGB and back.

Cameras, phones and editors write such profiles (Display P3, Adobe RGB, ProPhoto, sRGB itself).
Profiles made of tables, as printers and some monitors have, are not read: see `ColourSpace.of`.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ..types import Doubles, Picture

_log = logging.getLogger(__name__)


# Linear sRGB to XYZ under D50, as ICC profiles have it (the sRGB profile of the ICC, 2015).
_SRGB_TO_XYZ = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
_STEPS = 1 << 16  # of linear light, in the tables that end a conversion
_ROWS = 256  # of a picture, converted at once
_SAME = 1.0  # levels: a space whose colours differ by no more from sRGB's is sRGB
_PROFILE_HEADER, _MAX_TAGS = 128, 256


@dataclass(frozen=True, eq=False)
class ColourSpace:
    """An RGB colour space: what a level is as light, and which lights are mixed.

    Attributes
    ----------
    light : ndarray, float64 [3,256]
        Linear light, 0 to 1, of every level of red, green and blue; rising.
    to_xyz : ndarray, float64 [3,3]
        From linear light to XYZ under D50.
    """

    light: Doubles
    to_xyz: Doubles

    @staticmethod
    def of(icc: bytes | None) -> ColourSpace | None:
        """The colour space of a profile; None for sRGB and what has to be taken for it.

        That is no profile, one that is damaged, one that is not of RGB (the pixels of a CMYK or
        grey file have become RGB in reading), and one made of tables: for the last a warning is
        logged.
        """
        return _space_of(icc) if icc else None

    def to_srgb(self, picture: Picture) -> Picture:
        """Convert uint8 [H,W,3] to sRGB; colours that sRGB does not have are clipped."""
        return _converted(picture, self, _srgb())

    def from_srgb(self, picture: Picture) -> Picture:
        """Convert uint8 [H,W,3] of sRGB to this space."""
        return _converted(picture, _srgb(), self)

    @cached_property
    def levels(self) -> NDArray[np.uint8]:
        """The level of every step of linear light, [3,_STEPS]."""
        steps = np.linspace(0, 1, _STEPS)
        rows = [np.rint(np.interp(steps, light, np.arange(256))) for light in self.light]
        return np.array(rows, np.uint8)


def is_rgb_profile(icc: bytes) -> bool:
    """Whether a profile is one for RGB pixels."""
    return len(icc) > _PROFILE_HEADER and icc[16:20] == b"RGB " and icc[36:40] == b"acsp"


@lru_cache(maxsize=1)
def _srgb() -> ColourSpace:
    levels = np.arange(256) / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return ColourSpace(np.tile(light, (3, 1)), _SRGB_TO_XYZ)


@lru_cache(maxsize=8)
def _space_of(icc: bytes) -> ColourSpace | None:
    if not is_rgb_profile(icc):
        return None
    try:
        space = _parse(icc)
    except (struct.error, ValueError, IndexError):
        _log.warning("a colour profile is damaged; its colours are taken as sRGB")
        return None
    if space is None:
        _log.warning(
            "a colour profile is made of tables, which are not read; its colours are taken as sRGB"
        )
        return None
    samples = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), axis=-1)
    grid = samples.reshape(1, -1, 3)
    off = np.abs(_converted(grid, space, _srgb()).astype(int) - grid).max()
    return None if off <= _SAME else space


def _parse(icc: bytes) -> ColourSpace | None:
    """The matrix and the curves of an RGB profile; None if it has no such."""
    (count,) = struct.unpack_from(">I", icc, _PROFILE_HEADER)
    tags: dict[bytes, bytes] = {}
    for number in range(min(count, _MAX_TAGS)):
        name, at, size = struct.unpack_from(">4sII", icc, _PROFILE_HEADER + 4 + 12 * number)
        tags[name] = icc[at : at + size]
    names = [(b"%cXYZ" % colour, b"%cTRC" % colour) for colour in b"rgb"]
    if not all(name in tags for pair in names for name in pair) or icc[20:24] != b"XYZ ":
        return None
    columns = [[n / 65536 for n in struct.unpack_from(">8x3i", tags[xyz])] for xyz, _ in names]
    levels = np.arange(256) / 255
    light = np.stack([np.clip(_curve(tags[curve])(levels), 0, 1) for _, curve in names])
    matrix = np.array(columns).T
    if not np.isfinite(light).all() or abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("no colours")
    if (np.diff(light) < 0).any() or (light[:, -1] <= light[:, 0]).any():
        raise ValueError("a curve that falls")
    return ColourSpace(light, matrix)


def _curve(tag: bytes) -> Callable[[Doubles], Doubles]:
    """The function of a tone curve, from levels to light, both 0 to 1."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return lambda x: x
        values = np.frombuffer(tag, ">u2", count, 12)
        if count == 1:
            return lambda x: x ** (int(values[0]) / 256)
        return lambda x: np.interp(x, np.linspace(0, 1, count), values / 65535)
    if tag[:4] != b"para":
        raise ValueError(tag[:4])
    (kind,) = struct.unpack_from(">H", tag, 8)
    g, a, b, c, d, e, f = _parameters(tag, kind)

    def light(x: Doubles) -> Doubles:
        return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)

    return light


def _parameters(tag: bytes, kind: int) -> tuple[float, ...]:
    """g, a, b, c, d, e, f of `(a x + b)^g + e` from d on, and `c x + f` below it."""
    count = (1, 3, 4, 5, 7)[kind]
    given = [n / 65536 for n in struct.unpack_from(f">12x{count}i", tag)]
    if kind == 0:
        return given[0], 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    g, a, b, *rest = given
    if kind in (1, 2):
        constant = rest[0] if rest else 0.0
        return g, a, b, 0.0, -b / a if a else 0.0, constant, constant
    c, d, *constants = rest
    e, f = constants or (0.0, 0.0)
    return g, a, b, c, d, e, f


def _converted(picture: Picture, source: ColourSpace, target: ColourSpace) -> Picture:
    matrix = (np.linalg.inv(target.to_xyz) @ source.to_xyz).T * (_STEPS - 1)
    light = source.light.astype(np.float32)
    weights = matrix.astype(np.float32)
    result = np.empty(picture.shape, np.uint8)
    for top in range(0, picture.shape[0], _ROWS):
        part = picture[top : top + _ROWS]
        linear = np.stack([light[n][part[..., n]] for n in range(3)], axis=-1)
        mixed = np.clip(linear @ weights + np.float32(0.5), 0, _STEPS - 1).astype(np.uint16)
        for n in range(3):
            result[top : top + _ROWS, :, n] = target.levels[n][mixed[..., n]]
    return result
