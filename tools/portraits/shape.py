"""From factors to the head's vertices: morph targets, expression, pose, camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from hyperstyle_rt.photos.alignment import quadrilateral
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from .assets import EYE, HEAD, AssetError, Head
from .factors import SHAPES, SLIDERS, Person

EYES = np.array([0.0, 7.285, 1.245])  # between the eyes in the rest pose
EYE_SPAN, MOUTH_DROP = 0.61, 0.66  # usual distances: eye to eye, eyes to mouth
CAMERA = 11.0  # distance along z
PIVOT = np.array([0.0, 5.85, 0.25])  # of the neck
SLIDER_STRENGTH, SHAPE_STRENGTH = 0.8, 0.7


@dataclass(frozen=True)
class Landmarks:
    """Vertices whose mean is a landmark: both eyes' visible front, both mouth corners."""

    right_eye: NDArray[np.int64]  # the person's right, on the picture's left
    left_eye: NDArray[np.int64]
    right_corner: int
    left_corner: int

    def of(self, points: Array) -> Array:
        """The four landmarks of vertices [V, 3]: eyes, then mouth corners, picture's left first."""
        return np.stack(
            [
                points[self.right_eye].mean(0),
                points[self.left_eye].mean(0),
                points[self.right_corner],
                points[self.left_corner],
            ]
        )


def find_landmarks(head: Head) -> Landmarks:
    """The landmark vertices of the rest pose."""
    eyes = []
    for side in (-1, 1):
        ball = np.unique(head.triangles[head.material == EYE])
        ball = ball[head.rest[ball, 0] * side > 0]
        depth = head.rest[ball, 2]
        eyes.append(ball[depth > depth.mean() + 0.6 * (depth.max() - depth.mean())])
    lips = np.flatnonzero(head.lips > 0.5)
    across = head.rest[lips, 0]
    return Landmarks(eyes[0], eyes[1], int(lips[across.argmin()]), int(lips[across.argmax()]))


class Shaper:
    """Vertices of any person: `Head` with its morph targets indexed by name."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.landmarks = find_landmarks(head)
        self._index = {str(name): i for i, name in enumerate(head.names)}
        missing = sorted(_targets_needed() - self._index.keys())
        if missing:
            raise AssetError(f"the head has no morph target {missing[0]}; prepare it anew")
        self._targets = np.ascontiguousarray(head.targets.reshape(len(head.names), -1))

    def weights(self, person: Person) -> Array:
        """The weight of every morph target [K]."""
        weights = np.zeros(len(self._index), np.float32)

        def add(name: str, value: float) -> None:
            if value:
                weights[self._index[name]] += value

        _add_body(person, add)
        for name, above, below in SLIDERS:
            value = person[name.replace("*-", "")]
            target = above if value > 0 else below
            for side in ("l-", "r-") if "*-" in name else ("",):
                add(target.replace("*-", side), abs(value) * SLIDER_STRENGTH)
        for name in SHAPES:
            add(f"head-{name}", person[f"head-{name}"] * SHAPE_STRENGTH)
        _add_expression(person, add)
        return weights

    def vertices(self, person: Person) -> Array:
        """The unposed head [V, 3], its eyes at EYES, scaled to the usual size of a face."""
        points = self.head.rest.copy()
        _accumulate(self._targets, self.weights(person), points.reshape(-1))
        eyes = self.landmarks.of(points)
        points += (EYES - eyes[:2].mean(0)).astype(np.float32)
        span = np.linalg.norm(eyes[0] - eyes[1])
        drop = abs(eyes[:2, 1].mean() - eyes[2:, 1].mean())
        scale = 1 / (0.62 * span / EYE_SPAN + 0.38 * drop / MOUTH_DROP)
        return np.asarray((points - EYES) * scale + EYES, np.float32)


def _targets_needed() -> set[str]:
    """The targets that sliders and head shapes name."""
    needed = {f"head-{name}" for name in SHAPES}
    for _, above, below in SLIDERS:
        for target in (above, below):
            needed |= {target.replace("*-", side) for side in ("l-", "r-")}
    return needed


def _add_body(person: Person, add: Callable[[str, float], None]) -> None:
    sex, age, weight = person["sex"], person["age"], person["weight"]
    child = 0.8 * max(0.0, (25 - age) / 13)
    old = min(1.0, max(0.0, (age - 25) / 60))
    for sex_name, of_sex in (("male", sex), ("female", 1 - sex)):
        for age_name, of_age in (("child", child), ("young", 1 - child - old), ("old", old)):
            share = of_sex * of_age
            add(f"african-{sex_name}-{age_name}", share * person["african"])
            add(f"asian-{sex_name}-{age_name}", share * person["asian"])
            add(f"caucasian-{sex_name}-{age_name}", share * person["european"])
            body = f"universal-{sex_name}-{age_name}-averagemuscle-"
            add(body + "maxweight", share * max(weight, 0))
            add(body + "minweight", share * max(-weight, 0))


def _add_expression(person: Person, add: Callable[[str, float], None]) -> None:
    smile, brows, frown = person["smile"], person["brow_raise"], person["frown"]
    for side in ("Left", "Right"):
        add(f"expression-mouthSmile{side}", max(smile, 0))
        add(f"expression-mouthFrown{side}", max(-smile, 0) + 0.6 * frown)
        add(f"expression-cheekSquint{side}", 0.6 * max(smile, 0))
        add(f"expression-eyeSquint{side}", 0.35 * max(smile, 0) + 0.5 * person["squint"])
        add(f"expression-eyeBlink{side}", person["lids"])
        add(f"expression-browDown{side}", max(-brows, 0) + 0.4 * frown)
        add(f"expression-browOuterUp{side}", 0.5 * max(brows, 0))
        add(f"expression-mouthUpperUp{side}", 1.1 * max(smile - 0.35, 0))
        add(f"expression-mouthLowerDown{side}", 0.9 * max(smile - 0.4, 0))
    add("expression-browInnerUp", 0.6 * max(brows, 0))
    add("expression-jawOpen", person["mouth_open"] + 0.06 * max(smile - 0.4, 0))


@numba.njit(cache=True)
def _accumulate(targets, weights, points):
    for k in range(weights.shape[0]):
        if weights[k] != 0:
            for i in range(points.shape[0]):
                points[i] += weights[k] * targets[k, i]


@dataclass(frozen=True)
class Pose:
    """The head turned about the neck; the shoulders follow a third of the yaw."""

    head: Array  # [3, 3]
    torso: Array  # [3, 3]

    @staticmethod
    def of(person: Person) -> Pose:
        """The pose of a person's yaw and pitch."""
        yaw, pitch = np.radians([person["yaw"], -person["pitch"]])
        nod = np.array(
            [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
        )
        return Pose((_turn(yaw) @ nod).astype(np.float32), _turn(0.35 * yaw).astype(np.float32))

    def apply(self, points: Array) -> Array:
        """Points [..., 3] in the rest pose, posed."""
        flat = np.ascontiguousarray(points.reshape(-1, 3))
        posed: Array = _posed(flat, self.head, self.torso, PIVOT)
        return posed.reshape(points.shape)


def _turn(angle: float) -> NDArray[np.float64]:
    return np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )


@numba.njit(cache=True, fastmath=True)
def _posed(points, head, torso, pivot):
    out = np.empty_like(points)
    for i in range(points.shape[0]):
        share = min(1.0, max(0.0, (points[i, 1] - 5.45) / 0.75))
        share = share * share * (3 - 2 * share)
        x, y, z = points[i, 0] - pivot[0], points[i, 1] - pivot[1], points[i, 2] - pivot[2]
        for k in range(3):
            turned = head[k, 0] * x + head[k, 1] * y + head[k, 2] * z
            still = torso[k, 0] * x + torso[k, 1] * y + torso[k, 2] * z
            out[i, k] = pivot[k] + share * turned + (1 - share) * still
    return out


@dataclass(frozen=True)
class Camera:
    """A pinhole CAMERA decimetres from the face; pixel = matrix @ (x/d, y/d, 1)."""

    position: NDArray[np.float64]  # [3]
    matrix: NDArray[np.float64]  # [2, 3]

    def project(self, points: Array) -> tuple[Array, Array]:
        """Points [..., 3] to pixels [..., 2] and depth [...] (nearer is larger)."""
        distance = self.position[2] - points[..., 2]
        x = (points[..., 0] - self.position[0]) / distance
        y = (points[..., 1] - self.position[1]) / distance
        flat = np.empty((*points.shape[:-1], 2), np.float32)
        for k in range(2):
            flat[..., k] = self.matrix[k, 0] * x + self.matrix[k, 1] * y + self.matrix[k, 2]
        return flat, np.ascontiguousarray(points[..., 2], np.float32)


def aligned_camera(landmarks: Array, person: Person, size: int) -> Camera:
    """The camera whose picture is framed as FFHQ frames a photo (spec section 7), then jittered.

    landmarks [4, 3] posed (`Landmarks.of`); size in pixels.
    """
    position = np.array([*landmarks[:, :2].mean(0), CAMERA])
    plain = Camera(position, np.array([[1.0, 0, 0], [0, -1.0, 0]]))
    flat = plain.project(landmarks)[0].astype(np.float64)
    corners = quadrilateral(flat)
    centre, right = corners.mean(0), (corners[3] - corners[0]) / 2
    angle = np.radians(person["roll"])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    right = turn @ right / person["zoom"]
    down = np.array([-right[1], right[0]])
    side = 2 * np.linalg.norm(right)
    shift = np.array([person["shift_x"], person["shift_y"]])
    axes = np.stack([right, down]) / np.linalg.norm(right)
    linear = size / side * axes
    offset = size * (0.5 + shift) - linear @ centre
    return Camera(position, np.column_stack([linear * [1, -1], offset]))


def skull_centre(points: Array, head: Head) -> Array:
    """Where HEAD has moved to in an unposed head [V, 3]."""
    top = points[head.grid_vertices[:, 0]].mean((0, 1))
    return np.array([0, top[1] - 1.02, HEAD[2]], np.float32)
