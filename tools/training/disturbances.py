"""What may happen to a photograph before a network sees it, one function each.

All take a picture float32 [h,w,3] in [0,1], a source of random numbers and a strength, of which 1
is what photographs commonly show, and give a picture of the same kind. Lengths are in shares of the
picture's side, so a small picture is disturbed as a large one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Random = np.random.Generator
Disturbance = Callable[[Picture, Random, float], Picture]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Where the head lies in a picture aligned as FFHQ is, in shares of the side.
HEAD_CENTRE = (0.5, 0.52)  # across, down
HEAD_RADII = (0.36, 0.46)
ALIGNMENT_ERROR = 0.03  # of the side: 1.6 to 3 % is measured
INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)


def crop(x: Picture, random: Random, strength: float) -> Picture:
    """Shift, zoom and turn by what alignment errs; the border is mirrored."""
    side = x.shape[0]
    error = ALIGNMENT_ERROR * strength
    zoom = 1 + random.normal(0, error / 2)
    angle = np.degrees(random.normal(0, error))
    centre = ((side - 1) / 2, (side - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, angle, zoom), np.float64)
    matrix[:, 2] += random.uniform(-error, error, 2) * side
    return _warped(x, matrix)


def border(x: Picture, random: Random, strength: float) -> Picture:
    """The photo ends too near the face: beyond its edges the aligner mirrors and blurs."""
    side = x.shape[0]
    margins = (random.uniform(0.02, 0.24, 4) * min(strength, 1.5) * side).astype(int)
    top, bottom, left, right = (int(m) * int(random.random() < 0.7) for m in margins)
    inner = x[top : side - bottom, left : side - right]
    mirrored = np.pad(inner, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    soft = cv2.GaussianBlur(mirrored, (0, 0), 0.04 * side, borderType=cv2.BORDER_REFLECT_101)
    inside = np.zeros((side, side), np.uint8)
    inside[top : side - bottom, left : side - right] = 1
    distance = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    return _blend(mirrored, soft, np.clip(distance / (0.06 * side), 0, 1)[..., None])


def background(x: Picture, random: Random, strength: float) -> Picture:
    """Something else around the head: a colour, a gradient, or blurred shapes."""
    side = x.shape[0]
    grown = 1 + random.uniform(0, 0.25)
    radii = (HEAD_RADII[0] * grown, HEAD_RADII[1] * grown)
    inside = _ellipse(side, HEAD_CENTRE, radii, softness=0.06)
    # Neck and shoulders go with the head: what is below its middle stays within its width.
    rows, columns = _grid(side)
    spread = radii[0] + np.clip(rows - HEAD_CENTRE[1], 0, 1) * 0.6
    body = np.clip((spread - np.abs(columns - 0.5)) / 0.06, 0, 1) * (rows > HEAD_CENTRE[1])
    share = (1 - np.maximum(inside, body))[..., None] * min(strength, 1.0)
    return _blend(x, _backdrop(side, random), share)


def occluder(x: Picture, random: Random, strength: float) -> Picture:
    """A hand, a microphone, a hat or a scarf: a shape of one colour over a part of the face."""
    side = x.shape[0]
    kind = random.integers(3)
    colour = _colour(random)
    mask = np.zeros((side, side), np.float32)
    if kind == 0:  # a blob at the edge of the face
        angle = random.uniform(0, 2 * np.pi)
        centre = (0.5 + 0.38 * np.cos(angle), 0.55 + 0.42 * np.sin(angle))
        radii = tuple(random.uniform(0.06, 0.16, 2) * strength)
        mask = _ellipse(side, centre, (radii[0], radii[1]), softness=0.02)
    elif kind == 1:  # a bar from the border inwards
        start, end = random.uniform(0, 1, 2), random.uniform(0.25, 0.75, 2)
        start[random.integers(2)] = float(random.integers(2))
        width = max(1, round(random.uniform(0.03, 0.09) * strength * side))
        points = [tuple(int(v) for v in p * (side - 1)) for p in (start, end)]
        cv2.line(mask, points[0], points[1], 1.0, width, cv2.LINE_AA)
    else:  # from above or from below
        height = random.uniform(0.04, 0.14) * strength
        rows, _ = _grid(side)
        depth = rows if random.integers(2) else 1 - rows
        mask = np.clip((height - depth) / 0.02, 0, 1)
    shade = 1 + 0.3 * _smooth_noise(side, random, cells=4)[..., None]
    return _blend(x, np.clip(colour * shade, 0, 1), mask[..., None])


def local_light(x: Picture, random: Random, strength: float) -> Picture:
    """Light from one side, a bright spot or a shadow."""
    side = x.shape[0]
    rows, columns = _grid(side)
    angle = random.uniform(0, 2 * np.pi)
    ramp = (columns - 0.5) * np.cos(angle) + (rows - 0.5) * np.sin(angle)
    field = random.uniform(0, 1.4) * ramp
    centre = random.uniform(0.1, 0.9, 2)
    spot = _ellipse(side, (centre[0], centre[1]), tuple(random.uniform(0.15, 0.5, 2)), softness=0.3)
    field = field + random.uniform(-0.5, 0.5) * spot
    return _clipped(x * np.exp(strength * field.astype(np.float32))[..., None])


def tone(x: Picture, random: Random, strength: float) -> Picture:
    """Exposure, contrast, the shape of the tone curve, and saturation."""
    x = _clipped(x * np.exp(random.normal(0, 0.22 * strength)))
    x = x ** np.float32(np.exp(random.normal(0, 0.22 * strength)))
    mean = x.mean(dtype=np.float64)
    x = mean + (x - mean) * np.exp(random.normal(0, 0.2 * strength))
    luma = (x @ LUMA)[..., None]
    return _clipped(luma + (x - luma) * np.exp(random.normal(0, 0.25 * strength)))


def white_balance(x: Picture, random: Random, strength: float) -> Picture:
    """Warmer or colder, greener or pinker."""
    warm, green = random.normal(0, 0.12 * strength), random.normal(0, 0.05 * strength)
    return _clipped(x * np.exp([warm, green, -warm]).astype(np.float32))


def cast(x: Picture, random: Random, strength: float) -> Picture:
    """Coloured light or an aged print: blended with one colour, black level raised."""
    colour = _colour(random)
    share = np.float32(random.uniform(0.03, 0.2) * strength)
    return _clipped(x * (1 - share) + colour * share)


def grey(x: Picture, random: Random, strength: float) -> Picture:
    """Black and white, sometimes with a tint; below a strength of 1 some colour stays."""
    luma = np.repeat((x @ LUMA)[..., None], 3, axis=2)
    if random.random() < 0.2:
        luma = luma * np.exp(random.normal(0, 0.06, 3)).astype(np.float32)
    return _clipped(x + (luma - x) * np.float32(min(strength, 1.0)))


def rescale(x: Picture, random: Random, strength: float) -> Picture:
    """Made smaller and larger again by any of the usual ways."""
    side = x.shape[0]
    factor = np.exp(-random.uniform(0.2, 1.1) * strength)
    small = max(8, round(side * factor))
    down, up = random.choice(4), random.choice(3)
    shrunk = cv2.resize(x, (small, small), interpolation=INTERPOLATIONS[down])
    return _clipped(cv2.resize(shrunk, (side, side), interpolation=INTERPOLATIONS[up]))


def blur(x: Picture, random: Random, strength: float) -> Picture:
    """Out of focus, or moved."""
    side = x.shape[0]
    if random.random() < 0.7:
        sigma = random.uniform(0.004, 0.013) * strength * side
        sigma = max(sigma, 0.35)
        return _clipped(cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))
    length = max(3, round(random.uniform(0.015, 0.05) * strength * side) | 1)
    kernel = np.zeros((length, length), np.float32)
    angle, half = random.uniform(0, np.pi), length // 2
    reach = half * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(round(half + sign * r) for r in reach) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    kernel /= kernel.sum()
    return _clipped(cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def sharpen(x: Picture, random: Random, strength: float) -> Picture:
    """Unsharp masking, as cameras and editors apply it."""
    sigma = random.uniform(0.006, 0.012) * x.shape[0]
    soft = cv2.GaussianBlur(x, (0, 0), max(sigma, 0.5), borderType=cv2.BORDER_REFLECT_101)
    return _clipped(x + (x - soft) * np.float32(random.uniform(0.4, 1.6) * strength))


def noise(x: Picture, random: Random, strength: float) -> Picture:
    """Of a sensor: brighter pixels have more; sometimes coarse, as after enlarging."""
    side = x.shape[0]
    level = random.uniform(0.008, 0.06) * strength
    grain = random.standard_normal(x.shape, np.float32)
    if random.random() < 0.4:
        grain = np.repeat(grain[..., :1], 3, axis=2)  # of the brightness alone
    if random.random() < 0.3:
        half = cv2.resize(grain, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        enlarged = cv2.resize(half, (side, side), interpolation=cv2.INTER_LINEAR)
        grain = 2 * np.asarray(enlarged, np.float32)
    return _clipped(x + grain * np.float32(level) * (0.4 + 0.6 * np.sqrt(x)))


def jpeg(x: Picture, random: Random, strength: float) -> Picture:
    """Stored as JPEG, down to a quality of 30 at a strength of 1."""
    quality = int(np.clip(100 - random.uniform(5, 70) * strength, 5, 100))
    stored = np.round(x[..., ::-1] * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return read[..., ::-1].astype(np.float32) / np.float32(255)


def _clipped(x: Any) -> Picture:
    return np.asarray(np.clip(x, 0, 1), np.float32)


def _blend(x: Picture, other: Any, share: NDArray[Any]) -> Picture:
    return _clipped(x + (other - x) * share)


def _colour(random: Random) -> NDArray[np.float32]:
    """Rarely a pure one, as surfaces have it."""
    colour = random.uniform(0, 1, 3)
    grey_level = colour.mean()
    return (grey_level + (colour - grey_level) * random.uniform(0, 0.8)).astype(np.float32)


def _grid(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows [h,1] and columns [1,w] of the pixels' centres, in shares of the side."""
    centres = ((np.arange(side) + 0.5) / side).astype(np.float32)
    return centres[:, None], centres[None]


def _ellipse(
    side: int, centre: tuple[float, float], radii: tuple[float, float], softness: float
) -> NDArray[np.float32]:
    """1 inside an ellipse, falling to 0 over the softness: [h,w]."""
    rows, columns = _grid(side)
    across, down = (columns - centre[0]) / radii[0], (rows - centre[1]) / radii[1]
    distance = np.sqrt(across**2 + down**2)
    return np.clip((1 - distance) * min(radii) / softness + 0.5, 0, 1).astype(np.float32)


def _smooth_noise(side: int, random: Random, cells: int) -> NDArray[np.float32]:
    coarse = random.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))


def _backdrop(side: int, random: Random) -> Picture:
    colours = (_colour(random), _colour(random))
    kind = random.integers(3)
    if kind == 0:
        share = np.zeros((side, side, 1), np.float32)
    elif kind == 1:
        rows, columns = _grid(side)
        share = (rows if random.integers(2) else columns) * np.ones((side, side), np.float32)
        share = share[..., None]
    else:
        share = np.stack(
            [_smooth_noise(side, random, int(random.integers(3, 9))) for _ in range(3)], axis=-1
        )
    return _clipped(colours[0] + (colours[1] - colours[0]) * share)


def _warped(x: Picture, matrix: NDArray[np.float64]) -> Picture:
    return _clipped(
        cv2.warpAffine(
            x,
            matrix,
            (x.shape[1], x.shape[0]),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )
