"""The GPU as the NVIDIA driver describes it, asked for through ctypes.

It has to be asked before TensorRT is: on a machine without a driver ``tensorrt.Runtime`` crashes
the process instead of raising. Nothing needs to be installed for the question.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from ...errors import BackendError

# CUdevice_attribute of cuda.h
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes
    ----------
    name:
        As the driver calls it, e.g. ``NVIDIA L4``.
    sm:
        Compute capability as in a plan's key: 89 is 8.9.
    """

    name: str
    sm: int


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver.

    Attributes
    ----------
    cuda:
        The newest CUDA version it serves, e.g. ``12.4``.
    status:
        What it answers when it is started: 0 if it works, else a CUDA error.
    gpus:
        The GPUs it finds.
    """

    cuda: str
    status: int
    gpus: tuple[Gpu, ...]


def find_driver() -> Driver | None:
    """Ask the driver for its version and GPUs; None without a driver."""
    try:
        cuda: Any = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    status: int = cuda.cuInit(0)
    if status == 0:
        status = cuda.cuDeviceGetCount(ctypes.byref(count))
    served = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Driver(served, status, tuple(_gpu(cuda, index) for index in range(count.value)))


def find_gpu(index: int = 0) -> Gpu:
    """Ask the driver for a GPU.

    Raises
    ------
    BackendError
        If there is no driver, it does not work, or it has no such GPU.
    """
    driver = find_driver()
    if driver is None:
        raise BackendError(
            "there is no NVIDIA driver on this machine; install it, or use --backend cpu"
        )
    if driver.status != 0:
        raise BackendError(
            f"the NVIDIA driver finds no usable GPU (CUDA error {driver.status}); check "
            "nvidia-smi, and in a container that the GPU is passed, as by --gpus all"
        )
    if index >= len(driver.gpus):
        raise BackendError(
            f"there is no GPU {index}, the NVIDIA driver finds {len(driver.gpus)}; in a container "
            "pass it, as by --gpus all"
        )
    return driver.gpus[index]


def _gpu(cuda: Any, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    major, minor = (
        _attribute(cuda, device, attribute)
        for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR)
    )
    return Gpu(name.value.decode(errors="replace"), 10 * major + minor)


def _attribute(cuda: Any, device: ctypes.c_int, attribute: int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value
