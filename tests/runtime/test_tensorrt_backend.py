"""The native TensorRT backend against stand-ins for TensorRT and CUDA (stand_ins.py).

What cannot be seen here: that the real libraries take these calls, any number, any speed. That is
for `make test-gpu`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError, HyperStyle
from hyperstyle_rt.backends import cuda_driver, onnxruntime, tensorrt
from hyperstyle_rt.backends.cuda_driver import Gpu, find_gpu
from hyperstyle_rt.backends.cuda_memory import Cuda
from hyperstyle_rt.bundle import Bundle
from hyperstyle_rt.manifest import BundleFile
from stand_ins import (
    VERSION,
    StandInContext,
    StandInCuda,
    StandInEngine,
    StandInTensorrt,
    Status,
)

# ONNX Runtime on both sides, but with other options; in fp16 it leaves out other roundings.
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3}

ITERATION = ["run hypernet", "run weights", "run generator"]
START = ["run encoder", "run weights", "run generator"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with plans for the stand-in of TensorRT, in both precisions."""
    pytest.importorskip("torch")
    from hyperstyle_export.bundle_writer import BundleFacts, write_bundle, write_manifest
    from hyperstyle_export.twins import add_half_graphs
    from models import TINY, build_model

    path = tmp_path_factory.mktemp("plans")
    model = build_model(TINY)
    bundle = write_bundle(model, path, BundleFacts("plans"), "fp32", lambda _step: None)
    bundle = add_half_graphs(model, bundle, lambda _step: None)
    plans: dict[str, dict[str, BundleFile]] = {}
    for precision in ("fp32", "fp16"):
        key = f"{VERSION}-sm89-{precision}"
        (path / "tensorrt" / key).mkdir(parents=True)
        plans[key] = {}
        for role in bundle.manifest.graphs:
            content = f"plan:{bundle.verified_path(role, precision)}".encode()
            (path / "tensorrt" / key / f"{role}.plan").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            plans[key][f"{role}.plan"] = BundleFile(digest, len(content), precision)
    write_manifest(path, replace(bundle.manifest, plans=plans))
    return path


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandInCuda:
    """A machine with an L4 and TensorRT, as far as the backend can tell."""
    stand_in = StandInCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", stand_in)
    monkeypatch.setitem(sys.modules, "tensorrt", StandInTensorrt(stand_in))
    monkeypatch.setattr(tensorrt, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    return stand_in


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def load(directory: Path, precision: str = "fp32") -> HyperStyle:
    return HyperStyle.load(directory, "tensorrt", precision=precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_inversions_are_those_of_the_graphs(
    precision: str, directory: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """Although the engines list their outputs backwards."""
    ours, expected = (
        load(directory, precision),
        HyperStyle.load(directory, "cpu", precision=precision),
    )
    for shown in (picture, picture[::-1]):
        mine, theirs = ours.invert(shown, 3), expected.invert(shown, 3)
        for name in ("latents", "codes", "output"):
            assert difference(getattr(mine, name), getattr(theirs, name)) <= TOLERANCE[precision]
        assert mine.data.bundle_digest == theirs.data.bundle_digest
    assert ours.backend.provider == f"TensorRT {VERSION}-sm89-{precision} on NVIDIA L4"


def test_plain_path_gives_what_the_graph_gives(
    directory: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(directory)
    seen: list[int] = []
    plain = model.invert(picture, 3, on_iteration=lambda number, *_: seen.append(number))
    assert "launch" not in cuda.calls
    assert seen == [1, 2, 3]
    captured = model.invert(picture, 3)
    assert "launch" in cuda.calls
    assert np.array_equal(plain.output, captured.output)
    assert np.array_equal(plain.codes, captured.codes)


def test_the_loop_is_captured_once_and_replayed(
    directory: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(directory)
    model.invert(picture, 2)
    begin, end = cuda.calls.index("begin capture"), cuda.calls.index("end capture")
    loop = [*START, *ITERATION, *ITERATION]
    assert [c for c in cuda.calls[:begin] if c.startswith("run")] == loop  # warm-up
    assert cuda.calls[begin + 1 : end] == loop  # and nothing else: no copy, no wait, no memory
    cuda.calls.clear()
    model.invert(picture[:, ::-1], 2)
    copies = ["synchronise", "H2D"] * 2  # picture and zero codes
    results = ["D2H", "synchronise"] * 3  # latents, codes, image
    assert cuda.calls == [*copies, "D2D", "D2D", "launch", *results]


def test_another_number_of_iterations_is_captured_anew(
    directory: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(directory)
    for iterations in (1, 2, 2, 1):
        expected = HyperStyle.load(directory, "cpu").invert(picture, iterations)
        made = model.invert(picture, iterations)
        assert difference(made.output, expected.output) <= TOLERANCE["fp32"]
    assert cuda.calls.count("begin capture") == 3
    assert cuda.executables == 1


def test_the_generator_reads_the_very_buffers_the_weights_were_written_to(
    directory: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    load(directory).invert(picture, 2)
    runs = [(r, w) for r, w in cuda.weights_seen if r in ("weights", "generator")]
    for (first, written), (second, read) in zip(runs[::2], runs[1::2], strict=True):
        assert (first, second) == ("weights", "generator")
        assert written == read
        assert len(written) == 7


def test_memory_does_not_grow_and_is_freed(
    directory: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model = load(directory)
    inversion = model.invert(picture, 2)
    model.render(inversion)
    blocks = len(cuda.device)
    for _ in range(5):
        inversion = model.invert(picture, 2)
        model.render(inversion)
        model.invert(picture, 1, on_iteration=lambda *_: None)
    assert len(cuda.device) <= blocks + 5  # of the plain path, taken once
    grown = len(cuda.device)
    for _ in range(5):
        model.invert(picture, 2)
        model.invert(picture, 1, on_iteration=lambda *_: None)
    assert len(cuda.device) == grown
    model.backend.close()
    model.backend.close()
    assert not cuda.device
    assert not cuda.pinned
    assert cuda.executables == 0


def test_a_buffer_outlives_the_replay_of_a_graph(
    directory: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """The memory a graph writes to is its own: nothing that is held may lie there."""
    model = load(directory)
    model.invert(picture, 2)
    arrays = [np.full((1, 7, 17), value, np.float32) for value in range(20)]
    held = [model.backend.upload(array) for array in arrays]
    model.invert(picture, 2)
    for buffer, array in zip(held, arrays, strict=True):
        assert np.array_equal(model.backend.download(buffer), array)


def test_one_face_serves_a_batch(directory: Path, cuda: StandInCuda, picture: np.ndarray) -> None:
    model = load(directory)
    inversion = model.invert(picture, 1)
    batch = np.stack([inversion.latents, inversion.latents * 0.5])
    expected = HyperStyle.load(directory, "cpu").synthesise(inversion, batch)
    cuda.calls.clear()
    assert difference(model.synthesise(inversion, batch), expected) <= TOLERANCE["fp32"]
    assert [c for c in cuda.calls if c.startswith("run")] == ["run weights", "run generator"]
    with pytest.raises(BackendError, match=r"generator does not take latents .* smaller batches"):
        model.render(inversion, np.stack([inversion.latents] * 9))


def test_device_arrays_of_other_libraries_are_taken(directory: Path, cuda: StandInCuda) -> None:
    backend = load(directory).backend
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    foreign = backend.upload(array)  # stands for a GPUArray: what counts is the interface
    interface = foreign.__cuda_array_interface__
    assert interface["shape"] == (2, 3)
    assert interface["typestr"] == "<f4"
    cuda.calls.clear()
    taken = backend.upload(foreign)
    assert "H2D" not in cuda.calls
    assert taken.address != foreign.address
    assert np.array_equal(backend.download(taken), array)


# --------------------------------------------------------------------------------- refusals


def altered(directory: Path, tmp_path: Path, change: Callable[[Path], None]) -> Path:
    """A copy of the bundle's manifest and plans, with one plan changed."""
    copy = tmp_path / "altered"
    shutil.copytree(directory, copy)
    change(copy / "tensorrt" / f"{VERSION}-sm89-fp32" / "generator.plan")
    return copy


def flip(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[0] ^= 1
    plan.write_bytes(content)


def test_one_flipped_byte_is_refused_before_anything_is_loaded(
    directory: Path, cuda: StandInCuda, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"generator\.plan is altered"):
        load(altered(directory, tmp_path, flip))
    assert cuda.calls == []
    assert sys.modules["tensorrt"].deserialised == []


def test_a_missing_plan_is_refused(directory: Path, cuda: StandInCuda, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot find .*generator.plan"):
        load(altered(directory, tmp_path, Path.unlink))


def test_a_plan_of_another_architecture_is_refused(
    directory: Path, cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "find_gpu", lambda: Gpu("NVIDIA T4", 75))
    with pytest.raises(
        BundleError, match=f"no generator.plan for TensorRT {VERSION}-sm75-fp32, on"
    ):
        load(directory)


def test_a_plan_of_another_version_is_refused(
    directory: Path, cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInTensorrt, "__version__", "11.4.0.1")
    with pytest.raises(BundleError, match=r"for TensorRT 11\.4\.0\.1-sm89-fp32, only plans for"):
        load(directory)


def test_a_plan_tensorrt_cannot_load_is_one_sentence(
    directory: Path, cuda: StandInCuda, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInTensorrt, "_deserialise", lambda _self, _data: None)
    with pytest.raises(BundleError, match="TensorRT cannot load the plan of encoder"):
        load(directory).invert(picture, 1)


@pytest.mark.parametrize("module", ["tensorrt", "cuda.bindings.runtime"])
def test_missing_libraries_are_one_sentence(
    module: str, directory: Path, cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=r"cannot be imported .*run: pip install") as refusal:
        load(directory)
    assert "\n" not in str(refusal.value)


def test_no_memory_is_one_sentence(directory: Path, cuda: StandInCuda, picture: np.ndarray) -> None:
    cuda.limit = 10
    with pytest.raises(BackendError, match=f"CUDA refuses cudaMalloc .{Status.name}.; free GPU"):
        load(directory).invert(picture, 1)


def test_no_driver_is_one_sentence(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_name: str) -> None:
        raise OSError

    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", no_library)
    with pytest.raises(BackendError, match="there is no NVIDIA driver on this machine; install it"):
        load(directory)


class Driver:
    """libcuda with two GPUs."""

    def __init__(self, status: int = 0, count: int = 2) -> None:
        self.status, self.count = status, count

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
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda _name: Driver())
    assert find_gpu(1) == Gpu("GPU 1", 120)
    with pytest.raises(BackendError, match="there is no GPU 2, the NVIDIA driver finds 2"):
        find_gpu(2)


def test_a_driver_without_a_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda _name: Driver(status=100))
    with pytest.raises(BackendError, match=r"finds no usable GPU \(CUDA error 100\)"):
        find_gpu()


LEAN = """
import json, sys
try:
    sys.path[:0] = json.loads(sys.argv[1])
    from hyperstyle_rt.backends import cuda_driver
    import tensorrt_lean as trt
    if sys.argv[2] == "ask":
        cuda_driver.find_gpu()
    trt.Runtime(trt.Logger())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_lean") is None, reason="tensorrt-lean is not installed"
)
def test_asking_the_driver_avoids_the_crash_of_tensorrt_lean() -> None:
    """Without a driver its Runtime takes the process down; asked first, it is never made."""
    paths = json.dumps(sys.path)
    crashed, asked = (
        subprocess.run([sys.executable, "-c", LEAN, paths, how], capture_output=True, text=True)
        for how in ("do not ask", "ask")
    )
    assert crashed.returncode < 0
    assert asked.returncode == 0
    assert "there is no NVIDIA driver" in asked.stdout


def test_plans_of_the_bundle_are_verified(directory: Path) -> None:
    Bundle.open(directory).verify()


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


# -------------------------------------------------------------- plans through ONNX Runtime


class Session:
    """Stands for an ONNX Runtime session that got the providers it was asked for, or the CPU."""

    opened: ClassVar[list[Path]] = []
    falls_back = False

    def __init__(self, path: str, _options: object, providers: list[str], **_rest: object) -> None:
        self.opened.append(Path(path))
        self.providers = ["CPUExecutionProvider"] if self.falls_back else providers

    def get_providers(self) -> list[str]:
        return self.providers


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    monkeypatch.setattr(onnxruntime, "usable_providers", lambda: onnxruntime.PROVIDERS)
    monkeypatch.setattr(onnxruntime, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    monkeypatch.setattr(onnxruntime.ort, "InferenceSession", Session)
    monkeypatch.setattr(Session, "opened", [])
    return Session


@pytest.fixture
def wrapped(directory: Path, tmp_path: Path) -> Path:
    """The bundle with a model beside every plan."""
    copy = tmp_path / "wrapped"
    shutil.copytree(directory, copy)
    manifest, plans = Bundle.open(copy).manifest, {}
    for key, files in manifest.plans.items():
        models = {name.replace(".plan", ".onnx"): file for name, file in files.items()}
        for name in files:
            plan = copy / "tensorrt" / key / name
            shutil.copy(plan, plan.with_suffix(".onnx"))
        plans[key] = {**files, **models}
    text = json.dumps(replace(manifest, plans=plans).to_json())
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    return copy


def test_onnx_runtime_gets_the_models_of_our_plans(wrapped: Path, sessions: type[Session]) -> None:
    model = HyperStyle.load(wrapped, "ort-tensorrt", precision="fp16")
    plans = wrapped / "tensorrt" / f"{VERSION}-sm89-fp16"
    assert sessions.opened == [plans / "generator.onnx"]
    assert model.backend.provider.endswith("TensorrtExecutionProvider")


def test_onnx_runtime_falling_back_is_refused(
    wrapped: Path, sessions: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "falls_back", True)
    with pytest.raises(BackendError, match="gave CPUExecutionProvider where TensorrtExecutionProv"):
        HyperStyle.load(wrapped, "ort-tensorrt")


def test_an_altered_plan_is_not_given_to_onnx_runtime(
    wrapped: Path, sessions: type[Session]
) -> None:
    flip(wrapped / "tensorrt" / f"{VERSION}-sm89-fp32" / "generator.plan")
    with pytest.raises(BundleError, match=r"generator\.plan is altered"):
        HyperStyle.load(wrapped, "ort-tensorrt")
    assert sessions.opened == []


def test_plans_onnx_runtime_cannot_load_are_not_given_to_it(
    wrapped: Path, sessions: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "LOADED_TENSORRT", "11.")
    with pytest.raises(BundleError, match=r"has no generator.plan for TensorRT 11\.x-sm89-fp32"):
        HyperStyle.load(wrapped, "ort-tensorrt")
