"""Backends: what runs a bundle's graphs. A host chains them without copying tensors to itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BackendError

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
Buffers = dict[str, Any]
"""Tensor name -> a tensor where the backend keeps it."""

BACKENDS = ("auto", "cpu", "cuda")


class Backend(Protocol):
    """Runs graphs by role. Tensors are bound by name and stay where the backend keeps them."""

    @property
    def provider(self) -> str:
        """What really runs the graphs, for people: ``ONNX Runtime CPUExecutionProvider``."""
        ...

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on buffers of this backend; gives all its outputs by name."""
        ...

    def upload(self, array: Array) -> Any:
        """Copy a float32 array to where the backend keeps tensors."""
        ...

    def download(self, buffer: Any) -> Array:
        """Copy a buffer into an array of its own."""
        ...


def open_backend(name: str, bundle: Bundle, threads: int | None) -> Backend:
    """Open a backend by its name: one of :data:`BACKENDS`.

    Parameters
    ----------
    name:
        ``auto`` takes CUDA where ONNX Runtime can really use it, the CPU otherwise; ``cuda`` never
        falls back.
    threads:
        Threads of one operator on the CPU; None for ONNX Runtime's own choice.

    Raises
    ------
    BackendError
        If there is no such backend, or it is not usable on this machine.
    """
    from .onnxruntime import OnnxRuntimeBackend, usable_providers

    if name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if name == "auto":
        if "cuda" in usable_providers():
            try:
                return OnnxRuntimeBackend(bundle, "cuda", threads)
            except BackendError as error:
                logger.warning("%s; using the CPU", error)
        name = "cpu"
    return OnnxRuntimeBackend(bundle, name, threads)
