"""What the native TensorRT backend does not load, and what it says where something is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError, Model
from hyperstyle_rt.backends.cuda import driver as cuda_driver
from hyperstyle_rt.backends.cuda.driver import Gpu
from hyperstyle_rt.backends.plans import build as plan_build
from hyperstyle_rt.backends.plans import cache as plan_cache
from hyperstyle_rt.backends.plans.build import EngineError, Target
from stand_ins import VERSION, StandInCuda, StandInTensorrt, Status


def load(planned: Path) -> Model:
    return Model.load(planned, "tensorrt")


def altered(planned: Path, tmp_path: Path, change: Callable[[Path], None]) -> Path:
    """A copy of the bundle's manifest and plans, with one plan changed."""
    copy = tmp_path / "altered"
    shutil.copytree(planned, copy)
    change(copy / "tensorrt" / f"{VERSION}-sm89-fp32" / "generator.plan")
    return copy


def flip(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[0] ^= 1
    plan.write_bytes(content)


def test_one_flipped_byte_is_refused_before_anything_is_loaded(
    planned: Path, cuda: StandInCuda, tmp_path: Path
) -> None:
    model = load(altered(planned, tmp_path, flip))
    with pytest.raises(BundleError, match=r"generator\.plan is altered"):
        model.backend.signature("generator")
    assert sys.modules["tensorrt"].deserialised == []


def test_a_missing_plan_is_refused(planned: Path, cuda: StandInCuda, tmp_path: Path) -> None:
    model = load(altered(planned, tmp_path, Path.unlink))
    with pytest.raises(BundleError, match=r"cannot open .*generator.plan"):
        model.backend.signature("generator")


@pytest.mark.parametrize(
    ("version", "sm", "key"),
    [(VERSION, 75, f"{VERSION}-sm75-fp32"), ("11.4.0.1", 89, "11.4.0.1-sm89-fp32")],
    ids=["another architecture", "another TensorRT"],
)
def test_a_plan_for_another_machine_is_not_loaded(
    version: str,
    sm: int,
    key: str,
    planned: Path,
    cuda: StandInCuda,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One is built in its place; where that fails, nothing is loaded."""
    monkeypatch.setattr(StandInTensorrt, "__version__", version)
    monkeypatch.setattr(plan_build, "find_gpu", lambda: Gpu("NVIDIA T4", sm))

    def fail(target: Target, *_rest: Any) -> None:
        raise EngineError(f"{target.key('fp32')} cannot be built; update it")

    monkeypatch.setattr(plan_cache, "build_plan", fail)
    model = load(planned)
    with pytest.raises(BackendError, match=f"{key} cannot be built; update it"):
        model.backend.signature("encoder")
    assert f"plans of the bundle: {VERSION}-sm89-fp32, {VERSION}-sm89-fp16" in caplog.text
    assert sys.modules["tensorrt"].deserialised == []


def test_a_plan_tensorrt_cannot_load_is_one_sentence(
    planned: Path, cuda: StandInCuda, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInTensorrt, "_deserialise", lambda _self, _data: None)
    with pytest.raises(BundleError, match=r"TensorRT cannot load .*encoder.plan, the plan of enc"):
        load(planned).invert(picture, 1)


@pytest.mark.parametrize("module", ["tensorrt", "cuda.bindings.runtime"])
def test_missing_libraries_are_one_sentence(
    module: str, planned: Path, cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=r"cannot be imported .*run: pip install") as refusal:
        load(planned)
    assert "\n" not in str(refusal.value)


def test_no_memory_is_one_sentence(planned: Path, cuda: StandInCuda, picture: np.ndarray) -> None:
    cuda.limit = 10
    with pytest.raises(BackendError, match=f"CUDA refuses cudaMalloc .{Status.name}.; free GPU"):
        load(planned).invert(picture, 1)


def test_no_driver_is_one_sentence(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_name: str) -> None:
        raise OSError

    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", no_library)
    with pytest.raises(BackendError, match="there is no NVIDIA driver on this machine; install it"):
        load(planned)


LEAN = """
import json, sys
try:
    sys.path[:0] = json.loads(sys.argv[1])
    from hyperstyle_rt.backends.cuda import driver as cuda_driver
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
