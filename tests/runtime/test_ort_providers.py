"""Plug-ins of ONNX Runtime, against a stand-in for its interface: none has a device here.

The stand-in has devices, records what a session is given, and computes on the CPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import refuse, succeed
from hyperstyle_rt import BackendError, Model
from hyperstyle_rt.backends import ort_providers
from hyperstyle_rt.backends.ort_library import load_onnxruntime
from hyperstyle_rt.backends.ort_providers import PLUG_INS, plug_in_devices
from hyperstyle_rt.backends.registry import BACKENDS, entry_of, open_backend
from hyperstyle_rt.formats import bundle_lookup
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import to_picture

NAMES = {
    "ort-openvino": "OpenVINOExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "mlx": "MLXExecutionProvider",
}


def device(name: str, kind: str = "GPU", vendor: str = "NVIDIA", **metadata: str) -> Any:
    """A device as ``onnxruntime.get_ep_devices`` lists it."""
    hardware = SimpleNamespace(type=SimpleNamespace(name=kind), vendor=vendor, metadata=metadata)
    return SimpleNamespace(ep_name=NAMES[name], ep_metadata={"version": "0.9"}, device=hardware)


class StandIn:
    """What the plug-in mechanism of ONNX Runtime does, recorded.

    Attributes
    ----------
    registered:
        Name -> path, of libraries.
    offered:
        Provider -> the devices that its library offers when it is registered.
    sessions:
        (device, settings, whether it may fall back to the CPU) of every session.
    given:
        What sessions say that they got, if it is not what they asked for.
    """

    def __init__(self, ort: Any) -> None:
        self.ort = ort
        self.registered: dict[str, str] = {}
        self.offered: dict[str, list[Any]] = {}
        self.sessions: list[tuple[Any, dict[str, str], bool]] = []
        self.given: str | None = None

    def register(self, name: str, path: str) -> None:
        if name in self.registered:
            raise RuntimeError(f"EP library is already registered under {name}")
        self.registered[name] = path

    def devices(self) -> list[Any]:
        own = SimpleNamespace(ep_name="CPUExecutionProvider")
        names = [name.removeprefix("hyperstyle-rt ") for name in self.registered]
        return [own, *(d for name in names for d in self.offered.get(name, []))]


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """All plug-ins are installed; each test says which devices there are."""
    ort = load_onnxruntime()
    stand_in = StandIn(ort)

    class Options(ort.SessionOptions):  # type: ignore[misc]
        chosen: tuple[Any, dict[str, str]] | None = None

        def add_provider_for_devices(self, devices: list[Any], settings: dict[str, str]) -> None:
            (chosen,) = devices
            self.chosen = chosen, settings

    class Session(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: Any, options: Any, **more: Any) -> None:
            self.chosen = options.chosen
            if self.chosen is not None:
                assert "providers" not in more  # they would be taken instead of the device
                falls_back = (
                    options.get_session_config_entry("session.disable_cpu_ep_fallback") != "1"
                )
                stand_in.sessions.append((*self.chosen, falls_back))
                options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
                more["providers"] = ["CPUExecutionProvider"]
            super().__init__(model, options, **more)

        def get_providers(self) -> list[str]:
            if self.chosen is None:
                return list(super().get_providers())
            return [stand_in.given or self.chosen[0].ep_name, "CPUExecutionProvider"]

    monkeypatch.setattr(ort, "SessionOptions", Options)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort, "register_execution_provider_library", stand_in.register)
    monkeypatch.setattr(ort, "get_ep_devices", stand_in.devices)
    for name, plug_in in PLUG_INS.items():
        path, provider = f"/plug-ins/{name}.so", NAMES[name]
        functions: dict[str, Any] = {
            "get_library_path": lambda path=path: path,
            "get_ep_name": lambda provider=provider: provider,
        }
        if name == "mlx":  # named as this package names them
            functions = {key.removeprefix("get_"): value for key, value in functions.items()}
        monkeypatch.setitem(sys.modules, plug_in.module, SimpleNamespace(**functions))
    ort_providers._registered.cache_clear()
    yield stand_in
    ort_providers._registered.cache_clear()


def test_every_plug_in_is_a_backend() -> None:
    chosen = {entry.name for entry in BACKENDS if entry.chooses_device}
    assert chosen == {"cuda", *PLUG_INS}
    for name, plug_in in PLUG_INS.items():
        assert plug_in.package.removesuffix("-cu13") in entry_of(name).requires


@pytest.mark.parametrize("name", PLUG_INS)
def test_a_whole_inversion_runs_on_the_device(
    name: str, plug_ins: StandIn, tiny_bundle: Path, picture: np.ndarray
) -> None:
    """Every session gets the device, nothing else, and may not fall back to the CPU."""
    offered = device(name, vendor="NVIDIA", Description="GeForce RTX 4090")
    plug_ins.offered[name] = [device(name, "CPU"), offered]
    with Model.load(tiny_bundle, name, threads=1) as model:
        inversion = model.invert(picture, align="never")
    with Model.load(tiny_bundle, "cpu", threads=1) as reference:
        expected = reference.invert(picture, align="never")
    assert np.array_equal(to_picture(inversion.output), to_picture(expected.output))
    assert plug_ins.registered == {f"hyperstyle-rt {name}": f"/plug-ins/{name}.so"}
    assert len(plug_ins.sessions) == 5  # the smallest model there is, and four graphs
    for chosen, settings, falls_back in plug_ins.sessions:
        assert chosen is offered
        assert not falls_back
        if name == "ort-openvino":  # whose own default may be narrower
            assert json.loads(settings["load_config"]) == {
                "GPU": {"INFERENCE_PRECISION_HINT": "f32"}
            }
        else:
            assert settings == {}
    assert inversion.computed["backend"] == name
    assert inversion.computed["precision"] == "fp32"
    assert inversion.computed["provider"] == (
        f"ONNX Runtime {plug_ins.ort.__version__} {NAMES[name]} 0.9 on GPU NVIDIA GeForce RTX 4090"
    )


def test_a_device_is_chosen_by_its_number(plug_ins: StandIn, tiny_bundle: Path) -> None:
    """Those to compile for, and those of other kinds, are none."""
    first, second = device("webgpu", vendor="Intel"), device("webgpu", vendor="AMD")
    others = [device("webgpu", is_virtual="1"), device("webgpu", "CPU"), device("mlx")]
    plug_ins.offered["webgpu"] = [*others, first, second]
    bundle = Bundle.open(tiny_bundle)
    assert plug_in_devices("webgpu") == [first, second]
    for number, expected in ((None, "Intel"), (0, "Intel"), (1, "AMD")):
        backend = open_backend("webgpu", bundle, 1, "fp32", number)
        assert backend.provider.endswith(f"on GPU {expected}")
    with pytest.raises(BackendError) as refusal:
        open_backend("webgpu", bundle, 1, "fp32", 2)
    assert str(refusal.value) == (
        "the backend webgpu has no device 2, only 0 (GPU Intel), 1 (GPU AMD); choose one of these "
        "with --device"
    )


def test_doctor_lists_the_devices(
    plug_ins: StandIn, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_lookup, "default_bundle", lambda: tiny_bundle)
    plug_ins.offered["webgpu"] = [
        device("webgpu", vendor="Intel"),
        device("webgpu", vendor="AMD", Description="Radeon"),
    ]
    text = " ".join(succeed("doctor").split())
    assert "backend webgpu works on 0 GPU Intel, 1 GPU AMD Radeon" in text
    backends = json.loads(succeed("doctor", "--json"))["backends"]
    assert backends["webgpu"]["devices"] == ["GPU Intel", "GPU AMD Radeon"]
    assert backends["webgpu"]["problem"] is None
    assert (backends["cpu"]["devices"], backends["mlx"]["devices"]) == ([], [])
    assert "finds no GPU to use" in backends["mlx"]["problem"]


@pytest.mark.parametrize("name", ["cpu", "openvino", "tensorrt", "ort-tensorrt"])
def test_other_backends_have_no_devices(name: str, tiny_bundle: Path) -> None:
    sentence = refuse("invert", "a.png", "--bundle", tiny_bundle, "--backend", name, "--device", 1)
    assert f"the backend {name} has no devices to choose from; leave --device out" in sentence
    assert ("CUDA_VISIBLE_DEVICES" in sentence) == ("tensorrt" in name)
    with pytest.raises(BackendError, match="there is no device -1; the first is 0"):
        open_backend(name, Bundle.open(tiny_bundle), 1, "fp32", -1)


def test_a_session_that_got_something_else_is_refused(plug_ins: StandIn, tiny_bundle: Path) -> None:
    plug_ins.offered["webgpu"] = [device("webgpu")]
    plug_ins.given = "CPUExecutionProvider"
    with pytest.raises(BackendError, match="gave CPUExecutionProvider where WebGpuExecutionProv"):
        open_backend("webgpu", Bundle.open(tiny_bundle), 1)


def test_a_library_is_registered_once(plug_ins: StandIn, tiny_bundle: Path) -> None:
    """Also where the host application has done it, under a name of its own."""
    bundle = Bundle.open(tiny_bundle)
    plug_ins.offered["webgpu"] = [device("webgpu")]
    for _ in range(2):
        open_backend("webgpu", bundle, 1).close()
    assert list(plug_ins.registered) == ["hyperstyle-rt webgpu"]
    plug_ins.registered["theirs"] = "/elsewhere.so"
    plug_ins.offered["theirs"] = [device("mlx", vendor="Apple")]
    open_backend("mlx", bundle, 1).close()
    assert list(plug_ins.registered) == ["hyperstyle-rt webgpu", "theirs"]


def test_what_is_missing_is_one_sentence(
    plug_ins: StandIn, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device, the library, the package, plug-ins at all; `doctor` says the same."""
    bundle = Bundle.open(tiny_bundle)

    def said(name: str) -> str:
        ort_providers._registered.cache_clear()
        plug_ins.registered.clear()
        with pytest.raises(BackendError) as refusal:
            open_backend(name, bundle, 1)
        ort_providers._registered.cache_clear()
        plug_ins.registered.clear()
        assert entry_of(name).problem() == str(refusal.value)
        return str(refusal.value)

    assert said("webgpu") == (
        "the plug-in onnxruntime-ep-webgpu finds no GPU to use on this machine; use another "
        "--backend"
    )
    assert "finds no GPU or NPU to use" in said("ort-openvino")

    def broken(_name: str, _path: str) -> None:
        raise RuntimeError("libcudart.so.13: cannot open shared object file\nand more")

    monkeypatch.setattr(plug_ins.ort, "register_execution_provider_library", broken)
    assert "cannot be loaded (libcudart.so.13: cannot open shared object file); install a" in said(
        "tensorrt-rtx"
    )
    monkeypatch.delattr(plug_ins.ort, "register_execution_provider_library")
    assert "takes no plug-ins; install version 1.23 or later" in said("tensorrt-rtx")
    monkeypatch.setitem(sys.modules, PLUG_INS["mlx"].module, None)
    assert said("mlx") == (
        "the plug-in onnxruntime-ep-mlx is not installed; pip install onnxruntime-ep-mlx, or use "
        "another --backend"
    )


def test_cuda_gets_the_number_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperstyle_rt.backends import ort

    monkeypatch.setattr(ort, "usable_providers", lambda: ort.PROVIDERS)
    chosen = ort.choose_provider("cuda", None, 1)
    assert (chosen.settings, chosen.device_id) == ({"device_id": "1"}, 1)
    assert chosen.label == "CUDAExecutionProvider on GPU 1"
    assert ort.choose_provider("cuda", None, None).settings == {"device_id": "0"}


@pytest.mark.skipif(find_spec("onnxruntime_ep_webgpu") is None, reason="needs the plug-in")
def test_a_real_plug_in_is_registered_and_says_what_it_lacks() -> None:
    ort_providers._registered.cache_clear()
    problem = entry_of("webgpu").problem()
    assert problem is None or "finds no GPU" in problem


def test_options_name_the_backends_with_devices() -> None:
    text = " ".join(succeed("invert", "--help").split())
    for name in ("cuda", "webgpu"):
        assert name in text[text.index("--device") :]


def test_the_page_on_speed_has_the_plug_ins_of_the_registry() -> None:
    """With what each requires, in the same words, and that none was verified."""
    page = (Path(__file__).parents[2] / "docs" / "speed.md").read_text(encoding="utf-8")
    for entry in map(entry_of, PLUG_INS):
        assert f"| `{entry.name}` | {entry.description} | {entry.requires} | no |" in page
