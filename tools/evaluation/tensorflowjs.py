"""Weights as TensorFlow.js stores them: a manifest and binary files beside it, float32 or 8 bits.

The npm package `@vladmandic/face-api` carries its networks so (`npm pack @vladmandic/face-api`,
folder `model`). Nothing of a file is run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperstyle_rt.files import read_regular
from torch import Tensor

from .errors import EvaluationError

MANIFEST_SUFFIX = "weights_manifest.json"
MAX_BYTES = 64 << 20


def read_weights(path: Path, network: str) -> dict[str, Tensor]:
    """The weights of a manifest by name, float32 in their stored layout.

    Parameters
    ----------
    path:
        `<network>-weights_manifest.json`; its binary files lie beside it.
    network:
        What a user is told the file should be.

    Raises
    ------
    EvaluationError
        If a file cannot be read, or is no such manifest.
    """
    try:
        return _read_groups(path)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EvaluationError(f"{path} is not the manifest of {network}: {error}") from error


def _read_groups(path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for group in json.loads(read_regular(path, MAX_BYTES, EvaluationError)):
        parts = [_beside(path, str(name)) for name in group["paths"]]
        data = b"".join(read_regular(part, MAX_BYTES, EvaluationError) for part in parts)
        start = 0
        for entry in group["weights"]:
            array, start = _dequantised(entry, data, start)
            weights[str(entry["name"])] = torch.from_numpy(array)
    return weights


def _beside(path: Path, name: str) -> Path:
    if Path(name).name != name:
        raise EvaluationError(f"{path} names a file outside its folder: {name}")
    return path.parent / name


def _dequantised(entry: dict[str, Any], data: bytes, start: int) -> tuple[Any, int]:
    """One array of the manifest, float32, and where the next one starts."""
    count = int(np.prod(entry["shape"], dtype=np.int64))
    quantisation = entry.get("quantization")
    kind: np.dtype[Any]
    if quantisation is None:
        kind = np.dtype("<f4")
        values = np.frombuffer(data, kind, count, start).copy()
    else:
        kind = np.dtype(np.uint8)
        levels = np.frombuffer(data, kind, count, start).astype(np.float32)
        values = levels * np.float32(quantisation["scale"]) + np.float32(quantisation["min"])
    if entry["dtype"] != "float32" or (quantisation and quantisation["dtype"] != "uint8"):
        raise ValueError(f"{entry['name']} is of another type")
    return values.reshape(entry["shape"]), start + count * kind.itemsize
