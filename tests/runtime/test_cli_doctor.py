"""``hyperstyle-rt doctor`` on this machine and on machines we do not have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import hyperstyle_rt
import numpy as np
import pytest
from command_line import altered_copy, run, sentence, succeed
from hyperstyle_rt.backends import ort_library, processors
from hyperstyle_rt.backends.cuda.driver import Driver, Gpu
from hyperstyle_rt.backends.processors import Processors, find_processors
from hyperstyle_rt.backends.registry import BACKENDS, NOT_OFFERED
from hyperstyle_rt.cli import doctor
from hyperstyle_rt.cli.doctor import Findings
from hyperstyle_rt.formats import bundle_lookup

DRIVER = Driver("12.4", 0, (Gpu("NVIDIA A10", 86),))


def found(backends: dict[str, str | None], driver: Driver | None = None) -> Findings:
    """A machine with nothing but these."""
    return Findings({}, {}, backends, Processors(2, 2, None), 2, driver, "portraits", None)


@pytest.fixture
def healthy(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' bundle in the place of the embedded one."""
    monkeypatch.setattr(bundle_lookup, "default_bundle", lambda: tiny_bundle)


@pytest.mark.usefixtures("healthy")
def test_doctor_on_a_healthy_machine():
    text = succeed("doctor")
    assert re.search(r"^backend cpu +works *$", text, re.MULTILINE)
    found = find_processors()
    shown = rf"{found.present} of the machine, {found.allowed} allowed"
    assert re.search(rf"^processors +{shown}", text, re.MULTILINE)
    assert re.search(rf"^threads +{found.usable} *$", text, re.MULTILINE)


@pytest.mark.usefixtures("healthy")
def test_doctor_shows_what_limits_the_processors(monkeypatch: pytest.MonkeyPatch):
    limited = Processors(64, 16, 2.5)
    monkeypatch.setattr(doctor, "find_processors", lambda: limited)
    monkeypatch.setattr(processors, "find_processors", lambda: limited)
    text = succeed("doctor")
    assert "64 of the machine, 16 allowed, quota of 2.5" in text
    assert re.search(r"^threads +3 *$", text, re.MULTILINE)
    document = json.loads(succeed("doctor", "--json"))
    assert document["processors"] == {"present": 64, "allowed": 16, "quota": 2.5}
    assert (document["usable_processors"], document["threads"]) == (3, 3)


@pytest.mark.usefixtures("healthy")
def test_doctor_tries_every_backend_of_the_registry():
    backends = json.loads(succeed("doctor", "--json"))["backends"]
    assert list(backends) == [entry.name for entry in BACKENDS]
    assert backends["cpu"]["problem"] is None
    for entry in BACKENDS:
        found = backends[entry.name]
        assert (found["requires"], found["description"]) == (entry.requires, entry.description)
    for name in ("tensorrt", "tensorrt-pycuda"):
        problem = backends[name]["problem"]
        assert problem is None or "; " in problem  # what is wrong, and the cure


def test_the_gpu_page_has_the_backends_of_the_registry():
    """With what each requires, in the same words."""
    page = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text(encoding="utf-8")
    for entry in BACKENDS:
        if entry.memory == "cuda":
            assert f"| `{entry.name}` | {entry.description} | {entry.requires} |" in page


@pytest.mark.usefixtures("healthy")
def test_doctor_as_json(tiny_bundle: Path):
    document = json.loads(succeed("doctor", "--json"))
    assert document["ok"] is True
    assert document["problems"] == []
    assert document["versions"]["numpy"] == np.__version__
    assert document["backends"]["cpu"]["problem"] is None
    assert document["bundle"] == str(tiny_bundle)
    assert document["hyperstyle-rt"] == hyperstyle_rt.__version__


def test_doctor_verifies_the_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    bundle = altered_copy(tiny_bundle)
    monkeypatch.setattr(bundle_lookup, "default_bundle", lambda: bundle)
    result = run("doctor")
    assert result.exit_code == 2
    assert "encoder.onnx is altered" in sentence(result.stderr)


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("failure", "part"),
    [
        (None, "pip install 'hyperstyle-rt[cpu]' for CPUs, or 'hyperstyle-rt[gpu]'"),
        (
            "libstdc++.so.6: version not found\nand more",
            "ONNX Runtime cannot be imported (libstdc++.so.6: version not found",
        ),
    ],
)
def test_doctor_without_onnxruntime(
    failure: str | None, part: str, monkeypatch: pytest.MonkeyPatch
):
    def import_module(name: str) -> Any:
        if failure is None:
            raise ModuleNotFoundError(name=name)
        raise ImportError(failure)

    monkeypatch.setattr(ort_library, "import_module", import_module)
    result = run("doctor", "--json")
    assert result.exit_code == 2
    assert part in sentence(result.stderr)
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert part in document["backends"]["cpu"]["problem"]


@pytest.mark.parametrize(
    ("driver", "cuda", "installed", "part"),
    [
        (None, NOT_OFFERED, "", "no NVIDIA driver"),
        (Driver("12.4", 0, ()), NOT_OFFERED, "", "finds no GPU"),
        (DRIVER, NOT_OFFERED, "", "run: pip install 'hyperstyle-rt[gpu]'"),
        (DRIVER, NOT_OFFERED, "onnxruntime", f"uninstall -y onnxruntime; {doctor.GPU_EXTRA}"),
        (
            DRIVER,
            NOT_OFFERED,
            "onnxruntime onnxruntime-gpu",
            f"uninstall -y onnxruntime onnxruntime-gpu; {doctor.GPU_EXTRA}",
        ),
        (DRIVER, "offered, but gives CPUExecutionProvider", "", "CUDA and cuDNN libraries"),
        (DRIVER, None, "onnxruntime-gpu", None),
    ],
)
def test_advice_for_the_gpu(
    driver: Driver | None,
    cuda: str | None,
    installed: str,
    part: str | None,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(doctor, "_installed", lambda *names: set(names) <= set(installed.split()))
    findings = found({"cpu": None, "cuda": cuda}, driver)
    assert findings.problems() == []
    if part is None:
        assert findings.advice() == []
    else:
        (advice,) = findings.advice()
        assert part in advice


def test_what_an_extra_brings_is_got_by_the_extra():
    findings = replace(found({"cpu": None}), import_errors={"cv2": doctor.NOT_INSTALLED})
    (problem,) = findings.problems()
    assert problem.endswith("run: pip install 'hyperstyle-rt[cpu]'")


def test_a_cpu_that_fails_is_a_problem():
    findings = found({"cpu": "no memory"})
    (problem,) = findings.problems()
    assert "cannot use the CPU (no memory)" in problem


def test_the_command_line_starts_without_numpy_or_onnx_runtime():
    code = (
        "import sys, hyperstyle_rt.cli.app\n"
        "print([m for m in ('numpy', 'onnxruntime', 'cv2', 'safetensors') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
