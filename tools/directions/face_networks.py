"""Networks of face-api that read age, gender presentation and expression off a face.

The npm package `@vladmandic/face-api` carries their weights (MIT; `npm pack @vladmandic/face-api`,
folder `model`). Both read a square of 112 px around the face; convolutions are TensorFlow's, which
pad below and to the right where they halve a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from evaluation.errors import EvaluationError
from evaluation.tensorflowjs import read_weights
from hyperstyle_export.networks.face_trunk import MEAN_RGB
from torch import Tensor

AGE_GENDER_FILE = "age_gender_model-weights_manifest.json"
EXPRESSION_FILE = "face_expression_model-weights_manifest.json"
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
SIDE = 112
_MAIN_BLOCKS = 2
_DENSE_BLOCKS = 4
_POOL = (7, 2)  # window and stride of the last pooling

Weights = Mapping[str, Tensor]


class AgeGender:
    """face-api's `age_gender_model`: a small Xception."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __call__(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Faces [N,3,112,112] in 0 to 255 -> years [N], and log odds of a masculine face [N]."""
        w = self._weights
        x = F.relu(_convolved(_normalised(faces), w, "entry_flow/conv_in", 2))
        x = self._reduced(x, "entry_flow/reduction_block_0", activate=False)
        x = self._reduced(x, "entry_flow/reduction_block_1")
        for number in range(_MAIN_BLOCKS):
            x = self._main(x, f"middle_flow/main_block_{number}")
        x = self._reduced(x, "exit_flow/reduction_block")
        x = F.relu(_separable(x, w, "exit_flow/separable_conv"))
        pooled = F.avg_pool2d(x, *_POOL).permute(0, 2, 3, 1).flatten(1)
        age = pooled @ w["fc/age/weights"] + w["fc/age/bias"]
        gender = pooled @ w["fc/gender/weights"] + w["fc/gender/bias"]
        return age[:, 0], gender[:, 0] - gender[:, 1]

    def _reduced(self, x: Tensor, name: str, activate: bool = True) -> Tensor:
        w = self._weights
        y = _separable(F.relu(x) if activate else x, w, f"{name}/separable_conv0")
        y = _separable(F.relu(y), w, f"{name}/separable_conv1")
        y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=-torch.inf), 3, 2)
        return y + _convolved(x, w, f"{name}/expansion_conv", 2)

    def _main(self, x: Tensor, name: str) -> Tensor:
        y = x
        for number in range(3):
            y = _separable(F.relu(y), self._weights, f"{name}/separable_conv{number}")
        return x + y


class Expression:
    """face-api's `face_expression_model`: densely connected blocks."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __call__(self, faces: Tensor) -> Tensor:
        """Faces [N,3,112,112] in 0 to 255 -> logits of :data:`EXPRESSIONS` [N,7]."""
        x, w = _normalised(faces), self._weights
        for number in range(_DENSE_BLOCKS):
            x = self._block(x, f"dense{number}", first=number == 0)
        features = F.avg_pool2d(x, *_POOL).permute(0, 2, 3, 1).flatten(1)
        return features @ w["fc/weights"] + w["fc/bias"]

    def _block(self, x: Tensor, name: str, first: bool) -> Tensor:
        w = self._weights
        into = _convolved if first else _separable
        total = F.relu(into(x, w, f"{name}/conv0", 2))
        x = total
        for number in (1, 2, 3):
            total = total + _separable(x, w, f"{name}/conv{number}")
            x = F.relu(total)
        return x


def read_age_gender(folder: Path) -> AgeGender:
    """Read the network from face-api's folder `model`.

    Raises
    ------
    EvaluationError
        If a file is missing, damaged, or of another network.
    """
    weights = read_weights(folder / AGE_GENDER_FILE, "face-api's age_gender_model")
    network = AgeGender(weights)
    _try(network, folder / AGE_GENDER_FILE)
    return network


def read_expression(folder: Path) -> Expression:
    """Read the network from face-api's folder `model`; raises as :func:`read_age_gender`."""
    weights = read_weights(folder / EXPRESSION_FILE, "face-api's face_expression_model")
    network = Expression(weights)
    _try(network, folder / EXPRESSION_FILE)
    return network


def _try(network: AgeGender | Expression, path: Path) -> None:
    """Run it once, so that a file of another network is refused before any work."""
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, SIDE, SIDE))
    except (KeyError, RuntimeError, IndexError) as error:
        raise EvaluationError(f"{path} is of another network: {error}") from error


def _normalised(faces: Tensor) -> Tensor:
    return (faces - torch.tensor(MEAN_RGB)[:, None, None]) / 255


def _padded(x: Tensor, size: int, stride: int) -> Tensor:
    """TensorFlow's padding `same`, for sides that the stride divides."""
    missing = max(size - stride, 0)
    before = missing // 2
    return F.pad(x, (before, missing - before) * 2)


def _convolved(x: Tensor, w: Weights, name: str, stride: int) -> Tensor:
    kernel = w[f"{name}/filters"].permute(3, 2, 0, 1)
    return F.conv2d(_padded(x, kernel.shape[-1], stride), kernel, w[f"{name}/bias"], stride)


def _separable(x: Tensor, w: Weights, name: str, stride: int = 1) -> Tensor:
    depthwise = w[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
    pointwise = w[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
    padded = _padded(x, depthwise.shape[-1], stride)
    y = F.conv2d(padded, depthwise, None, stride, groups=x.shape[1])
    return F.conv2d(y, pointwise, w[f"{name}/bias"])
