"""The GPU as the NVIDIA driver describes it, asked for through ctypes.

It has to be asked before TensorRT is: on a machine without a driver ``tensorrt.Runtime`` crashes
the process instead of raising. Nothing needs to be installed for the question.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from ..errors import BackendError

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


def find_gpu(index: int = 0) -> Gpu:
    """Ask the driver for a GPU.

    Raises
    ------
    BackendError
        If there is no driver, it does not work, or it has no such GPU.
    """
    cuda = _load_driver()
    status = cuda.cuInit(0)
    count = ctypes.c_int()
    if status == 0:
        status = cuda.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
        raise BackendError(
            f"the NVIDIA driver finds no usable GPU (CUDA error {status}); check nvidia-smi, and "
            "in a container that the GPU is passed, as by --gpus all"
        )
    if index >= count.value:
        raise BackendError(
            f"there is no GPU {index}, the NVIDIA driver finds {count.value}; in a container pass "
            "it, as by --gpus all"
        )
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    major, minor = (
        _attribute(cuda, device, attribute)
        for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR)
    )
    return Gpu(name.value.decode(errors="replace"), 10 * major + minor)


def _load_driver() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        raise BackendError(
            "there is no NVIDIA driver on this machine; install it, or use --backend cpu"
        ) from None


def _attribute(cuda: Any, device: ctypes.c_int, attribute: int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value
