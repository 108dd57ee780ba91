"""The backends there are, by name."""

from __future__ import annotations

import logging

from ..errors import BackendError
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION
from .protocol import Backend

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "cpu", "cuda", "tensorrt", "tensorrt-pycuda", "ort-tensorrt")


def open_backend(
    name: str, bundle: Bundle, threads: int | None, precision: str = BASE_PRECISION
) -> Backend:
    """Open a backend by its name: one of :data:`BACKENDS`.

    Parameters
    ----------
    name:
        ``auto`` takes CUDA where ONNX Runtime can really use it, the CPU otherwise; the others
        never fall back. ``tensorrt`` runs TensorRT plans itself, ``tensorrt-pycuda`` does so beside
        PyCUDA, ``ort-tensorrt`` lets ONNX Runtime run the bundle's plans.
    threads:
        Threads of one operator on the CPU; None for ONNX Runtime's own choice.
    precision:
        ``fp32`` or another one the bundle has graphs in.

    Raises
    ------
    BackendError
        If there is no such backend, or it is not usable on this machine.
    """
    if name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if name == "tensorrt":
        from .tensorrt import TensorrtBackend

        return TensorrtBackend(bundle, precision)
    if name == "tensorrt-pycuda":
        from .cuda.pycuda_arrays import PycudaTensorrtBackend

        return PycudaTensorrtBackend(bundle, precision)
    from .ort import OnnxRuntimeBackend, usable_providers

    if name == "auto":
        if "cuda" in usable_providers():
            try:
                return OnnxRuntimeBackend(bundle, "cuda", threads, precision)
            except BackendError as error:
                logger.warning("%s; using the CPU", error)
        name = "cpu"
    return OnnxRuntimeBackend(bundle, name, threads, precision)
