"""Small safetensors files in memory: arrays and metadata to bytes and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from . import strict_json


@dataclass(frozen=True)
class TensorFile:
    """What a safetensors file holds."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str]


def parse(data: bytes) -> TensorFile:
    """Parse a whole safetensors file.

    The tensors come from the safetensors library, which checks the layout (offsets, overlaps,
    trailing bytes). It hands out no metadata for a file in memory, so the header it has accepted is
    read again.

    Raises
    ------
    ValueError
        If the file is damaged; the text completes the sentence "the file ...".
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"is not a safetensors file ({error})") from None
    except (KeyError, ValueError, OverflowError):
        # The library checks the layout of every type and shape, numpy cannot hold all of them.
        raise ValueError("holds a tensor of a type or shape that numpy does not have") from None
    length = int.from_bytes(data[:8], "little")
    header = strict_json.parse(data[8 : 8 + length])
    assert isinstance(header, dict)  # the library has checked it
    return TensorFile(tensors, header.get("__metadata__") or {})


def serialize(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Make a whole safetensors file; the same content always gives the same bytes.

    The library writes metadata in random order, so its header is written again in sorted order.
    """
    # The library stores the memory of an array, whatever its strides say.
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    data = save(contiguous, dict(metadata))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
    return len(header).to_bytes(8, "little") + header + data[start:]
