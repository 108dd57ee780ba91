"""Arrays of other libraries on the device, in and out of the native TensorRT backend."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, Model
from hyperstyle_rt.backends.cuda import dlpack
from hyperstyle_rt.backends.cuda.memory import DeviceBuffer
from hyperstyle_rt.imaging.pictures import to_input
from stand_ins import StandInCuda

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)
WRONG = "must be contiguous float32; convert it first"


class OnTheCpu:
    """A tensor of ours whose memory is the host's, so that libraries here can take it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CPU, 0

    def __dlpack__(self, **_newer: Any) -> Any:
        array = self.array
        return dlpack.capsule_of(array.ctypes.data, array.shape, array.dtype, (dlpack.CPU, 0), self)


class Foreign:
    """A device array of another library."""

    def __init__(self, buffer: DeviceBuffer, device: int = 0, **changes: Any) -> None:
        self.buffer, self.device, self.changes = buffer, device, changes
        self.streams: list[int] = []
        self.shape = buffer.shape


class WithInterface(Foreign):
    """As CuPy, Numba and PyCUDA show it; PyCUDA gives strides always."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = tuple(4 * s for s in (3, 1))
        return self.buffer.__cuda_array_interface__ | {"strides": strides} | self.changes


class WithCapsule(Foreign):
    """As PyTorch shows it."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.device

    def __dlpack__(self, *, stream: int) -> Any:
        self.streams.append(stream)
        return self.buffer.__dlpack__(stream=stream)


def load(planned: Path, backend: str = "tensorrt") -> Model:
    return Model.load(planned, backend)


# ----------------------------------------------------------------------------------- DLPack


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_real_libraries_take_our_capsules(library: str) -> None:
    module = pytest.importorskip(library)
    source = OnTheCpu(ARRAY.copy())
    owner = weakref.ref(source)
    taken = module.from_dlpack(source)
    assert np.array_equal(np.asarray(taken), ARRAY)
    assert np.asarray(taken).ctypes.data == source.array.ctypes.data
    del source
    gc.collect()
    assert owner() is not None  # its memory is in use
    del taken
    gc.collect()
    assert owner() is None
    assert not dlpack._exported


def test_a_capsule_nobody_takes_lets_go_of_its_tensor() -> None:
    capsule = OnTheCpu(ARRAY).__dlpack__()
    assert len(dlpack._exported) == 1
    del capsule
    assert not dlpack._exported


def test_capsules_of_a_real_library_are_read() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(12.0).reshape(3, 4)
    for part in (tensor, tensor[1:], tensor[:1, 2:]):
        capsule = part.__dlpack__()
        view = dlpack.view(capsule)
        assert (view.shape, view.dtype) == (tuple(part.shape), np.float32)
        read = (ctypes.c_float * part.numel()).from_address(view.address)
        assert list(read) == part.flatten().tolist()
    for wrong in (tensor.T, tensor[:, 1:], torch.zeros(2, dtype=torch.bfloat16)):
        with pytest.raises(BackendError, match=WRONG):
            dlpack.view(wrong.__dlpack__())


# ----------------------------------------------------------------------- into the backend


@pytest.mark.parametrize("kind", [WithInterface, WithCapsule])
def test_device_arrays_stay_on_the_device(
    kind: type[Foreign], planned: Path, cuda: StandInCuda
) -> None:
    backend = load(planned).backend
    theirs = backend.upload(ARRAY)  # the memory of another library
    foreign = kind(theirs)
    cuda.calls.clear()
    taken = backend.upload(foreign)
    waits = ["synchronise device"] if kind is WithInterface else []
    assert cuda.calls == [*waits, "malloc", "D2D", "synchronise"]
    assert foreign.streams == ([] if waits else [77])  # its maker makes our stream wait for it
    assert taken.address != theirs.address
    assert np.array_equal(backend.download(taken), ARRAY)


def test_arrays_that_would_be_misread_are_refused(planned: Path, cuda: StandInCuda) -> None:
    backend = load(planned).backend
    theirs = backend.upload(ARRAY)
    integers = DeviceBuffer(theirs.address, (2, 3), np.dtype(np.int32))
    for wrong in (
        WithInterface(theirs, strides=(4, 8)),
        WithInterface(theirs, typestr="<f8"),
        WithCapsule(integers),
    ):
        with pytest.raises(BackendError, match=WRONG):
            backend.upload(wrong)
    with pytest.raises(BackendError, match="the array is on GPU 1, the backend on GPU 0; move it"):
        backend.upload(WithCapsule(theirs, device=1))


def test_tensors_of_the_host_are_copied(planned: Path, cuda: StandInCuda) -> None:
    torch = pytest.importorskip("torch")
    backend = load(planned).backend
    assert np.array_equal(backend.download(backend.upload(torch.from_numpy(ARRAY))), ARRAY)


# ------------------------------------------------------------------------- whole inversions


@pytest.mark.parametrize("until", [None, 2.0])
def test_an_inversion_between_device_arrays_copies_nothing_to_the_host(
    until: float | None, planned: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(planned)
    size = model.bundle.manifest.input_size
    foreign = WithCapsule(model.backend.upload(to_input(picture, size)))
    expected = model.invert(picture, 3, until)
    cuda.calls.clear()
    found = model.invert_on_device(foreign, 3, until)
    assert cuda.calls.count("H2D") == 1  # the codes of zero
    assert cuda.calls.count("D2H") == (0 if until is None else found.iterations)
    assert found.iterations == expected.iterations
    assert cuda.calls[-1] == "synchronise"
    assert set(found.tensors) == {"latents", "codes", "rendering", "reconstruction"}
    for name in ("latents", "codes", "output"):
        buffer = found.tensors["rendering" if name == "output" else name]
        assert np.array_equal(model.backend.download(buffer)[0], getattr(expected, name))
        assert dlpack.view(buffer.__dlpack__()).address == buffer.address
        assert buffer.__cuda_array_interface__["data"] == (buffer.address, False)
        assert buffer.__dlpack_device__() == (dlpack.CUDA, 0)


def test_the_number_of_iterations_is_the_bundles(planned: Path, cuda: StandInCuda) -> None:
    model = load(planned)
    x = np.zeros((1, 3, *model.bundle.manifest.input_size), np.float32)
    assert model.invert_on_device(x).iterations == model.bundle.manifest.method().iterations


def test_a_picture_of_another_size_is_refused(planned: Path, cuda: StandInCuda) -> None:
    with pytest.raises(BackendError, match=r"float32 \[1, 3, 64, 64\], not \[2, 3\]"):
        load(planned).invert_on_device(ARRAY)


# ---------------------------------------------------------------------------------- PyCUDA


class Context:
    """A CUDA context of PyCUDA."""

    def __init__(self, driver: StandInPycuda) -> None:
        self.driver = driver

    def push(self) -> None:
        self.driver.stack.append(self)

    def pop(self) -> None:
        assert self.driver.stack.pop() is self


class StandInPycuda:
    """pycuda.driver: one device and a stack of contexts."""

    def __init__(self) -> None:
        self.stack: list[Context] = []
        self.primary = Context(self)
        self.initialised = False
        self.Context = SimpleNamespace(get_current=lambda: (self.stack or [None])[-1])

    def init(self) -> None:
        self.initialised = True

    def Device(self, number: int) -> Any:
        assert self.initialised
        assert number == 0
        return SimpleNamespace(retain_primary_context=lambda: self.primary)


class StandInGpuArray:
    """pycuda.gpuarray.GPUArray, as far as its constructor goes."""

    def __init__(self, shape: Any, dtype: Any, base: Any, gpudata: int) -> None:
        self.shape, self.dtype, self.base, self.gpudata = shape, dtype, base, gpudata


@pytest.fixture
def pycuda(monkeypatch: pytest.MonkeyPatch) -> StandInPycuda:
    driver = StandInPycuda()
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    gpuarray = SimpleNamespace(GPUArray=StandInGpuArray)
    monkeypatch.setitem(sys.modules, "pycuda.gpuarray", gpuarray)
    return driver


@pytest.mark.parametrize("already", [False, True])
def test_pycuda_shares_the_primary_context(
    already: bool,
    planned: Path,
    cuda: StandInCuda,
    pycuda: StandInPycuda,
    picture: np.ndarray,
) -> None:
    if already:  # import pycuda.autoprimaryctx
        pycuda.primary.push()
    model = load(planned, "tensorrt-pycuda")
    assert pycuda.stack == [pycuda.primary]
    found = model.invert_on_device(to_input(picture, model.bundle.manifest.input_size), 2)
    assert pycuda.stack == [pycuda.primary]
    for array in found.tensors.values():
        assert isinstance(array, StandInGpuArray)
        assert array.gpudata == array.base.address  # the buffer lives as long as the array
    rendering = found.tensors["rendering"].base
    expected = model.invert(picture, 2)
    assert np.array_equal(model.backend.download(rendering)[0], expected.output)
    model.close()
    model.close()
    assert pycuda.stack == ([pycuda.primary] if already else [])


def test_another_context_of_pycuda_is_refused(
    planned: Path, cuda: StandInCuda, pycuda: StandInPycuda
) -> None:
    Context(pycuda).push()  # import pycuda.autoinit
    with pytest.raises(BackendError, match=r"pycuda\.autoprimaryctx instead of pycuda\.autoinit"):
        load(planned, "tensorrt-pycuda")
    assert cuda.calls == []


def test_missing_pycuda_is_one_sentence(
    planned: Path, cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(BackendError, match=r"pycuda.driver cannot be imported .*hyperstyle-rt\["):
        load(planned, "tensorrt-pycuda")
