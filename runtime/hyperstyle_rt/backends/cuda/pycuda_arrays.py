"""The native TensorRT backend for programs that use PyCUDA: one context, GPUArrays in and out.

Memory, stream and graphs stay those of cuda-python, as PyCUDA has no CUDA graphs. Both work in the
device's primary context.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...errors import BackendError
from ...formats.bundle import Bundle
from ..protocol import LoopBuffers
from ..tensorrt import TensorrtBackend
from .memory import DeviceBuffer


class PycudaTensorrtBackend(TensorrtBackend):
    """The native TensorRT backend, whose `invert` gives `pycuda.gpuarray.GPUArray`.

    PyCUDA may be initialised before, with `import pycuda.autoprimaryctx`; it is here if it is not.

    Raises
    ------
    BackendError
        If PyCUDA is missing, or its current context is another one than the primary.
    """

    def __init__(self, bundle: Bundle, precision: str) -> None:
        driver, self._arrays = (_import(f"pycuda.{name}") for name in ("driver", "gpuarray"))
        driver.init()
        primary = driver.Device(0).retain_primary_context()
        current = driver.Context.get_current()
        if current is not None and current != primary:
            raise BackendError(
                "PyCUDA works in a context of its own, where these tensors are not; import "
                "pycuda.autoprimaryctx instead of pycuda.autoinit"
            )
        super().__init__(bundle, precision)
        self._pushed = primary if current is None else None
        if self._pushed is not None:
            self._pushed.push()

    def invert(
        self, image: Any, iterations: int | None = None, until: float | None = None
    ) -> LoopBuffers:
        """As :meth:`TensorrtBackend.invert`, with GPUArrays as the result."""
        made = super().invert(image, iterations, until)
        latents, codes, picture = map(self._gpuarray, (made.latents, made.codes, made.image))
        return LoopBuffers(latents, codes, picture, made.iterations)

    def close(self) -> None:
        """Free everything on the device, and leave PyCUDA as it was found."""
        super().close()
        if self._pushed is not None:
            self._pushed.pop()
            self._pushed = None

    def _gpuarray(self, buffer: DeviceBuffer) -> Any:
        """A buffer as PyCUDA sees it; the array keeps it."""
        return self._arrays.GPUArray(
            buffer.shape, buffer.dtype, base=buffer, gpudata=buffer.address
        )


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: the driver's library
        raise BackendError(
            f"{name} cannot be imported ({error}); run: pip install 'hyperstyle-rt[pycuda]', or "
            "use --backend tensorrt"
        ) from None
