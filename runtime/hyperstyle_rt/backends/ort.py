"""ONNX Runtime: its provider for the CPU (the default), CUDA's, TensorRT's, and plug-ins."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendError
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION
from ..types import Array
from .cuda.driver import find_driver
from .inputs import check_names, check_tensor
from .lifetime import NativeObjects
from .ort_library import NEGATION, first_line, load_onnxruntime, session_options, shrink_arena
from .ort_providers import (
    PLUG_INS,
    ChosenProvider,
    choose_plug_in,
    device_label,
    plug_in_devices,
)
from .ort_sessions import OpenGraph, SessionMaker, dtype_of
from .protocol import GPU_BATCH, Buffers, Signature
from .registry import NOT_OFFERED, entry_of

if TYPE_CHECKING:
    import onnxruntime

PLANS = "ort-tensorrt"  # the bundle's own TensorRT plans, through ONNX Runtime
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    PLANS: "TensorrtExecutionProvider",
}
ADJOINT = "_adjoint"  # how the role of a graph's adjoint ends
WORTH_CLOSING = 64 << 20
"""Bytes of a graph's files from which on it is opened again rather than kept."""

GENERATOR, TILED_GENERATOR, LATENTS = "generator", "tiled_generator", "latents"

_COMPUTES_HALVES_IN_FLOAT = ("x86_64", "AMD64")  # ONNX Runtime's CPU provider, on these


def open_provider(
    name: str, bundle: Bundle, threads: int | None, precision: str, device: int | None
) -> OnnxRuntimeBackend:
    """Open one of :data:`PROVIDERS` or :data:`PLUG_INS`; raises as :class:`OnnxRuntimeBackend`."""
    return OnnxRuntimeBackend(name, bundle, threads, precision, device)


def usable_providers() -> dict[str, str]:
    """Backends that ONNX Runtime offers here -> its provider for them.

    An offered provider may still lack its libraries: every session asserts what it got.
    """
    offered = load_onnxruntime().get_available_providers()
    return {name: provider for name, provider in PROVIDERS.items() if provider in offered}


def probe_provider(name: str) -> str | None:
    """Run the smallest model on a provider; gives None, or why that does not work."""
    try:
        provider = choose_provider(name, None, None)
        session = provider.open_session(NEGATION, session_options(1))
        (y,) = session.run(None, {"x": np.ones(1, np.float32)})
    except _NotOffered:
        return NOT_OFFERED
    except BackendError as error:
        return str(error)
    except Exception as error:  # ONNX Runtime raises its own types, which share no base
        return first_line(error)
    return None if y[0] == -1 else f"computes {y[0]} for -1"


def list_devices(name: str) -> list[str]:
    """Devices of a provider that one can be asked for of, for people, by number.

    Raises
    ------
    BackendError
        If a plug-in is missing or cannot be loaded.
    """
    if name in PLUG_INS:
        return [device_label(device) for device in plug_in_devices(name)]
    driver = find_driver()
    return [] if driver is None else [gpu.name for gpu in driver.gpus]


def choose_provider(name: str, threads: int | None, device: int | None) -> ChosenProvider:
    """The provider that a backend is, on one of its devices; None for the first.

    Raises
    ------
    BackendError
        If ONNX Runtime is not installed or does not offer it, or there is no such device.
    """
    if name in PLUG_INS:
        return choose_plug_in(name, threads, device)
    ort, provider = load_onnxruntime(), PROVIDERS[name]
    if name not in usable_providers():
        raise _NotOffered(
            f"ONNX Runtime {ort.__version__} cannot use {provider} here (it offers "
            f"{', '.join(ort.get_available_providers())}); install onnxruntime-gpu with the CUDA "
            "and cuDNN libraries it names, or use --backend cpu"
        )
    memory, number = entry_of(name).memory, 0 if device is None else device
    settings = {"device_id": str(number)} if memory == "cuda" else {}
    label = f"{provider} on GPU {number}" if number else provider
    return ChosenProvider(provider, memory, number, label, settings)


class _NotOffered(BackendError):
    """The provider is not in this build of ONNX Runtime."""


class OnnxRuntimeBackend:
    """One session per graph, opened when it is first asked for.

    Threads may call it at a time. Every tensor stays in the memory of the CPU or of the GPU.

    Attributes
    ----------
    name:
        One of :data:`PROVIDERS` or :data:`PLUG_INS`: what runs the graphs.
    graph_precision:
        Of the graphs that are run: ``fp32``, or one of the bundle's others.

    Raises
    ------
    BackendError
        If ONNX Runtime is not installed, does not offer the provider, or gives another in its
        place.
    BundleError
        If the bundle has no graphs of that precision.
    """

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        threads: int | None,
        precision: str = BASE_PRECISION,
        device: int | None = None,
    ) -> None:
        self.name = name
        self.graph_precision = precision
        self._ort = load_onnxruntime()
        self._provider = choose_provider(name, threads, device)
        self._maker = SessionMaker(bundle, precision, self._provider, threads)
        self._native = NativeObjects()
        self._graphs: dict[str, OpenGraph] = {}
        self._opening = threading.Lock()
        self._has_tiles = (
            name == "cpu"
            and precision == BASE_PRECISION
            and TILED_GENERATOR in bundle.manifest.graphs
        )
        self._maker.check()

    @property
    def provider(self) -> str:
        """What really runs the graphs."""
        return f"ONNX Runtime {self._ort.__version__} {self._provider.label}"

    @property
    def precision(self) -> str:
        """Type that is computed in: an x86 CPU computes fp16 graphs in float32."""
        if self.name == "cpu" and platform.machine() in _COMPUTES_HALVES_IN_FLOAT:
            return BASE_PRECISION
        return self.graph_precision

    @property
    def largest_batch(self) -> int:
        """1 on a CPU, where a batch saves little time: pictures are then those of single renders.

        In a batch, small products are summed in another order and pixels may differ by one level.
        """
        return 1 if self._provider.memory == "cpu" else GPU_BATCH

    def signature(self, role: str) -> Signature:
        """Inputs and outputs of a graph; raises as :meth:`run`."""
        return self._open_graph(role).signature

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on OrtValues; outputs are left on the device.

        Raises
        ------
        BundleError
            If the bundle lacks the graph, or a file of it is altered; if ONNX Runtime cannot load
            it; if a file was written to that it shares with other graphs.
        BackendError
            If ONNX Runtime fell back to another provider; if an input is missing, unknown, or of
            another shape or type; if the graph fails; after :meth:`close`, and in a forked child.
        """
        graph = self._open_graph(self._arranged(role, inputs))
        check_names(role, graph.signature, inputs)
        if graph.tensors is not None:
            graph.tensors.check()
        binding = graph.session.io_binding()
        for name, value in inputs.items():
            self._check(role, graph, name, value)
            binding.bind_ortvalue_input(name, value)
        for name in graph.signature.outputs:
            binding.bind_output(name, self._provider.memory, self._provider.device_id)
        try:
            graph.session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            raise BackendError(
                f"ONNX Runtime fails to run the graph {role} ({first_line(error)}); free memory if "
                "it is short, or use another --backend"
            ) from error
        return dict(zip(graph.signature.outputs, binding.get_outputs(), strict=True))

    def upload(self, array: Any) -> onnxruntime.OrtValue:
        """Copy a host array to the device, as float32.

        Raises
        ------
        BackendError
            If it is an array on a device, or a closed backend.
        """
        self._native.check()
        try:
            host = np.array(array, np.float32, order="C")  # on a CPU the OrtValue shares its memory
        except (TypeError, ValueError) as error:
            raise BackendError(
                f"the backend {self.name} takes arrays in the memory of the CPU ({error}); copy it "
                "there, or use --backend tensorrt"
            ) from error
        return self._ort.OrtValue.ortvalue_from_numpy(
            host, self._provider.memory, self._provider.device_id
        )

    def download(self, buffer: onnxruntime.OrtValue) -> Array:
        """Copy an OrtValue into a float32 array of its own."""
        return np.array(buffer.numpy(), np.float32, copy=True)

    def share(self, buffer: onnxruntime.OrtValue) -> Any:
        """A numpy array on a CPU; on a GPU the OrtValue itself, which has ``__dlpack__``."""
        return buffer.numpy() if self._provider.memory == "cpu" else buffer

    def for_session(self) -> OnnxRuntimeBackend:
        """Itself: sessions of ONNX Runtime may be run by several threads at a time."""
        self._native.check()
        return self

    def close(self) -> None:
        """Destroy the sessions and give their memory back."""
        if self._native.close():
            self._graphs.clear()
            shrink_arena()

    def let_go(self, roles: Iterable[str]) -> None:
        """Close graphs with much data, of the provider for the CPU; see the protocol."""
        self._native.check()
        with self._opening:
            self._drop([role for role in roles if self._is_worth_closing(role)])

    def _check(self, role: str, graph: OpenGraph, name: str, value: Any) -> None:
        """Refuse what is no OrtValue, or is of another shape or type than the graph's input."""
        if not isinstance(value, self._ort.OrtValue):
            raise BackendError(
                f"the graph {role} takes {name} as a buffer, not as {type(value).__name__}; upload "
                "it first"
            )
        spec, dtype = graph.signature.inputs[name], dtype_of(value.data_type())
        check_tensor(role, name, spec, tuple(value.shape()), dtype)

    def _arranged(self, role: str, inputs: Mapping[str, Any]) -> str:
        """The graph that computes the same fastest: another one for one picture on the CPU."""
        if role != GENERATOR or not self._has_tiles:
            return role
        latents = inputs.get(LATENTS)
        is_one = isinstance(latents, self._ort.OrtValue) and latents.shape()[0] == 1
        return TILED_GENERATOR if is_one else role

    def _open_graph(self, role: str) -> OpenGraph:
        """The session of a graph; several threads may ask for it at a time."""
        self._native.check()
        graph = self._graphs.get(role)
        if graph is None:
            with self._opening:
                graph = self._graphs.get(role) or self._add_graph(role)
        return graph

    def _add_graph(self, role: str) -> OpenGraph:
        if self.name == PLANS:
            graph = self._maker.open_plan(role)
        else:
            graph = self._maker.open(role, self._shares_tensors(role))
        self._native.keep(graph.session)
        self._graphs[role] = graph
        return graph

    def _shares_tensors(self, role: str) -> bool:
        """Whether a graph has to share its tensors with its adjoint, or with what it is one of.

        The one that is open already, with tensors of its own, is opened anew when it is run.
        """
        forward = role.removesuffix(ADJOINT)
        if not self._is_worth_closing(role) or not self._is_worth_closing(forward):
            return False
        if forward != role:
            self._drop([forward])
            return True
        return role + ADJOINT in self._graphs

    def _is_worth_closing(self, role: str) -> bool:
        """Not where a graph is compiled, which takes longer than to read it."""
        return self.name == "cpu" and self._maker.weighs(role) >= WORTH_CLOSING

    def _drop(self, roles: Iterable[str]) -> None:
        open_ones = [role for role in roles if role in self._graphs]
        for role in open_ones:
            self._native.let_go(self._graphs.pop(role).session)  # by now nothing else refers to it
        if open_ones:
            shrink_arena()
