"""The bundle's plans in ONNX Runtime's TensorRT provider, against a stand-in for its session."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from hyperstyle_rt import BackendError, BundleError, Model
from hyperstyle_rt.backends import ort as backend_module
from hyperstyle_rt.backends import ort_sessions
from hyperstyle_rt.backends.cuda.driver import Gpu
from hyperstyle_rt.backends.ort_library import load_onnxruntime
from hyperstyle_rt.formats.bundle import Bundle
from stand_ins import VERSION


class Session:
    """Stands for an ONNX Runtime session that got the providers it was asked for, or the CPU."""

    opened: ClassVar[list[Path]] = []
    falls_back = False

    def __init__(
        self,
        model: str | bytes,
        _options: object,
        providers: list[tuple[str, object]],
        **_rest: object,
    ) -> None:
        if isinstance(model, str):  # else it is the model that shows whether the provider works
            self.opened.append(Path(model))
        self.providers = (
            ["CPUExecutionProvider"] if self.falls_back else [name for name, _ in providers]
        )

    def get_providers(self) -> list[str]:
        return self.providers

    def get_inputs(self) -> list[object]:
        return []

    get_outputs = get_inputs


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    monkeypatch.setattr(backend_module, "usable_providers", lambda: backend_module.PROVIDERS)
    monkeypatch.setattr(ort_sessions, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    monkeypatch.setattr(load_onnxruntime(), "InferenceSession", Session)
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
    model.backend.signature("generator")
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
    model = Model.load(wrapped, "ort-tensorrt")
    with pytest.raises(BundleError, match=r"generator\.plan is altered"):
        model.backend.signature("generator")
    assert sessions.opened == []


def test_plans_onnx_runtime_cannot_load_are_not_given_to_it(
    wrapped: Path, sessions: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_sessions, "LOADED_TENSORRT", "11.")
    model = Model.load(wrapped, "ort-tensorrt")
    with pytest.raises(BundleError, match=r"has no generator.plan for TensorRT 11\.x-sm89-fp32"):
        model.backend.signature("generator")
