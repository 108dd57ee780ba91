"""Faces in photos, with three small networks of MediaPipe's through ONNX Runtime.

A detector (BlazeFace, full range) proposes faces at several scales. On each, a face mesh of 468
points finds the mouth and, roughly, the eyes, and a network for one eye finds the eyes' contours.
`face_models` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Doubles, Picture
from .face_models import run_model

# How the detector looks: the longer side of the photo, and how much of it is added as a black frame
# on every side, without which faces that fill the photo go unseen.
_LOOKS = ((96, 0.5), (384, 0.0), (768, 0.0))
_STRIDE, _MULTIPLE = 4, 32  # of its grid; of which its input's sides must be multiples
_LEAST_SCORE = 0.5
# Where all faces are wanted, it looks again in tiles of the photo, at half of its resolution and at
# every further half above the looks at the whole. It sees faces from about 16 pixels, so those from
# 32 pixels of the photo; smaller ones have too few pixels to invert. What is wider than the tiles
# overlap is seen in a coarser look.
_TILE, _TILE_OVERLAP = 768, 128
_COVERED = 0.5  # of the smaller of two boxes: then they are of one face
_SAME_FACE = 0.3  # intersection over union

# Mesh: side of its input, and the part of a face around its box that it wants to see. It looks
# again around the points it has found, at least once and until the face stands upright.
_MESH_SIDE, _MESH_SCALE = 192, 1.5
_MESH_ROUNDS, _UPRIGHT = range(1, 6), np.cos(np.radians(5))
_MOUTH_CORNERS = (61, 291)  # its vertices; left and right as seen, here and below
_EYE_CORNERS = ((33, 133), (362, 263))

# Eye: side of its input, and its width in eyes. Its points where dlib has 36 to 41.
_EYE_SIDE, _EYE_SCALE = 64, 2.3
_EYE_CONTOUR = (0, 11, 13, 8, 5, 3)
# Measured on photos in the mirror and on renderings: the mesh counts pixels from the centre of the
# first one, the eye's network from its edge.
_EYE_ORIGIN = 0.5


@dataclass(frozen=True, eq=False)
class Face:
    """A face of a photo.

    Attributes
    ----------
    score:
        Of the detector, 0 to 1.
    box:
        float64 [4]: left, top, right, bottom in pixels of the photo; may stick out.
    points:
        float64 [4,2], as `alignment.face_points` gives them.
    """

    score: float
    box: Doubles
    points: Doubles


def find_faces(photo: Picture) -> list[Face]:
    """Find the faces of a photo, the largest first; also the small ones of a group.

    Where none is upright (within about 45 degrees), the photo is looked at from the other sides;
    for faces that only show in parts of it, it is not.

    Parameters
    ----------
    photo:
        uint8 [H,W,3] RGB.

    Raises
    ------
    RuntimeError
        If the packaged models are not those of this release.
    """
    return _from_all_sides(photo, _add_small) or _add_small(photo, [])


def find_prominent_faces(photo: Picture) -> list[Face]:
    """Find the faces that show in the photo as a whole, the largest first; if none, small ones.

    What :func:`find_faces` finds beside these is smaller, so this is enough, and much less work,
    where only the largest face is wanted.

    Raises
    ------
    RuntimeError
        As there.
    """
    return _from_all_sides(photo, lambda _, faces: faces) or _add_small(photo, [])


def _from_all_sides(photo: Picture, add: Callable[[Picture, list[Face]], list[Face]]) -> list[Face]:
    """The faces of the photo turned so that some are upright, and what `add` makes of them."""
    for quarter_turns in (0, 1, 3, 2):
        turned = np.ascontiguousarray(np.rot90(photo, quarter_turns))
        if faces := _find_prominent(turned):
            faces = add(turned, faces)
            return [_turned_back(face, photo.shape[:2], quarter_turns) for face in faces]
    return []


def _find_prominent(photo: Picture) -> list[Face]:
    located = [_locate(photo, *detection) for detection in _detect(photo)]
    faces = sorted((face for face in located if face is not None), key=lambda face: -face.score)
    kept: list[Face] = []
    for face in faces:  # two boxes may have led to one face
        if all(_overlap(face.box, other.box[None])[0] < _SAME_FACE for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: -_area(face.box))


def _add_small(photo: Picture, faces: list[Face]) -> list[Face]:
    """Add the faces that only show in tiles of the photo; those found before stay as they are."""
    kept = list(faces)
    for score, box, keypoints in _merged(*_detect_in_tiles(photo)):
        if any(_are_of_one_face(box, other.box) for other in kept):
            continue
        face = _locate(photo, score, box, keypoints)
        if face is not None and not any(_are_of_one_face(face.box, other.box) for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: -_area(face.box))


def _turned_back(face: Face, shape: tuple[int, ...], quarter_turns: int) -> Face:
    """Undo `np.rot90` for a face found in a turned photo; `shape` is the photo's own."""
    height, width = shape

    def back(points: Doubles) -> Doubles:
        x, y = points.T
        places = {0: (x, y), 1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y)}
        return np.stack(places.get(quarter_turns, (y, height - 1 - x)), axis=1)

    corners = back(face.box.reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return Face(face.score, box, back(face.points))


def _detect(photo: Picture) -> list[tuple[float, Doubles, Doubles]]:
    """Scores, boxes [4] and six key points [6,2] of faces, in pixels of the photo."""
    longer = max(photo.shape[:2])
    found = [
        _detections(photo, side, round(side * frame))
        for side, frame in _LOOKS
        if frame or side <= 1.5 * longer
    ]
    scores = np.concatenate([each[0] for each in found])
    values = np.concatenate([each[1] for each in found])  # [N,16]: box, key points
    return list(_merged(scores, values))


def _merged(scores: Doubles, values: Doubles) -> Iterator[tuple[float, Doubles, Doubles]]:
    """Make one of all detections of a face: the surest first."""
    while len(scores):
        best = int(scores.argmax())
        same = _overlap(values[best, :4], values[:, :4]) >= _SAME_FACE
        same[best] = True
        mean = np.average(values[same], axis=0, weights=scores[same])
        yield float(scores[best]), mean[:4], mean[4:].reshape(6, 2)
        scores, values = scores[~same], values[~same]


def _detect_in_tiles(photo: Picture) -> tuple[Doubles, Doubles]:
    """Scores [N] and values [N,16], as of :func:`_detections`, of small faces."""
    from ..imaging.opencv import cv2

    found = [(np.empty(0), np.empty((0, 16)))]
    side = max(photo.shape[:2]) / 2
    while side > _TILE:
        scale = side / max(photo.shape[:2])
        height, width = (max(1, round(n * scale)) for n in photo.shape[:2])
        level: Any = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        stretch = np.array([photo.shape[1] / width, photo.shape[0] / height])
        for top in _tile_starts(height):
            for left in _tile_starts(width):
                tile = np.ascontiguousarray(level[top : top + _TILE, left : left + _TILE])
                scores, values = _detections(tile, max(tile.shape[:2]), 0)
                whole = _lies_inside(values, (left, top), (width, height))
                moved = (values[whole].reshape(-1, 8, 2) + (left, top) + 0.5) * stretch - 0.5
                found.append((scores[whole], moved.reshape(-1, 16)))
        side /= 2
    return np.concatenate([each[0] for each in found]), np.concatenate([each[1] for each in found])


def _tile_starts(length: int) -> list[int]:
    """Where tiles begin that cover a side, evenly spread, each overlapping the next."""
    count = max(1, -(-(length - _TILE_OVERLAP) // (_TILE - _TILE_OVERLAP)))
    return [round(n * (length - _TILE) / max(1, count - 1)) for n in range(count)]


def _lies_inside(
    values: Doubles, start: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Whether boxes [N] end before their tile does, except where the photo ends there too."""
    low, high = values[:, :2], values[:, 2:4]
    at_start = np.array(start) == 0
    at_end = np.array(start) + _TILE >= size
    return np.asarray(
        ((low > 0) | at_start).all(axis=1) & ((high < _TILE - 1) | at_end).all(axis=1)
    )


def _detections(photo: Picture, side: int, frame: int) -> tuple[Doubles, Doubles]:
    """Scores [N] and values [N,16] at one scale: left, top, right, bottom, six key points.

    The photo is scaled to a longer side of `side` and framed by `frame` pixels.
    """
    from ..imaging.opencv import cv2

    height, width = photo.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = (-(-(n + 2 * frame) // _MULTIPLE) * _MULTIPLE for n in small.shape[:2])
    padded = np.zeros((*canvas, 3), np.uint8)
    padded[frame : frame + size[1], frame : frame + size[0]] = small
    boxes, raw_scores = run_model("face_detector.onnx", padded, 2, -1)
    scores = 1 / (1 + np.exp(-raw_scores[:, 0]))
    values = boxes.reshape(-1, 8, 2)  # centre, size, key points
    columns = padded.shape[1] // _STRIDE
    cells = np.arange(len(scores))
    anchors = np.stack([cells % columns, cells // columns], axis=1) * _STRIDE + _STRIDE / 2 - frame
    sure = scores >= _LEAST_SCORE
    scores, values, anchors = scores[sure], values[sure], anchors[sure]
    centres, halves = values[:, 0] + anchors, values[:, 1] / 2
    values[:, 0], values[:, 1] = centres - halves, centres + halves
    values[:, 2:] += anchors[:, None]
    stretch = np.array([width / size[0], height / size[1]])
    return scores, (values * stretch - 0.5).reshape(-1, 16)


def _locate(photo: Picture, score: float, box: Doubles, keypoints: Doubles) -> Face | None:
    """Find the points of a detected face; None if the mesh sees no face there."""
    centre, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    across = keypoints[1] - keypoints[0]  # from eye to eye, if the face is not upside down
    down = np.array([-across[1], across[0]])
    axes = (across, down, -across, -down)
    axis = max(axes, key=lambda axis: _mesh(photo, centre, side, axis)[1])
    for look in _MESH_ROUNDS:
        before = axis / np.hypot(*axis)
        mesh, presence = _mesh(photo, centre, side, axis)
        if presence < 0:  # a logit: rather no face than a face
            return None
        axis = mesh[list(_EYE_CORNERS[1])].mean(axis=0) - mesh[list(_EYE_CORNERS[0])].mean(axis=0)
        upright = mesh @ _rotation(axis).T
        low, high = upright.min(axis=0), upright.max(axis=0)
        centre, side = (low + high) / 2 @ _rotation(axis), float((high - low).max())
        if look > 1 and axis @ before > _UPRIGHT * np.hypot(*axis):
            break
    left_eye, right_eye = (
        _eye(photo, mesh[list(corners)], mirrored)
        for corners, mirrored in zip(_EYE_CORNERS, (False, True), strict=True)
    )
    landmarks = np.array([left_eye, right_eye, *mesh[list(_MOUTH_CORNERS)]])
    return Face(score, np.concatenate([mesh.min(axis=0), mesh.max(axis=0)]), landmarks)


def _mesh(photo: Picture, centre: Doubles, side: float, axis: Doubles) -> tuple[Doubles, float]:
    """The mesh [468,2] of a face of that size and direction, and how sure it is of one (logit)."""
    crop, to_photo = _cut_out(photo, centre, side * _MESH_SCALE, axis, _MESH_SIDE)
    points, presence = run_model("face_mesh.onnx", crop)
    return _mapped(points[:, :2], to_photo), float(presence[0, 0])


def _eye(photo: Picture, corners: Doubles, mirrored: bool) -> Doubles:
    """Centre [2] of an eye's contour, as dlib's landmarks give it.

    `corners` [2,2] are its corners from left to right, roughly. The network knows left eyes; a
    right one is shown to it in the mirror.
    """
    axis = corners[1] - corners[0]
    side = float(np.hypot(*axis)) * _EYE_SCALE
    crop, to_photo = _cut_out(photo, corners.mean(axis=0), side, axis, _EYE_SIDE)
    if mirrored:
        crop = crop[:, ::-1]
    (points,) = run_model("eye_contour.onnx", crop)
    centre = points[list(_EYE_CONTOUR), :2].mean(axis=0) - _EYE_ORIGIN
    if mirrored:
        centre[0] = _EYE_SIDE - 1 - centre[0]
    return _mapped(centre, to_photo)


def _cut_out(
    photo: Picture, centre: Doubles, side: float, axis: Doubles, pixels: int
) -> tuple[Picture, Doubles]:
    """Cut a square out of the photo, its upper edge along `axis`, black outside the photo.

    Returns
    -------
    crop:
        uint8 [pixels,pixels,3].
    to_photo:
        float64 [2,3], from pixels of the crop to pixels of the photo.
    """
    from ..imaging.opencv import cv2

    turn = _rotation(axis).T * (side / pixels)
    to_photo = np.column_stack([turn, centre - turn @ np.full(2, (pixels - 1) / 2)])
    reach = side * 0.75  # half the diagonal, and a little
    low = np.maximum(np.floor(centre - reach), 0).astype(np.int64)
    high = np.minimum(np.ceil(centre + reach), photo.shape[1::-1]).astype(np.int64)
    if (high <= low).any():
        return np.zeros((pixels, pixels, 3), np.uint8), to_photo
    part: Any = photo[low[1] : high[1], low[0] : high[0]]
    shrink = np.ones(2)
    if side >= 2 * pixels:  # else bilinear sampling would skip pixels
        size = np.maximum(np.array(part.shape[1::-1]) * pixels // int(side), 1)
        shrink = np.array(part.shape[1::-1]) / size
        part = cv2.resize(part, size.tolist(), interpolation=cv2.INTER_AREA)
    to_part = to_photo.copy()
    to_part[:, 2] -= low
    to_part /= shrink[:, None]
    to_part[:, 2] += 0.5 / shrink - 0.5  # shrinking keeps edges of pixels, not centres
    crop: Any = cv2.warpAffine(
        np.ascontiguousarray(part),
        to_part,
        (pixels, pixels),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return crop, to_photo


def _mapped(points: Doubles, transform: Doubles) -> Doubles:
    """Points [...,2] through a transform [2,3]."""
    mapped: Doubles = points @ transform[:, :2].T + transform[:, 2]
    return mapped


def _rotation(axis: Doubles) -> Doubles:
    """[2,2]: turns `axis` to the right."""
    x, y = axis / np.hypot(*axis)
    return np.array([[x, y], [-y, x]])


def _area(box: Doubles) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def _overlap(box: Doubles, boxes: Doubles) -> Doubles:
    """Intersection over union of a box [4] and boxes [N,4]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(shared / np.maximum(_area(box) + areas - shared, 1e-9))


def _are_of_one_face(box: Doubles, other: Doubles) -> bool:
    """Whether two boxes overlap, or one lies largely within the other (an eye in a large face)."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    smaller = min(_area(box), _area(other))
    return bool(_overlap(box, other[None])[0] >= _SAME_FACE) or shared >= _COVERED * smaller
