"""Landmarks like dlib's, from face-api's small network: a second opinion for measurements.

The network (MIT) is in the npm package `@vladmandic/face-api`: `npm pack @vladmandic/face-api`,
unpack, and name its folder `model`. It is not shipped: it is less accurate than what the runtime
uses, but was trained on landmarks of dlib's definition and has nothing to do with MediaPipe.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from hyperstyle_rt.types import Doubles
from numpy.typing import NDArray

_SIDE = 112
_MEAN_RGB = (122.782, 117.001, 104.298)
# (scale, right, down): crops around the face, in its sides; their landmarks are averaged.
_CROPS = ((1.0, 0, 0), (1.1, 0, 0), (1.2, 0, 0), (1.1, 0.05, 0), (1.1, -0.05, 0), (1.1, 0, 0.05))


class Landmarks68:
    """The network `face_landmark_68_model`, read from its folder."""

    def __init__(self, folder: Path) -> None:
        stem = folder / "face_landmark_68_model"
        (manifest,) = json.loads(Path(f"{stem}-weights_manifest.json").read_text())
        data = Path(f"{stem}.bin").read_bytes()
        self._weights: dict[str, torch.Tensor] = {}
        start = 0
        for entry in manifest["weights"]:  # all are uint8 with a scale and a minimum
            size = int(np.prod(entry["shape"]))
            levels = np.frombuffer(data, np.uint8, size, start).astype(np.float32)
            values = levels * entry["quantization"]["scale"] + entry["quantization"]["min"]
            self._weights[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
            start += size

    def __call__(self, photo: NDArray[np.uint8], points: Doubles) -> Doubles:
        """Landmarks [68,2] of the face at roughly these points [4,2] of a photo."""
        eyes, mouth = points[:2].mean(axis=0), points[2:].mean(axis=0)
        across = points[1] - points[0]
        length = np.hypot(*across)
        turn = np.array([[across[0], -across[1]], [across[1], across[0]]]) / length
        face = 2.35 * max(length, np.hypot(*(mouth - eyes)))
        found = []
        for scale, right, down in _CROPS:
            side = face * scale
            centre = eyes + 0.48 * (mouth - eyes) + turn @ [right * face, down * face]
            step = max(1, int(side // _SIDE))  # so that nothing is skipped
            fine = _SIDE * step
            linear = turn * side / fine
            matrix = np.column_stack([linear, centre - linear @ np.full(2, (fine - 1) / 2)])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            crop = cv2.warpAffine(photo, matrix, (fine, fine), flags=flags)
            crop = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            places = self._run(crop.astype(np.uint8)) * step - 0.5
            found.append(places @ matrix[:, :2].T + matrix[:, 2])
        return np.mean(found, axis=0)

    @torch.no_grad()
    def _run(self, crop: NDArray[np.uint8]) -> Doubles:
        """Landmarks [68,2] in a crop [112,112,3], counted from its edges."""
        x = (torch.from_numpy(crop).float() - torch.tensor(_MEAN_RGB)) / 255
        x = x.permute(2, 0, 1)[None]
        for number in range(4):
            x = self._block(x, f"dense{number}")
        x = F.avg_pool2d(x, 7, 2).flatten(1) @ self._weights["fc/weights"]
        return (x + self._weights["fc/bias"]).view(68, 2).double().numpy() * _SIDE

    def _block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        first = F.relu(self._convolution(x, f"{name}/conv0", 2))
        second = self._convolution(first, f"{name}/conv1", 1)
        third = self._convolution(F.relu(first + second), f"{name}/conv2", 1)
        fourth = self._convolution(F.relu(first + second + third), f"{name}/conv3", 1)
        return F.relu(first + second + third + fourth)

    def _convolution(self, x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        missing = 1 if stride == 2 else 2  # "same" padding, the odd pixel behind
        x = F.pad(x, (missing // 2, missing - missing // 2) * 2)
        bias = self._weights[f"{name}/bias"]
        if f"{name}/filters" in self._weights:
            kernel = self._weights[f"{name}/filters"].permute(3, 2, 0, 1)
            return F.conv2d(x, kernel, bias, stride)
        kernel = self._weights[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
        x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1])
        return F.conv2d(x, self._weights[f"{name}/pointwise_filter"].permute(3, 2, 0, 1), bias)
