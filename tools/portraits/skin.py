"""Light on skin, eyes, teeth, lashes, glasses and clothes, compiled; and the painted face."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from .arithmetic import clamp, smooth, unit
from .assets import EYE, FRAME, SKIN, TEETH, TONGUE, Head
from .hair import beard_regions, brow_place, smoothstep
from .light import lit_softly, on_shadow_map
from .noise import lookup

# Columns of `painted_regions`.
LIPS, MOUTH, RED, SOCKET, BAG, SHADOW, FOREHEAD, CROW, BEARD, MOUSTACHE, FOLD, SPOTS = range(12)
REGIONS = 12


def painted_regions(head: Head) -> Array:
    """How much of each region every vertex belongs to [V, REGIONS], 0..1."""
    x, y, z = head.rest.T
    across, front = np.abs(x), smoothstep(0.2, 0.8, head.rest[:, 2])

    def spot(x0: float, y0: float, wide: float, high: float) -> Array:
        return np.asarray(np.exp(-((across - x0) ** 2 / wide + (y - y0) ** 2 / high)) * front)

    red = 0.9 * spot(0.52, 6.95, 0.05, 0.045) + 0.25 * spot(0, 6.2, 0.1, 0.03)
    red = red + 0.7 * spot(0, 6.95, 0.02, 0.02) * smoothstep(1.35, 1.6, z) + 0.5 * head.ears
    beard, moustache = beard_regions(head.rest)
    fold_line = across - (0.17 + 0.55 * np.clip(6.98 - y, 0, 0.4))
    fold = np.exp(-(fold_line**2) / 0.0016) * smoothstep(7.02, 6.9, y) * smoothstep(6.45, 6.6, y)
    columns = {
        LIPS: head.lips,
        MOUTH: head.mouth,
        RED: red,
        SOCKET: spot(0.30, 7.27, 0.03, 0.018),
        BAG: spot(0.29, 7.12, 0.02, 0.003),
        SHADOW: spot(0.33, 7.38, 0.02, 0.006),
        FOREHEAD: np.exp(-((y - 7.82) ** 2) / 0.03) * front * smoothstep(0.9, 0.4, across),
        CROW: np.exp(-((across - 0.60) ** 2 / 0.006 + (y - 7.25) ** 2 / 0.02)),
        BEARD: beard,
        MOUSTACHE: moustache,
        FOLD: fold * front,
        SPOTS: spot(0.35, 7.0, 0.12, 0.05),
    }
    return np.stack([columns[k] for k in range(REGIONS)], 1).astype(np.float32)


class Mesh(NamedTuple):
    """A posed mesh with what its surface is: `assets.Head`, and per vertex what is painted on it.

    triangles [T, 3], material [T], rest and posed [V, 3], normals [V, 3] of posed, occlusion [V],
    regions [V, REGIONS], scalp [V] (share of hair's colour on the skin).
    """

    triangles: NDArray[np.int32]
    material: NDArray[np.int8]
    rest: Array
    posed: Array
    normals: Array
    occlusion: Array
    regions: Array
    scalp: Array


# Rows of `Paint.colours`, and the factors they come from.
COLOURS = ("skin", "lipstick", "hair", "beard", "brow", "iris", "clothes", "glasses")
OWN, LIP, HAIR, BEARD_HAIR, BROW, IRIS, CLOTHES, RIM = range(len(COLOURS))


class Paint(NamedTuple):
    """A person's colours, linear [len(COLOURS), 3], and amounts, the factors of these names.

    One array: reading an array out of a tuple costs compiled code more than a pixel's arithmetic.
    """

    colours: Array
    redness: float
    gloss: float
    freckles: float
    wrinkles: float
    lipstick: float
    eyeshadow: float
    beard: float
    moustache: float
    brow_density: float
    brow_width: float
    neckline: float


@numba.njit(cache=True, fastmath=True, inline="always")
def _toward(colour, colours, row, share):
    """Mix a colour [3] in place towards one of a person's."""
    for c in range(3):
        colour[c] += (colours[row, c] - colour[c]) * share


@numba.njit(cache=True, fastmath=True, inline="always")
def _scaled(colour, red, green, blue):
    colour[0] *= red
    colour[1] *= green
    colour[2] *= blue


@numba.njit(cache=True, fastmath=True, inline="always")
def _paint_wrinkles(colour, bump, p, region, strength, volume):
    """Wrinkles as bent normals and darker folds, bags under the eyes, age spots."""
    bag = region[BAG] * 0.22 * strength
    _scaled(colour, 1 - bag, 1 - 1.1 * bag, 1 - bag)
    bend = lookup(volume, p[0] * 2.5, p[1] * 2, 0.3)
    forehead = np.sin(p[1] * 52 + 3 * bend) * region[FOREHEAD]
    crow = np.sin(p[1] * 46 - abs(p[0]) * 18 + 2 * bend) * region[CROW]
    fine = lookup(volume, p[0] * 7, p[1] * 11, p[2] * 7)
    bump[1] += strength * 0.11 * (0.8 * forehead + 0.7 * crow + 0.25 * fine)
    dark = 1 - strength * (0.06 * max(0.0, forehead + crow) + 0.28 * region[FOLD])
    _scaled(colour, dark, dark * (1 - 0.05 * strength * region[FOLD]), dark)
    spots = smooth(0.45, 0.8, lookup(volume, p[0] * 6, p[1] * 6, p[2] * 6)) * strength * 0.10
    _scaled(colour, 1 - spots, 1 - 1.2 * spots, 1 - 1.3 * spots)


@numba.njit(cache=True, fastmath=True, inline="always")
def _paint_skin(colour, bump, p, region, scalp, paint, colours, volume):
    """Albedo of skin at rest position p into colour [3]; returns its gloss."""
    mottle = lookup(volume, p[0] * 5, p[1] * 5, p[2] * 5)
    for c in range(3):
        colour[c] = colours[OWN, c] * (1 + 0.03 * mottle)
    red = region[RED] * max(0.03, 0.07 + 0.05 * paint.redness)
    _scaled(colour, 1 + 0.25 * red, 1 - 0.9 * red, 1 - 0.8 * red)
    socket = 1 - region[SOCKET] * (0.10 + 0.12 * paint.wrinkles)
    _scaled(colour, socket, socket * (1 - 0.04 * region[SOCKET]), socket)
    shade = region[SHADOW] * paint.eyeshadow
    _scaled(colour, 1 - 0.5 * shade, 1 - 0.6 * shade, 1 - 0.45 * shade)
    if paint.wrinkles > 0:
        _paint_wrinkles(colour, bump, p, region, paint.wrinkles, volume)
    if paint.freckles > 0:
        dots = smooth(0.1, 0.6, lookup(volume, p[0] * 13, p[1] * 13, p[2] * 13))
        dots *= region[SPOTS] * paint.freckles
        _scaled(colour, 1 - 0.22 * dots, 1 - 0.36 * dots, 1 - 0.45 * dots)
    gloss = paint.gloss
    lips = min(1.0, region[LIPS] * 1.1) * 0.92
    if lips > 0.02:
        for c in range(3):
            bare = colours[OWN, c] * (0.80, 0.50, 0.52)[c] + (0.03, 0.0, 0.0)[c]
            target = bare + (colours[LIP, c] - bare) * paint.lipstick
            colour[c] += (target - colour[c]) * lips
        gloss += 0.35 * lips * (0.4 + paint.lipstick)
    if region[MOUTH] > 0.3:
        colour[0], colour[1], colour[2] = 0.16, 0.045, 0.04
        gloss = 0.1
    stubble = max(region[BEARD] * paint.beard, region[MOUSTACHE] * paint.moustache)
    stubble *= 1 - min(1.0, lips * 1.8)
    stubble *= 0.9 + 0.25 * lookup(volume, p[0] * 6, p[1] * 6, p[2] * 6)
    stubble = min(0.9, max(0.0, 1.35 * stubble))
    _toward(colour, colours, BEARD_HAIR, stubble)
    across = abs(p[0])
    if 0.06 < across < 0.66 and p[2] > 0.9:
        along, above = brow_place(p[0], p[1])
        off = abs(above) / (paint.brow_width * (1.05 - 0.6 * clamp(along)))
        share = smooth(1.5, 0.3, off) * smooth(-0.08, 0.2, along) * smooth(1.08, 0.8, along)
        _toward(colour, colours, BROW, min(1.0, 0.8 * share * paint.brow_density))
    if scalp > 0:
        _toward(colour, colours, HAIR, 0.92 * scalp)
        gloss *= 1 - 0.8 * scalp
    return gloss * (1 - 0.8 * stubble)


@numba.njit(cache=True, fastmath=True, inline="always")
def _paint_body(colour, bump, p, region, scalp, open_, paint, colours, volume):
    """Skin or, below the collar, cloth into colour [3]; gloss, wrap of light, openness."""
    across = abs(p[0])
    collar = paint.neckline + 0.35 * smooth(0.2, 1.2, across)
    collar -= 0.45 * np.exp(-across * across / 0.12) * smooth(0, 0.6, p[2])
    if p[1] < collar:
        for k in range(3):
            colour[k] = colours[CLOTHES, k] * (0.8 if p[1] > collar - 0.06 else 1.0)
        bump[0] += 0.3 * lookup(volume, p[0] * 2, p[1] * 1.6, p[2] * 2)
        return 0.05, 0.0, open_
    gloss = _paint_skin(colour, bump, p, region, scalp, paint, colours, volume)
    return gloss, 0.25, open_ * 0.5 if region[MOUTH] > 0.3 else open_


@numba.njit(cache=True, fastmath=True)
def _paint_eye(colour, p, colours, gaze):
    """Albedo of an eyeball at rest position p; returns the share of the iris that is lit."""
    side = 1.0 if p[0] > 0 else -1.0
    x, y, z = (p[0] - side * 0.305) / 0.14, (p[1] - 7.285) / 0.14, (p[2] - 1.245) / 0.145
    x, y = x - gaze[0] * z, y - gaze[1] * z
    off = np.sqrt(x * x + y * y)
    pink = 0.10 * smooth(0.55, 1.0, abs(x))
    colour[0], colour[1], colour[2] = 0.68, 0.64 - pink, 0.61 - pink
    inside = smooth(0.54, 0.46, off)
    if inside > 0:
        ring = (0.65 + 0.6 * smooth(0.18, 0.45, off)) * (1 - 0.6 * smooth(0.38, 0.50, off))
        pupil = smooth(0.17, 0.23, off)
        for c in range(3):
            value = colours[IRIS, c] * ring * pupil * (0.5 - 0.3 * y)
            colour[c] += (value - colour[c]) * inside
    return inside


@numba.njit(cache=True)
def veil(picture, owner, share):
    """Darken the pixels of picture [H, W, 3] that a drawn mesh owns, by `share`."""
    height, width = owner.shape
    for j in range(height):
        for i in range(width):
            if owner[j, i] >= 0:
                for k in range(3):
                    picture[j, i, k] *= 1 - share


@numba.njit(cache=True, fastmath=True, inline="always")
def _light_point(picture, j, i, colour, q, n, gloss, power, wrap, open_, in_iris, is_eye, light):
    """The light that albedo `colour` at posed point q with normal n sends to pixel j, i.

    gloss and power of the highlight; wrap, how far light creeps past the terminator; open_, the
    share of the sky that is seen; in_iris, how much of a point of an eye is iris.
    """
    lx, ly, lz = light.direction
    nx, ny, nz = unit(n[0], n[1], n[2])
    vx, vy, vz = unit(light.eye[0] - q[0], light.eye[1] - q[1], light.eye[2] - q[2])
    facing = nx * lx + ny * ly + nz * lz
    sx, sy, sz = on_shadow_map(light, q[0] + 0.045 * nx, q[1] + 0.045 * ny, q[2] + 0.045 * nz)
    lit = lit_softly(light.shadow, sx, sy, sz + 0.04)
    soft = lit * (1 - 0.18 * wrap) + 0.06 * wrap
    sky = (0.62 + 0.38 * ny) * open_ * (0.55 * open_ + 0.45)
    hx, hy, hz = unit(lx + vx, ly + vy, lz + vz)
    half = max(0.0, nx * hx + ny * hy + nz * hz)
    view = max(0.0, nx * vx + ny * vy + nz * vz)
    edge = 0.0
    if is_eye:
        shine = lit * (0.8 * smooth(0.982, 0.995, half) + 0.06 * smooth(0.9, 0.98, half))
        shine += 0.02 + 0.05 * in_iris * light.ambient[1]
    else:
        grazing = 0.04 + 0.5 * (1 - view) ** 5  # Schlick
        shine = half**power * (power + 8) * 0.004 * lit * light.main[1] if facing > 0 else 0.0
        shine = gloss * (shine + grazing * 0.25 * light.ambient[1] * open_)
        edge = light.rim * (1 - view) ** 3 * max(0.0, ny * 0.3 + 0.7) * 1.2 * open_
    for k in range(3):
        spread = wrap * (1.3, 0.55, 0.4)[k]
        diffuse = max(0.0, (facing + spread) / (1 + spread)) * max(lit, soft)
        value = colour[k] * (light.main[k] * diffuse + light.ambient[k] * sky + edge)
        picture[j, i, k] = value + shine


@numba.njit(cache=True, fastmath=True)
def shade(picture, owner, weights, mesh, paint, gaze, light, volume):
    """Light the pixels of a drawn `Mesh` into picture [H, W, 3].

    owner and weights come from `raster.draw_triangles`; paint is a `Paint`; gaze [2], see
    `_paint_eye`; light is a `Light`; volume is `noise.noise_volume`.
    """
    height, width = owner.shape
    colours = paint.colours
    triangles, material, rest, posed, normals, occlusion, regions, scalp = mesh
    colour, p, q, n = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    region = np.zeros(REGIONS)
    for j in range(height):
        for i in range(width):
            t = owner[j, i]
            if t < 0:
                continue
            kind = material[t]
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wa, wb = weights[j, i, 0], weights[j, i, 1]
            wc = 1 - wa - wb
            for k in range(3):
                p[k] = wa * rest[a, k] + wb * rest[b, k] + wc * rest[c, k]
                q[k] = wa * posed[a, k] + wb * posed[b, k] + wc * posed[c, k]
                n[k] = wa * normals[a, k] + wb * normals[b, k] + wc * normals[c, k]
            open_ = wa * occlusion[a] + wb * occlusion[b] + wc * occlusion[c]
            gloss, power, wrap, in_iris = 0.05, 18.0, 0.25, 0.0
            if kind == SKIN:
                for k in range(REGIONS):
                    region[k] = wa * regions[a, k] + wb * regions[b, k] + wc * regions[c, k]
                hairy = wa * scalp[a] + wb * scalp[b] + wc * scalp[c]
                gloss, wrap, open_ = _paint_body(
                    colour, n, p, region, hairy, open_, paint, colours, volume
                )
            elif kind == EYE:
                in_iris = _paint_eye(colour, p, colours, gaze)
                under_lid = smooth(7.45, 7.27, p[1])
                open_ = min(1.0, open_ * 1.15) * (0.45 + 0.5 * under_lid)
                wrap = 0.15
            elif kind == TEETH:
                colour[0], colour[1], colour[2] = 0.92, 0.88, 0.80
                gloss, power, open_ = 0.3, 50.0, open_ * 0.2 + 0.8
            elif kind == TONGUE:
                colour[0], colour[1], colour[2] = 0.36, 0.12, 0.11
                open_ = open_ * 0.7 + 0.05
            elif kind == FRAME:
                for k in range(3):
                    colour[k] = colours[RIM, k]
                gloss, power, open_ = 0.7, 40.0, 0.9
            is_eye = kind == EYE
            _light_point(
                picture, j, i, colour, q, n, gloss, power, wrap, open_, in_iris, is_eye, light
            )
