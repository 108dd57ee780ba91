"""The bundle's plans in ONNX Runtime's TensorRT provider, against a stand-in for its session."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from hyperstyle_rt import BackendError, BundleError, Model
from hyperstyle_rt.backends import ort as onnxruntime
from hyperstyle_rt.backends.cuda.driver import Gpu
from hyperstyle_rt.formats.bundle import Bundle
from stand_ins import VERSION


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
def wrapped(planned: Path, tmp_path: Path) -> Path:
    """The bundle with a model beside every plan."""
    copy = tmp_path / "wrapped"
    shutil.copytree(planned, copy)
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
    model = Model.load(wrapped, "ort-tensorrt", precision="fp16")
    plans = wrapped / "tensorrt" / f"{VERSION}-sm89-fp16"
    assert sessions.opened == [plans / "generator.onnx"]
    assert model.backend.provider.endswith("TensorrtExecutionProvider")


def test_onnx_runtime_falling_back_is_refused(
    wrapped: Path, sessions: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "falls_back", True)
    with pytest.raises(BackendError, match="gave CPUExecutionProvider where TensorrtExecutionProv"):
        Model.load(wrapped, "ort-tensorrt")


def test_an_altered_plan_is_not_given_to_onnx_runtime(
    wrapped: Path, sessions: type[Session]
) -> None:
    plan = wrapped / "tensorrt" / f"{VERSION}-sm89-fp32" / "generator.plan"
    plan.write_bytes(plan.read_bytes().swapcase())
    with pytest.raises(BundleError, match=r"generator\.plan is altered"):
        Model.load(wrapped, "ort-tensorrt")
    assert sessions.opened == []


def test_plans_onnx_runtime_cannot_load_are_not_given_to_it(
    wrapped: Path, sessions: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "LOADED_TENSORRT", "11.")
    with pytest.raises(BundleError, match=r"has no generator.plan for TensorRT 11\.x-sm89-fp32"):
        Model.load(wrapped, "ort-tensorrt")
