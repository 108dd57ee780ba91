"""The FFHQ alignment: a photo and a face's points to the crop that the networks know.

Computed as the published recipe does with Pillow and SciPy (docs/spec.md, section 7), for the same
bytes: shrink, crop with a border, pad by reflection with blurred edges, then the QUAD transform.

Points are pixels (x, y), where whole numbers are the centres of pixels, x to the right, y down.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..imaging import resampling
from ..imaging.picture_files import check_size
from ..types import Picture

Points = NDArray[np.float64]

# dlib's landmarks: the contours of the eyes and the corners of the mouth, left and right as seen.
_EYES = (slice(36, 42), slice(42, 48))
_MOUTH_CORNERS = (48, 54)

_BORDER = 0.1  # kept around the quadrilateral, in its sides, and at least this many pixels:
_LEAST_BORDER = 3
_PADDING = 0.3  # on every side once one needs padding
_BLUR = 0.02  # standard deviation of the blur of what was padded
_BLUR_REACH = 4.0  # standard deviations at which SciPy cuts a Gaussian
_ROWS = 64  # of the crop, sampled at once


def face_points(landmarks: Points) -> Points:
    """Reduce dlib's 68 landmarks to the four points that the alignment depends on.

    Parameters
    ----------
    landmarks:
        [68,2] in the order of dlib and 300-W.

    Returns
    -------
    float64 [4,2]: centres of the left and the right eye, left and right corner of the mouth, as the
    viewer sees them.
    """
    eyes = [landmarks[eye].mean(axis=0) for eye in _EYES]
    return np.array([*eyes, *(landmarks[corner] for corner in _MOUTH_CORNERS)], np.float64)


def quadrilateral(points: Points) -> Points:
    """The square of the photo that becomes the crop.

    Parameters
    ----------
    points:
        [4,2], as :func:`face_points` gives them.

    Returns
    -------
    float64 [4,2]: its corners, of the crop's upper left, lower left, lower right and upper right.
    """
    left_eye, right_eye, left_mouth, right_mouth = np.asarray(points, np.float64)
    eyes = (left_eye + right_eye) * 0.5
    eye_to_eye = right_eye - left_eye
    eye_to_mouth = (left_mouth + right_mouth) * 0.5 - eyes
    x = eye_to_eye - _quarter_turn(eye_to_mouth)
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = _quarter_turn(x)
    centre = eyes + eye_to_mouth * 0.1
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def align(photo: Picture, quad: Points, side: int) -> tuple[Picture, NDArray[np.float64]]:
    """Cut the square out of the photo.

    Parameters
    ----------
    photo:
        uint8 [H,W,3].
    quad:
        float64 [4,2] from :func:`quadrilateral`; it may stick out of the photo.
    side:
        Of the crop; 1024 in the official recipe.

    Returns
    -------
    crop:
        uint8 [side,side,3].
    transform:
        float64 [3,3], from pixels (x, y, 1) of the photo to pixels of the crop.

    Raises
    ------
    PictureError
        If the square is so much larger than the photo that the padded photo would be too large.
    """
    height, width = photo.shape[:2]
    quad_side = _side(quad)
    shrink = int(np.floor(quad_side / side * 0.5))
    if shrink > 1:
        smaller = (int(np.rint(height / shrink)), int(np.rint(width / shrink)))
        photo = resampling.resize(photo, smaller, resampling.LANCZOS)
        quad, quad_side = quad / shrink, quad_side / shrink
    stretch = np.array([width / photo.shape[1], height / photo.shape[0]])

    photo, corner = _cropped(photo, quad, _border(quad_side))
    quad = quad - corner
    photo, added = _padded(photo, quad, quad_side)
    quad = quad + added
    crop = _sampled(photo, quad, side)

    # Crop to photo: the crop's pixels lie at half steps along the sides of the quadrilateral.
    across, down = (quad[3] - quad[0]) / side, (quad[1] - quad[0]) / side
    first = quad[0] + (across + down) / 2 + corner - added
    to_photo = np.eye(3)
    to_photo[:2] = np.stack([across, down, first], axis=1)
    to_photo[:2] *= stretch[:, None]
    to_photo[:2, 2] += (stretch - 1) / 2  # shrinking keeps edges of pixels, not centres
    return crop, np.asarray(np.linalg.inv(to_photo), np.float64)


def _quarter_turn(vector: Points) -> Points:
    """Turn (x, y) by 90 degrees, clockwise as seen."""
    return np.array([-vector[1], vector[0]])


def _side(quad: Points) -> float:
    return float(np.hypot(*(quad[3] - quad[0])))


def _border(quad_side: float) -> int:
    return max(int(np.rint(quad_side * _BORDER)), _LEAST_BORDER)


def _bounds(quad: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole pixels (x, y) that enclose the quadrilateral."""
    return np.floor(quad.min(axis=0)).astype(np.int64), np.ceil(quad.max(axis=0)).astype(np.int64)


def _cropped(photo: Picture, quad: Points, border: int) -> tuple[Picture, NDArray[np.int64]]:
    """The part around the quadrilateral, and its upper left pixel (x, y) in the photo."""
    size = np.array(photo.shape[1::-1])
    low, high = _bounds(quad)
    low, high = np.maximum(low - border, 0), np.minimum(high + border, size)
    if (high - low >= size).all() or (high <= low).any():  # nothing to crop, or nothing left
        return photo, np.zeros(2, np.int64)
    return photo[low[1] : high[1], low[0] : high[0]], low


def padding(
    size: NDArray[np.int64], quad: Points, quad_side: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How far the recipe pads a photo: (left, top) and (right, bottom), in pixels.

    What it adds is blurred, and so is the photo itself up to a third of that width.

    Parameters
    ----------
    size:
        Width and height of the photo.
    quad, quad_side:
        The quadrilateral and its side.
    """
    border = _border(quad_side)
    low, high = _bounds(quad)
    before, after = np.maximum(border - low, 0), np.maximum(high - size + border, 0)
    if max(*before, *after) <= border - 4:
        return np.zeros(2, np.int64), np.zeros(2, np.int64)
    least = int(np.rint(quad_side * _PADDING))
    return np.maximum(before, least), np.maximum(after, least)


def _padded(photo: Picture, quad: Points, quad_side: float) -> tuple[Picture, NDArray[np.int64]]:
    """Pad where the quadrilateral sticks out; give the pixels added at the left and at the top."""
    before, after = padding(np.array(photo.shape[1::-1]), quad, quad_side)
    if not before.any():
        return photo, before
    (left, top), (right, bottom) = before, after
    check_size(photo.shape[0] + top + bottom, photo.shape[1] + left + right, "the padded photo")
    padded = np.pad(
        photo.astype(np.float32), ((top, bottom), (left, right), (0, 0)), mode="reflect"
    )
    height, width = padded.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    # 1 at the outer edge, 0 where the photo begins, and on downwards inside.
    depth_x = 1 - np.minimum(x / left, (width - 1 - x) / right)
    depth_y = 1 - np.minimum(y / top, (height - 1 - y) / bottom)
    depth = np.maximum(depth_x, depth_y[:, None])[..., None].astype(np.float32)  # [HW1]
    padded += (_blurred(padded, quad_side * _BLUR) - padded) * np.clip(depth * 3 + 1, 0, 1)
    padded += (np.median(padded, axis=(0, 1)) - padded) * np.clip(depth, 0, 1)
    return np.clip(np.rint(padded), 0, 255).astype(np.uint8), before


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of [H,W,3], cut and mirrored as SciPy's: an axis at a time, sums in float64."""
    from ..imaging.opencv import cv2

    radius = int(_BLUR_REACH * sigma + 0.5)
    distances = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 / (sigma * sigma) * distances**2)
    kernel /= kernel.sum()
    one = np.ones(1)
    for kernel_x, kernel_y in ((one, kernel), (kernel, one)):
        image = cv2.sepFilter2D(
            image, cv2.CV_64F, kernel_x, kernel_y, borderType=cv2.BORDER_REFLECT
        ).astype(np.float32)
    return image


def _sampled(photo: Picture, quad: Points, side: int) -> Picture:
    """Pillow's QUAD transform with bilinear sampling, its corners half a pixel on."""
    height, width = photo.shape[:2]
    upper_left, lower_left, lower_right, upper_right = quad + 0.5
    across, down = (upper_right - upper_left) / side, (lower_left - upper_left) / side
    twist = (lower_right - lower_left - upper_right + upper_left) / side / side
    columns = np.arange(side) + 0.5
    crop = np.empty((side, side, 3), np.uint8)
    for top in range(0, side, _ROWS):
        rows = np.arange(top, min(top + _ROWS, side))[:, None] + 0.5
        x, y = (
            upper_left[axis]
            + across[axis] * columns
            + down[axis] * rows
            + twist[axis] * columns * rows
            for axis in (0, 1)
        )
        outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
        x, y = x - 0.5, y - 0.5
        left, upper = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        dx, dy = (x - left)[..., None], (y - upper)[..., None]
        lefts, rights = np.clip(left, 0, width - 1), np.clip(left + 1, 0, width - 1)
        above, below = (
            _mix(photo[line, lefts], photo[line, rights], dx)
            for line in (np.clip(upper, 0, height - 1), np.clip(upper + 1, 0, height - 1))
        )
        values = _mix(above, below, dy)
        values[outside] = 0
        crop[top : top + _ROWS] = values  # truncated, as Pillow does
    return crop


def _mix(first: NDArray[Any], second: NDArray[Any], share: Points) -> Points:
    start = first.astype(np.float64)
    mixed: Points = start + (second - start) * share
    return mixed
