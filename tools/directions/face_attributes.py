"""What networks of others read off a face that is aligned as FFHQ's are: age, smile, pose and more.

Age, gender presentation and expression come from face-api (:mod:`face_networks`), pose and openings
from the face mesh that the runtime aligns photos with. None of them has been trained on pictures of
a generator, and none is known to the networks that invert.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hyperstyle_rt.imaging.pictures import resize_bilinear
from hyperstyle_rt.photos.face_models import run_model
from numpy.typing import NDArray
from torch import Tensor

from directions.face_networks import EXPRESSIONS, SIDE, read_age_gender, read_expression

Pictures = NDArray[np.uint8]
Array = NDArray[np.float32]

ATTRIBUTES = (
    "age", "masculinity", "smile", "yaw", "pitch", "roll", "mouth_open", "eyes_open", "mouth_width",
)  # fmt: skip
"""Years; log odds of a masculine face and of a happy one; degrees to the right of the picture,
upwards and clockwise; openings of mouth and eyes, and the mouth's width, in widths of the face."""

# Parts of an aligned crop, as shares of its side: left, top, side.
_FACE = (0.17, 0.29, 0.66)
_MESH_FACE = (0.06, 0.12, 0.88)
_MESH_SIDE = 192
_BATCH = 32

# Vertices of MediaPipe's face mesh; left and right as seen.
_SIDES, _FOREHEAD, _CHIN = (234, 454), 10, 152
_LIPS, _MOUTH_CORNERS = (13, 14), (61, 291)
_LIDS = ((159, 145), (386, 374))


class FaceReader:
    """Reads attributes off aligned faces.

    Parameters
    ----------
    folder:
        `model` of the npm package `@vladmandic/face-api`.

    Raises
    ------
    EvaluationError
        If a network's file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._age_gender = read_age_gender(folder)
        self._expression = read_expression(folder)

    def read(self, pictures: Pictures) -> Array:
        """Attributes [N,A] of pictures uint8 [N,h,w,3], RGB, as :data:`ATTRIBUTES` names them."""
        parts = [
            self._read_networks(pictures[start : start + _BATCH])
            for start in range(0, len(pictures), _BATCH)
        ]
        shapes = np.stack([shape_of(mesh_of(picture)) for picture in pictures])
        return np.concatenate([np.concatenate(parts), shapes], axis=1).astype(np.float32)

    def _read_networks(self, pictures: Pictures) -> Array:
        planes = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()
        faces = F.interpolate(
            _cut(planes, _FACE), (SIDE, SIDE), mode="bilinear", antialias=True
        ).clamp(0, 255)
        with torch.inference_mode():
            age, masculinity = self._age_gender(faces)
            smile = log_odds(self._expression(faces), EXPRESSIONS.index("happy"))
        return torch.stack([age, masculinity, smile], dim=1).numpy()


def log_odds(logits: Tensor, of: int) -> Tensor:
    """Log odds of one class against all others, [N,C] -> [N]."""
    others = torch.cat([logits[:, :of], logits[:, of + 1 :]], dim=1)
    return logits[:, of] - others.logsumexp(dim=1)


def mesh_of(picture: Pictures) -> NDArray[np.float64]:
    """The face mesh [468,3] of an aligned picture uint8 [h,w,3]; only its shape matters."""
    left, top, side = (round(share * len(picture)) for share in _MESH_FACE)
    inner = picture[top : top + side, left : left + side]
    points, _presence = run_model("face_mesh.onnx", resize_bilinear(inner, (_MESH_SIDE,) * 2))
    return points.reshape(-1, 3)


def shape_of(mesh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pose and openings of a mesh [468,3], those of :data:`ATTRIBUTES` from `yaw` on.

    Lengths are measured in space, so a turned face keeps them.
    """
    across = mesh[_SIDES[1]] - mesh[_SIDES[0]]
    down = mesh[_CHIN] - mesh[_FOREHEAD]
    width = float(np.linalg.norm(across))
    yaw = np.degrees(np.arctan2(across[2], across[0]))
    pitch = np.degrees(np.arctan2(-down[2], down[1]))
    roll = np.degrees(np.arctan2(across[1], across[0]))
    eyes = float(np.mean([_distance(mesh, *lids) for lids in _LIDS]))
    lengths = [_distance(mesh, *_LIPS), eyes, _distance(mesh, *_MOUTH_CORNERS)]
    return np.array([yaw, pitch, roll, *(length / width for length in lengths)])


def _distance(mesh: NDArray[np.float64], first: int, second: int) -> float:
    return float(np.linalg.norm(mesh[first] - mesh[second]))


def _cut(planes: Tensor, part: tuple[float, float, float]) -> Tensor:
    left, top, side = (round(share * planes.shape[-1]) for share in part)
    return planes[:, :, top : top + side, left : left + side]
