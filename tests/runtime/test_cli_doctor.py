"""``hyperstyle-rt doctor`` on this machine and on machines we do not have."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import hyperstyle_rt
import numpy as np
import pytest
from command_line import altered_copy, run, sentence, succeed
from hyperstyle_rt.backends.cuda.driver import Driver, Gpu
from hyperstyle_rt.cli import doctor
from hyperstyle_rt.cli.doctor import NOT_OFFERED, Findings
from hyperstyle_rt.formats import bundle as bundle_module

DRIVER = Driver("12.4", 0, (Gpu("NVIDIA A10", 86),))


@pytest.fixture
def healthy(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' bundle in the place of the embedded one."""
    monkeypatch.setattr(bundle_module, "default_bundle", lambda: tiny_bundle)


@pytest.mark.usefixtures("healthy")
def test_doctor_on_a_healthy_machine():
    assert re.search(r"^CPUExecutionProvider +works *$", succeed("doctor"), re.MULTILINE)


@pytest.mark.usefixtures("healthy")
def test_doctor_as_json(tiny_bundle: Path):
    document = json.loads(succeed("doctor", "--json"))
    assert document["ok"] is True
    assert document["problems"] == []
    assert document["versions"]["numpy"] == np.__version__
    assert document["providers"]["CPUExecutionProvider"] is None
    assert document["bundle"] == str(tiny_bundle)
    assert document["hyperstyle-rt"] == hyperstyle_rt.__version__


def test_doctor_verifies_the_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    bundle = altered_copy(tiny_bundle)
    monkeypatch.setattr(bundle_module, "default_bundle", lambda: bundle)
    result = run("doctor")
    assert result.exit_code == 2
    assert "encoder.onnx is altered" in sentence(result.stderr)


@pytest.mark.usefixtures("healthy")
def test_doctor_without_onnxruntime(monkeypatch: pytest.MonkeyPatch):
    def import_module(name: str) -> Any:
        if name == "onnxruntime":
            raise ImportError("libstdc++.so.6: version not found\nand more")
        return sys.modules.get(name, np)

    monkeypatch.setattr(doctor, "import_module", import_module)
    result = run("doctor", "--json")
    assert result.exit_code == 2
    text = sentence(result.stderr)
    assert "onnxruntime cannot be imported (libstdc++.so.6: version not found)" in text
    assert "pip install --force-reinstall onnxruntime" in text
    assert json.loads(result.stdout)["ok"] is False


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
    providers = {"CPUExecutionProvider": None, "CUDAExecutionProvider": cuda}
    findings = Findings({}, {}, providers, driver, "portraits", None)
    assert findings.problems() == []
    if part is None:
        assert findings.advice() == []
    else:
        (advice,) = findings.advice()
        assert part in advice


@pytest.mark.parametrize("module", ["onnxruntime", "cv2"])
def test_what_an_extra_brings_is_got_by_the_extra(module: str):
    findings = Findings({}, {module: doctor.NOT_INSTALLED}, {}, None, "portraits", None)
    (problem,) = findings.problems()
    assert problem.endswith("run: pip install 'hyperstyle-rt[cpu]'")


def test_a_cpu_that_fails_is_a_problem():
    findings = Findings({}, {}, {"CPUExecutionProvider": "no memory"}, None, "portraits", None)
    (problem,) = findings.problems()
    assert "cannot use the CPU (no memory)" in problem
