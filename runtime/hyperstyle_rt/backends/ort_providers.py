"""Execution providers of ONNX Runtime: which one a session gets, and on which device.

Some come with ONNX Runtime. Others are plug-ins: packages with a library that is registered, offers
devices, and is chosen by one of these. Nothing is left to ONNX Runtime's own choice, which takes
any plug-in once it is registered: a session names its device, may not fall back to the CPU, and is
asked afterwards what it got.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import BackendError
from .ort_library import first_line, load_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

Settings = Mapping[str, str]
"""What a provider is told, as ONNX Runtime passes it: texts."""

_REGISTERED_AS = "hyperstyle-rt"  # and the backend: other code of the process uses other names
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_LIBRARY_PATH = ("get_library_path", "library_path")  # a package has one of these functions
_PROVIDER_NAME = ("get_ep_name", "ep_name")


@dataclass(frozen=True)
class ChosenProvider:
    """A provider, and how a session is given it.

    Attributes
    ----------
    name:
        As ONNX Runtime calls it.
    memory:
        Where its tensors are: ``cpu`` or ``cuda``.
    device_id:
        Number of the device whose memory that is.
    label:
        For people: its name, and what it runs on where that is not clear.
    settings:
        What it is told.
    plug_in_device:
        ``onnxruntime.OrtEpDevice`` by which a plug-in is chosen; None for what comes with ONNX
        Runtime.
    """

    name: str
    memory: str
    device_id: int
    label: str
    settings: Settings = field(default_factory=dict)
    plug_in_device: Any = None

    def open_session(
        self, model: bytes | str, options: onnxruntime.SessionOptions
    ) -> onnxruntime.InferenceSession:
        """Open a model on it; whatever ONNX Runtime raises is passed on.

        Raises
        ------
        BackendError
            If ONNX Runtime gives another provider in its place.
        """
        ort = load_onnxruntime()
        if self.plug_in_device is None:
            session = ort.InferenceSession(
                model, options, providers=[(self.name, dict(self.settings))], enable_fallback=0
            )
        else:
            options.add_provider_for_devices([self.plug_in_device], dict(self.settings))
            options.add_session_config_entry(_NO_FALLBACK, "1")
            session = ort.InferenceSession(model, options, enable_fallback=0)
        given = session.get_providers()[0]
        if given != self.name:
            raise BackendError(
                f"ONNX Runtime gave {given} where {self.name} was asked for; install the libraries "
                "its log names (CUDA's and cuDNN's for NVIDIA's), or use --backend cpu"
            )
        return session


@dataclass(frozen=True)
class PlugIn:
    """A package with a provider for ONNX Runtime.

    Attributes
    ----------
    module:
        What is imported to find its library.
    package:
        What is installed.
    device_types:
        Kinds of devices, as ONNX Runtime names them, that it is used on.
    settings:
        (threads, device type) -> what the provider is told.
    """

    module: str
    package: str
    device_types: frozenset[str]
    settings: Callable[[int | None, str], Settings]


def _no_settings(_threads: int | None, _device_type: str) -> Settings:
    return {}


def _openvino_settings(_threads: int | None, device_type: str) -> Settings:
    """Float32, which is not OpenVINO's default where a device has narrower types."""
    return {"load_config": json.dumps({device_type: {"INFERENCE_PRECISION_HINT": "f32"}})}


PLUG_INS = {
    "ort-openvino": PlugIn(
        "onnxruntime_ep_openvino",
        "onnxruntime-ep-openvino",
        frozenset({"GPU", "NPU"}),  # of CPUs the backend openvino knows more
        _openvino_settings,
    ),
    "webgpu": PlugIn(
        "onnxruntime_ep_webgpu", "onnxruntime-ep-webgpu", frozenset({"GPU"}), _no_settings
    ),
    "tensorrt-rtx": PlugIn(
        "onnxruntime_ep_nv_tensorrt_rtx",
        "onnxruntime-ep-nv-tensorrt-rtx-cu13",
        frozenset({"GPU"}),
        _no_settings,
    ),
    "mlx": PlugIn("onnxruntime_ep_mlx", "onnxruntime-ep-mlx", frozenset({"GPU"}), _no_settings),
}
"""Backend -> the plug-in that it is."""


def choose_plug_in(name: str, threads: int | None, device: int | None) -> ChosenProvider:
    """Register a plug-in and choose one of its devices.

    Parameters
    ----------
    name:
        One of :data:`PLUG_INS`.
    threads:
        On a CPU at most.
    device:
        Number in the list of :func:`plug_in_devices`; None for the first.

    Raises
    ------
    BackendError
        If the package is missing or cannot be loaded, or offers no such device.
    """
    plug_in = PLUG_INS[name]
    devices = plug_in_devices(name)
    if not devices:
        raise BackendError(
            f"the plug-in {plug_in.package} finds no {' or '.join(sorted(plug_in.device_types))} "
            "to use on this machine; use another --backend"
        )
    number = 0 if device is None else device
    if number >= len(devices):
        raise BackendError(
            f"the backend {name} has no device {number}, only "
            f"{', '.join(f'{n} ({device_label(d)})' for n, d in enumerate(devices))}; choose one "
            "of these with --device"
        )
    chosen = devices[number]
    kind = chosen.device.type.name
    return ChosenProvider(
        name=chosen.ep_name,
        memory="cpu",
        device_id=0,
        label=f"{chosen.ep_name} {chosen.ep_metadata.get('version', '')} on "
        f"{device_label(chosen)}".replace("  ", " "),
        settings=plug_in.settings(threads, kind),
        plug_in_device=chosen,
    )


def plug_in_devices(name: str) -> list[Any]:
    """Devices that a plug-in offers and is used on: ``onnxruntime.OrtEpDevice``.

    Devices that are only there to compile for are none.

    Raises
    ------
    BackendError
        If the package is missing or cannot be loaded.
    """
    plug_in = PLUG_INS[name]
    provider = _registered(name)
    return [
        device
        for device in load_onnxruntime().get_ep_devices()
        if device.ep_name == provider
        and device.device.type.name in plug_in.device_types
        and device.device.metadata.get("is_virtual") != "1"
    ]


def device_label(device: Any) -> str:
    """A device for people: ``GPU NVIDIA``, with its description where it has one."""
    hardware = device.device
    words = (hardware.type.name, hardware.vendor, hardware.metadata.get("Description", ""))
    return " ".join(word for word in words if word)


@functools.cache
def _registered(name: str) -> str:
    """Register a plug-in's library, once in a process; gives the name of its provider."""
    plug_in, ort = PLUG_INS[name], load_onnxruntime()
    try:
        package = import_module(plug_in.module)
    except ModuleNotFoundError as error:
        if error.name != plug_in.module:
            raise _broken(plug_in, error) from error
        raise BackendError(
            f"the plug-in {plug_in.package} is not installed; pip install {plug_in.package}, or "
            "use another --backend"
        ) from None
    except Exception as error:  # a broken package may raise anything when imported
        raise _broken(plug_in, error) from error
    if not hasattr(ort, "register_execution_provider_library"):
        raise BackendError(
            f"ONNX Runtime {ort.__version__} takes no plug-ins; install version 1.23 or later"
        )
    try:
        provider = str(_call(package, _PROVIDER_NAME))
        if provider not in {device.ep_name for device in ort.get_ep_devices()}:
            # else the host application has registered it
            path = str(_call(package, _LIBRARY_PATH))
            ort.register_execution_provider_library(f"{_REGISTERED_AS} {name}", path)
    except Exception as error:  # ONNX Runtime raises its own types, which share no base
        raise _broken(plug_in, error) from error
    return provider


def _call(package: Any, names: tuple[str, ...]) -> Any:
    """Call the one of these functions that a package has."""
    return next(getattr(package, name) for name in names if hasattr(package, name))()


def _broken(plug_in: PlugIn, error: Exception) -> BackendError:
    return BackendError(
        f"the plug-in {plug_in.package} cannot be loaded ({first_line(error)}); install a version "
        "for this ONNX Runtime and this machine, or use another --backend"
    )
