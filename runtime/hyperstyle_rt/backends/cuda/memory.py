"""Device memory, pinned memory, one stream and graphs, through cuda-python's runtime bindings.

They work in the device's primary context, which PyTorch, CuPy, Numba and `pycuda.autoprimaryctx`
use, too: addresses are valid in all of them.

All work of a backend is queued on one stream. The memory of a buffer without references can
therefore be reused at once: later writes to it are queued behind all earlier work.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...errors import BackendError
from . import dlpack

_HOST_TO_DEVICE, _DEVICE_TO_HOST, _DEVICE_TO_DEVICE = (
    "cudaMemcpyHostToDevice",
    "cudaMemcpyDeviceToHost",
    "cudaMemcpyDeviceToDevice",
)

Pool = dict[int, list[int]]
"""Size -> addresses of free blocks of that size."""


@dataclass(frozen=True, eq=False)
class DeviceBuffer:
    """A contiguous tensor in device memory; other libraries see it without a copy.

    Attributes
    ----------
    address:
        Device pointer.
    shape, dtype:
        Of the tensor.
    device:
        Number of the GPU.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: int = 0

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol of CuPy, Numba, PyTorch, PyCUDA; synchronise before use."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where it lies, as DLPack has it."""
        return dlpack.CUDA, self.device

    def __dlpack__(self, *, stream: Any = None, **_newer: Any) -> Any:
        """Give a DLPack capsule, which keeps the buffer; synchronise before use."""
        return dlpack.capsule_of(
            self.address, self.shape, self.dtype, self.__dlpack_device__(), self
        )


@dataclass(frozen=True, eq=False)
class Reading:
    """A copy to the host that is under way.

    Attributes
    ----------
    address:
        Pinned memory it goes to.
    event:
        CUDA event that follows it on the stream.
    shape, dtype:
        Of the tensor.
    """

    address: int
    event: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def cuda_runtime() -> Any:
    """CUDA's runtime as cuda-python has it.

    Raises
    ------
    BackendError
        If cuda-python is missing.
    """
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendError(
            f"cuda-python cannot be imported ({error}); run: pip install 'hyperstyle-rt[gpu]'"
        ) from None


class Cuda:
    """One device with one stream, and the memory that is used on it.

    Raises
    ------
    BackendError
        If cuda-python is missing or the device cannot be used.
    """

    def __init__(self, device: int = 0) -> None:
        self._api = cuda_runtime()
        self._call("cudaSetDevice", device)
        (self.stream,) = self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking)
        self._free: Pool = defaultdict(list)
        self._spare: Pool = {}  # free memory of others that a private pool may take for good
        self._allocated: list[int] = []
        self._pinned: tuple[int, int] = (0, 0)  # address, size
        self._reading: Reading | None = None
        self._device = device
        self._closed = False

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceBuffer:
        """A buffer with arbitrary content; its memory is reused once no reference to it is left."""
        dtype = np.dtype(dtype)
        size = max(math.prod(shape) * dtype.itemsize, 1)
        if self._free[size]:
            address = self._free[size].pop()
        elif self._spare.get(size):
            address = self._spare[size].pop()
        else:
            address = int(self._call("cudaMalloc", size)[0])
            self._allocated.append(address)
        buffer = DeviceBuffer(address, shape, dtype, self._device)
        weakref.finalize(buffer, self._free[size].append, address).atexit = False
        return buffer

    def upload(self, array: Any) -> DeviceBuffer:
        """Copy an array into a float32 buffer.

        Parameters
        ----------
        array:
            On the device anything with `__dlpack__` or `__cuda_array_interface__`: PyTorch, CuPy,
            `pycuda.gpuarray.GPUArray`; on the host anything numpy takes.

        Raises
        ------
        BackendError
            If a device array is not contiguous float32, or is on another GPU.
        """
        place = array.__dlpack_device__() if hasattr(array, "__dlpack_device__") else None
        if place is not None and place[0] == dlpack.CUDA:
            if place[1] != self._device:
                raise BackendError(
                    f"the array is on GPU {place[1]}, the backend on GPU {self._device}; move it"
                )
            capsule = array.__dlpack__(stream=int(self.stream))  # its maker makes our stream wait
            return self._adopt(dlpack.view(capsule))
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is not None:
            self._call("cudaDeviceSynchronize")  # it may have been written on any stream
            return self._adopt(_view(interface))
        array = np.asarray(array, np.float32, order="C")
        buffer = self.empty(array.shape, np.float32)
        self.write(buffer, array)
        return buffer

    def _adopt(self, view: dlpack.View) -> DeviceBuffer:
        """Copy a tensor of another library, which may be freed afterwards."""
        if view.dtype != np.float32:
            raise BackendError("a device array must be contiguous float32; convert it first")
        buffer = self.empty(view.shape, view.dtype)
        self._copy(buffer.address, view.address, buffer.nbytes, _DEVICE_TO_DEVICE)
        self.synchronise()
        return buffer

    def write(self, buffer: DeviceBuffer, array: NDArray[np.float32]) -> None:
        """Copy a float32 array of the buffer's shape into it, through pinned memory."""
        self.synchronise()  # an earlier copy may still read the pinned memory
        staging = self._staging(buffer.nbytes)
        ctypes.memmove(staging, np.ascontiguousarray(array).ctypes.data, buffer.nbytes)
        self._copy(buffer.address, staging, buffer.nbytes, _HOST_TO_DEVICE)

    def copy(self, target: DeviceBuffer, source: DeviceBuffer) -> None:
        """Queue a copy on the device between buffers of one size."""
        self._copy(target.address, source.address, source.nbytes, _DEVICE_TO_DEVICE)

    def download(self, buffer: DeviceBuffer) -> NDArray[Any]:
        """Wait for all work, and copy a buffer into a host array of its type."""
        staging = self._staging(buffer.nbytes)
        self._copy(staging, buffer.address, buffer.nbytes, _DEVICE_TO_HOST)
        self.synchronise()
        array = np.empty(buffer.shape, buffer.dtype)
        ctypes.memmove(array.ctypes.data, staging, buffer.nbytes)
        return array

    def start_reading(self, buffer: DeviceBuffer) -> Reading:
        """Queue a copy to the host; to be finished before the next is started."""
        reading = self._reading
        if reading is None or (reading.shape, reading.dtype) != (buffer.shape, buffer.dtype):
            self._drop_reading()
            (address,) = self._call("cudaHostAlloc", buffer.nbytes, self._api.cudaHostAllocDefault)
            (event,) = self._call("cudaEventCreateWithFlags", self._api.cudaEventDisableTiming)
            reading = self._reading = Reading(int(address), event, buffer.shape, buffer.dtype)
        self._copy(reading.address, buffer.address, buffer.nbytes, _DEVICE_TO_HOST)
        self._call("cudaEventRecord", reading.event, self.stream)
        return reading

    def finish_reading(self, reading: Reading) -> NDArray[Any]:
        """Wait for a copy, not for what was queued after it; gives an array of its own."""
        self._call("cudaEventSynchronize", reading.event)
        array = np.empty(reading.shape, reading.dtype)
        ctypes.memmove(array.ctypes.data, reading.address, array.nbytes)
        return array

    def _drop_reading(self) -> None:
        if self._reading is not None:
            self._call("cudaEventDestroy", self._reading.event)
            self._call("cudaFreeHost", self._reading.address)
            self._reading = None

    def synchronise(self) -> None:
        """Wait until everything queued is done."""
        self._call("cudaStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> Any:
        """Record what `work` queues into an executable graph, without running it."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        finally:  # capture must end on errors, too
            (graph,) = self._call("cudaStreamEndCapture", self.stream)
        (executable,) = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        return executable

    def launch(self, executable: Any) -> None:
        """Queue a captured graph."""
        self._call("cudaGraphLaunch", executable, self.stream)

    def destroy(self, executable: Any) -> None:
        """Release a captured graph."""
        self._call("cudaGraphExecDestroy", executable)

    def close(self) -> None:
        """Free all memory and the stream; no buffer may be used after this."""
        if self._closed:
            return
        self._closed = True
        self.synchronise()
        for address in self._allocated:
            self._call("cudaFree", address)
        self._drop_reading()
        if self._pinned[0]:
            self._call("cudaFreeHost", self._pinned[0])
        self._call("cudaStreamDestroy", self.stream)

    @contextmanager
    def private_memory(self) -> Iterator[Pool]:
        """Allocate and free buffers in the block through a private pool.

        A captured graph writes to the same addresses whenever it is launched: no other buffer may
        have them until the pool is given to :meth:`release`. The pool starts with the free blocks.
        """
        self._spare, self._free = self._free, defaultdict(list)
        try:
            yield self._free
        finally:
            self._spare, self._free = {}, self._spare

    def release(self, pool: Pool) -> None:
        """Return the free memory of a private pool to the common one."""
        for size, addresses in pool.items():
            self._free[size] += addresses
            addresses.clear()

    def _staging(self, size: int) -> int:
        """Pinned memory of at least `size` bytes, one block for all copies."""
        if size > self._pinned[1]:
            if self._pinned[0]:
                self.synchronise()
                self._call("cudaFreeHost", self._pinned[0])
            address = int(self._call("cudaHostAlloc", size, self._api.cudaHostAllocDefault)[0])
            self._pinned = address, size
        return self._pinned[0]

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        kinds = self._api.cudaMemcpyKind
        self._call("cudaMemcpyAsync", target, source, size, getattr(kinds, kind), self.stream)

    def _call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        status, *values = getattr(self._api, function)(*arguments)
        if int(status) != 0:
            name = getattr(status, "name", status)
            raise BackendError(
                f"CUDA refuses {function} ({name}); free GPU memory if it is short, or use "
                "--backend cpu"
            )
        return tuple(values)


def _view(interface: dict[str, Any]) -> dlpack.View:
    """Read a `__cuda_array_interface__`."""
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")  # in bytes; PyCUDA gives them always
    if strides and not dlpack.is_contiguous(shape, [s // dtype.itemsize for s in strides]):
        raise BackendError("a device array must be contiguous float32; convert it first")
    return dlpack.View(interface["data"][0], shape, dtype)
