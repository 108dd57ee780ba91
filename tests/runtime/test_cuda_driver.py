"""The NVIDIA driver, cuda-python and TensorRT: names that exist, and answers without a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from hyperstyle_rt import BackendError
from hyperstyle_rt.backends.cuda import driver as cuda_driver
from hyperstyle_rt.backends.cuda.driver import Driver, Gpu, find_driver, find_gpu
from hyperstyle_rt.backends.cuda.memory import Cuda
from stand_ins import StandInContext, StandInCuda, StandInEngine


class Library:
    """libcuda with two GPUs."""

    def __init__(self, status: int = 0, count: int = 2) -> None:
        self.status, self.count = status, count

    def cuDriverGetVersion(self, version: object) -> None:
        version._obj.value = 12040

    def cuInit(self, _flags: int) -> int:
        return self.status

    def cuDeviceGetCount(self, count: object) -> int:
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, device: object, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: object, _size: int, device: object) -> int:
        name.value = f"GPU {device.value}".encode()
        return 0

    def cuDeviceGetAttribute(self, value: object, attribute: int, _device: object) -> int:
        value._obj.value = {75: 12, 76: 0}[attribute]
        return 0


def test_the_driver_is_asked_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda _name: Library())
    assert find_driver() == Driver("12.4", 0, (Gpu("GPU 0", 120), Gpu("GPU 1", 120)))
    assert find_gpu(1) == Gpu("GPU 1", 120)
    with pytest.raises(BackendError, match="there is no GPU 2, the NVIDIA driver finds 2"):
        find_gpu(2)


def test_a_driver_without_a_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda _name: Library(status=100))
    with pytest.raises(BackendError, match=r"finds no usable GPU \(CUDA error 100\)"):
        find_gpu()


# ------------------------------------------------------------ what the real libraries call it


def test_cuda_python_has_what_is_called() -> None:
    api = pytest.importorskip("cuda.bindings.runtime")
    used = [name for name in vars(StandInCuda) if name.startswith("cuda")]
    assert len(used) > 15
    for name in used:
        assert hasattr(api, name), name
    assert hasattr(api.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")
    for kind in vars(StandInCuda.cudaMemcpyKind):
        assert hasattr(api.cudaMemcpyKind, kind)


def test_cuda_python_without_a_driver_is_one_sentence() -> None:
    pytest.importorskip("cuda.bindings.runtime")
    try:
        find_gpu()
    except BackendError:
        with pytest.raises(BackendError, match="CUDA refuses cudaSetDevice"):
            Cuda()
    else:
        pytest.skip("there is a GPU")


def test_tensorrt_has_what_is_called() -> None:
    """In TensorRT-RTX, which has TensorRT's Python API and is the one that can be installed."""
    trt = pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    for stand_in, real in (
        (StandInEngine, trt.ICudaEngine),
        (StandInContext, trt.IExecutionContext),
    ):
        for name in vars(stand_in):
            if name.startswith(("get_", "set_", "create_", "execute_")):
                assert hasattr(real, name), name
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
    assert np.dtype(trt.nptype(trt.float16)) == np.float16
    assert {"INPUT", "OUTPUT"} <= set(trt.TensorIOMode.__members__)
