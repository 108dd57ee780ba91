"""Large tensors of a graph that sessions of ONNX Runtime read where their file is mapped.

Otherwise each session has tensors of its own, copied and packed for its kernels: twice a gigabyte
for `weights` of the official layout and its adjoint, which read the same file.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..formats.onnx_fields import (
    FLOAT,
    GRAPH_INITIALIZER,
    MODEL_GRAPH,
    TENSOR_DIMS,
    TENSOR_NAME,
    TENSOR_TYPE,
    external_entries,
)
from ..formats.protobuf import Field, fields, varints
from ..formats.verified_files import VerifiedGraph
from .graph_files import MappedFiles
from .ort_library import load_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

_LEAST = 1 << 20  # bytes; what is smaller is left to ONNX Runtime
_NO_PACKING = "session.disable_prepacking"


@dataclass(frozen=True)
class _Tensor:
    """A tensor of float32 that lies in a data file."""

    name: str
    shape: tuple[int, ...]
    file: str
    offset: int


class MappedTensors:
    """The large tensors of one graph, for as long as a session reads them.

    Graphs that a bundle has verified share the mappings of their data files, so that further
    graphs over the same file take no more memory.

    Parameters
    ----------
    verified:
        The graph and the mappings of its data.
    folder:
        Where the data files can be opened.
    """

    def __init__(self, verified: VerifiedGraph, folder: Path) -> None:
        values = load_onnxruntime().OrtValue
        self._files = MappedFiles(folder / name for name in verified.data)
        weakref.finalize(self, self._files.close)  # a thread may be using it when it is let go of
        self._data = verified.data  # the bundle shares a mapping for as long as it is referred to
        self._values: dict[str, onnxruntime.OrtValue] = {}
        for tensor in _tensors(verified.model):
            size = math.prod(tensor.shape)
            if size * 4 >= _LEAST:
                array = np.frombuffer(self._data[tensor.file], np.float32, size, tensor.offset)
                self._values[tensor.name] = values.ortvalue_from_numpy(array.reshape(tensor.shape))

    def give(self, options: onnxruntime.SessionOptions) -> None:
        """Have a session read them here, and pack none."""
        options.add_session_config_entry(_NO_PACKING, "1")
        for name, value in self._values.items():
            options.add_initializer(name, value)

    def check(self) -> None:
        """Refuse to go on if a file was written to since; raises BundleError."""
        self._files.check()


def _tensors(model: bytes) -> Iterator[_Tensor]:
    """The tensors of a model, as its file has it, that are float32 in a data file."""
    for graph in _of(model, MODEL_GRAPH):
        for initializer in _of(graph.content, GRAPH_INITIALIZER):
            tensor = _tensor(initializer.content)
            if tensor is not None:
                yield tensor


def _tensor(message: bytes) -> _Tensor | None:
    external = external_entries(message)
    (kind,) = (field.value for field in _of(message, TENSOR_TYPE))
    if kind != FLOAT or "location" not in external:
        return None
    (name,) = (field.text for field in _of(message, TENSOR_NAME))
    shape = tuple(length for field in _of(message, TENSOR_DIMS) for length in varints(field))
    return _Tensor(name, shape, external["location"], int(external.get("offset", 0)))


def _of(message: bytes, number: int) -> Iterator[Field]:
    return (field for field in fields(message) if field.number == number)
