"""ONNX Runtime: the CPU provider (the embedded default) and the CUDA provider."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError, BundleError
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION
from ..types import Array
from .cuda.driver import find_gpu
from .onnx_runtime import onnxruntime as ort
from .protocol import GPU_BATCH, Buffers, refuse_optional_inputs

logger = logging.getLogger(__name__)

PLANS = "ort-tensorrt"  # the bundle's own TensorRT plans, through ONNX Runtime
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    PLANS: "TensorrtExecutionProvider",
}
LOADED_TENSORRT = "10."  # the major version that ONNX Runtime's TensorRT provider is linked to
DEVICE_ID = 0
ERRORS_ONLY = 3  # ONNX Runtime's log severity: its warnings about graph clean-up are of no use


class OnnxRuntimeBackend:
    """One session per graph, opened when it is first run.

    Attributes
    ----------
    device:
        ``cpu``, ``cuda`` or ``ort-tensorrt``: what runs the graphs. Between them every tensor stays
        in the memory of the CPU or of the GPU.
    precision:
        Of the graphs that are run; ``fp32`` or one of the bundle's others.

    Raises
    ------
    BackendError
        If the device's provider is not offered, or another one answered in its place.
    BundleError
        If a graph is missing or altered.
    """

    def __init__(
        self, bundle: Bundle, device: str, threads: int | None, precision: str = BASE_PRECISION
    ) -> None:
        self.device = device
        self._memory = "cpu" if device == "cpu" else "cuda"
        self.precision = precision
        self._bundle = bundle
        self._threads = threads
        self._sessions: dict[str, ort.InferenceSession] = {}
        if device not in usable_providers():
            raise BackendError(
                f"ONNX Runtime {ort.__version__} cannot use {PROVIDERS[device]} here (it offers "
                f"{', '.join(ort.get_available_providers())}); install onnxruntime-gpu with the "
                "CUDA and cuDNN libraries it names, or use --backend cpu"
            )
        self._session("generator")  # finds out now whether the provider works; all tasks need it

    @property
    def provider(self) -> str:
        """What really runs the graphs."""
        return f"ONNX Runtime {ort.__version__} {PROVIDERS[self.device]}"

    @property
    def largest_batch(self) -> int:
        """One on a CPU, to which a batch saves little: every picture is then that of one render.

        In a batch, small products are summed in another order and pixels may differ by one level.
        """
        return 1 if self.device == "cpu" else GPU_BATCH

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on OrtValues; outputs are left on the device.

        Raises
        ------
        BundleError
            If the bundle lacks the graph, or its file is altered.
        BackendError
            If ONNX Runtime cannot load the graph, or fell back to another provider; if a plan is
            fed an optional input of its graph.
        """
        session = self._session(role)
        if self.device == PLANS:
            refuse_optional_inputs(role, inputs, [value.name for value in session.get_inputs()])
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        names = [output.name for output in session.get_outputs()]
        for name in names:
            binding.bind_output(name, self._memory, DEVICE_ID)
        session.run_with_iobinding(binding)
        return dict(zip(names, binding.get_outputs(), strict=True))

    def upload(self, array: Array) -> ort.OrtValue:
        """Copy a float32 array to the device."""
        if self.device == "cpu":  # an OrtValue on the CPU shares numpy's memory
            array = np.array(array, np.float32, order="C")
        return ort.OrtValue.ortvalue_from_numpy(array, self._memory, DEVICE_ID)

    def download(self, buffer: ort.OrtValue) -> Array:
        """Copy an OrtValue into a float32 array of its own."""
        return np.array(buffer.numpy(), np.float32, copy=True)

    def _session(self, role: str) -> ort.InferenceSession:
        if role not in self._sessions:
            self._sessions[role] = self._open(role)
        return self._sessions[role]

    def _graph(self, role: str) -> Path:
        """The verified file of a graph, or of the model that stands for its plan."""
        if self.device != PLANS:
            return self._bundle.verified_path(role, self.precision)
        suffix = f"-sm{find_gpu().sm}-{self.precision}"
        keys = [key for key in self._bundle.manifest.plans if key.endswith(suffix)]
        loadable = [key for key in keys if key.startswith(LOADED_TENSORRT)]
        key = loadable[-1] if loadable else f"{LOADED_TENSORRT}x{suffix}"
        return self._bundle.verified_ep_context(key, role)

    def _open(self, role: str) -> ort.InferenceSession:
        path = self._graph(role)
        options = _session_options()
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        provider = PROVIDERS[self.device]
        try:
            session = ort.InferenceSession(
                str(path), options, providers=[provider], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime raises its own types, which share no base
            raise BundleError(
                f"ONNX Runtime {ort.__version__} cannot load {path}; build the bundle again with "
                f"this version ({str(error).splitlines()[0][:300]})"
            ) from error
        if session.get_providers()[0] != provider:
            raise BackendError(
                f"ONNX Runtime gave {session.get_providers()[0]} where {provider} was asked for; "
                "install the CUDA and cuDNN libraries its log names, or use --backend cpu"
            )
        logger.debug("%s on %s", path.name, provider)
        _return_freed_memory()
        return session


def _session_options() -> ort.SessionOptions:
    """Options that keep memory low without costing time: an inversion at 1024 needs 1 GB less.

    All sessions draw on one arena, so that the memory of one graph serves the next. A memory
    pattern would add a block of its own beside it, planned after the first run.
    """
    _register_shared_arena()
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


def _return_freed_memory() -> None:
    """Give back what loading a graph has freed: glibc would keep tens of megabytes per session."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@functools.cache
def _register_shared_arena() -> None:
    """One CPU arena for all sessions of the process, growing by what is asked for."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    grow_as_requested = {
        "max_mem": 0,
        "arena_extend_strategy": 1,
        "initial_chunk_size_bytes": -1,
        "max_dead_bytes_per_chunk": -1,
    }
    # Fails where the host application has registered an arena itself: then that one is shared.
    with contextlib.suppress(RuntimeError):
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg(grow_as_requested))


def usable_providers() -> dict[str, str]:
    """Devices that ONNX Runtime offers here -> its provider for them.

    An offered provider may still lack its libraries: every session asserts what it got.
    """
    offered = ort.get_available_providers()
    return {device: name for device, name in PROVIDERS.items() if name in offered}
