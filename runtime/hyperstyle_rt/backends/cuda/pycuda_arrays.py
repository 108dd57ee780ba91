"""The native TensorRT backend for programs that use PyCUDA: one context, GPUArrays in and out.

Memory, stream and graphs stay those of cuda-python, as PyCUDA has no CUDA graphs. Both work in the
device's primary context.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

from ...errors import BackendError
from ...formats.bundle import Bundle
from ..plans.engines import Engines
from ..tensorrt import TensorrtBackend, probe_tensorrt
from .memory import DeviceBuffer


def open_beside_pycuda(
    name: str, bundle: Bundle, threads: int | None, precision: str, device: int | None
) -> PycudaTensorrtBackend:
    """Open the backend; raises as :func:`~hyperstyle_rt.backends.tensorrt.open_tensorrt`."""
    require_pycuda()
    return PycudaTensorrtBackend(name, Engines(bundle, precision))


def probe_beside_pycuda(name: str) -> str | None:
    """Ask for PyCUDA and what :mod:`tensorrt` needs; gives None, or why they cannot be used."""
    try:
        require_pycuda()
    except BackendError as error:
        return str(error)
    return probe_tensorrt(name)


class PycudaTensorrtBackend(TensorrtBackend):
    """The native TensorRT backend, which shares buffers as `pycuda.gpuarray.GPUArray`.

    PyCUDA may be initialised before, with `import pycuda.autoprimaryctx`; it is here if it is not.

    Raises
    ------
    BackendError
        If PyCUDA is missing, or its current context is another one than the primary.
    """

    def __init__(self, name: str, engines: Engines, *, owns_engines: bool = True) -> None:
        driver, self._arrays = require_pycuda()
        driver.init()
        primary = driver.Device(0).retain_primary_context()
        current = driver.Context.get_current()
        if current is not None and current != primary:
            raise BackendError(
                "PyCUDA works in a context of its own, where these tensors are not; import "
                "pycuda.autoprimaryctx instead of pycuda.autoinit"
            )
        super().__init__(name, engines, owns_engines=owns_engines)
        self._pushed = primary if current is None else None
        self._thread = threading.get_ident()  # contexts are on the stack of a thread
        if self._pushed is not None:
            self._pushed.push()

    def share(self, buffer: DeviceBuffer) -> Any:
        """Wait for the device; gives the buffer as PyCUDA sees it, in an array that keeps it."""
        super().share(buffer)
        return self._arrays.GPUArray(
            buffer.shape, buffer.dtype, base=buffer, gpudata=buffer.address
        )

    def close(self) -> None:
        """Free everything on the device, and leave PyCUDA as it was found."""
        super().close()
        pushed, self._pushed = self._pushed, None
        if pushed is not None and self._thread == threading.get_ident():
            pushed.pop()


def require_pycuda() -> tuple[Any, Any]:
    """PyCUDA's modules ``driver`` and ``gpuarray``.

    Raises
    ------
    BackendError
        If PyCUDA is missing.
    """
    return _import("pycuda.driver"), _import("pycuda.gpuarray")


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: the driver's library
        raise BackendError(
            f"{name} cannot be imported ({error}); run: pip install 'hyperstyle-rt[pycuda]', or "
            "use --backend tensorrt"
        ) from None
