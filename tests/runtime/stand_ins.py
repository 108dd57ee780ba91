"""Stand-ins for TensorRT and CUDA, in tests only: they record calls and compute with ONNX Runtime.

Device memory is host memory at made-up addresses; a plan is a file that names the graph it stands
for. So the backend's own work (what is bound to which name, what is copied when, what is captured)
is seen, and its results are numbers that can be compared.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hyperstyle_rt.backends.ort_library import load_onnxruntime
from hyperstyle_rt.formats.bundle import MANIFEST_NAME, PLANS_DIRECTORY, Bundle

VERSION = "10.13.2.6"
TYPES = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}


def add_plans(directory: Path, precisions: Sequence[str] = ("fp32",)) -> Path:
    """Give a bundle plans for the stand-in of TensorRT, of every graph whatever its role.

    For tests: ``Model.load(add_plans(bundle), "tensorrt")`` with the fixture ``cuda``.
    """
    bundle = Bundle.open(directory)
    document = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
    document["plans"] = {}
    for precision in precisions:
        key = f"{VERSION}-sm89-{precision}"
        plans = document["plans"][key] = {}
        (directory / PLANS_DIRECTORY / key).mkdir(parents=True)
        for role in bundle.manifest.graphs:
            content = f"plan:{bundle.verified_path(role, precision)}".encode()
            (directory / PLANS_DIRECTORY / key / f"{role}.plan").write_bytes(content)
            plans[f"{role}.plan"] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "stored": precision,
            }
    (directory / MANIFEST_NAME).write_text(json.dumps(document), encoding="utf-8")
    return directory


class Status(int):
    """A CUDA status; its name is what errors show."""

    name = "cudaErrorMemoryAllocation"


class StandInCuda:
    """cuda.bindings.runtime: what the backend calls, recorded in `calls`."""

    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0
    cudaEventDisableTiming = 2
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice="H2D", cudaMemcpyDeviceToHost="D2H", cudaMemcpyDeviceToDevice="D2D"
    )

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.device: dict[int, np.ndarray] = {}
        self.pinned: dict[int, Any] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.executables = 0
        self.events: set[int] = set()
        self.limit = 1 << 40
        self.weights_seen: list[tuple[str, dict[str, int]]] = []  # role, addresses by name

    def queue(self, call: str, work: Callable[[], None]) -> None:
        """Do it now, or record it where the stream is captured."""
        self.calls.append(call)
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def cudaSetDevice(self, device: int) -> tuple[int]:
        self.calls.append(f"device {device}")
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return 0, 77

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.calls.append("destroy stream")
        return (0,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        assert self.recording is None, "cudaMalloc while a stream is captured"
        if size > self.limit:
            return Status(2), 0
        self.calls.append("malloc")
        block = np.zeros(size, np.uint8)
        self.device[block.ctypes.data] = block
        return 0, block.ctypes.data

    def cudaFree(self, address: int) -> tuple[int]:
        del self.device[address]
        return (0,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int]:
        block = ctypes.create_string_buffer(size)
        self.pinned[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFreeHost(self, address: int) -> tuple[int]:
        del self.pinned[address]
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> Any:
        assert stream == 77
        host = {"H2D": [source], "D2H": [target]}.get(kind, [])
        assert all(address in self.pinned for address in host), "an async copy of pageable memory"
        self.queue(kind, lambda: ctypes.memmove(target, source, size) and None)
        return (0,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, int]:
        assert flags == self.cudaEventDisableTiming
        self.events.add(event := 100 + len(self.events))
        return 0, event

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:
        assert event in self.events
        assert stream == 77
        self.calls.append("record event")
        return (0,)

    def cudaEventSynchronize(self, event: int) -> tuple[int]:
        assert event in self.events
        self.calls.append("wait for event")
        return (0,)

    def cudaEventDestroy(self, event: int) -> tuple[int]:
        self.events.remove(event)
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        assert self.recording is None, "a wait while a stream is captured"
        self.calls.append("synchronise")
        return (0,)

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        used = sum(block.nbytes for block in self.device.values())
        return 0, self.limit - used, self.limit

    def cudaDeviceSynchronize(self) -> tuple[int]:
        self.calls.append("synchronise device")
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.calls.append("begin capture")
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        self.calls.append("end capture")
        recorded, self.recording = self.recording, None
        return 0, recorded

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        self.executables += 1
        return 0, graph

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (0,)

    def cudaGraphExecDestroy(self, executable: Any) -> tuple[int]:
        self.executables -= 1
        return (0,)

    def cudaGraphLaunch(self, executable: Any, stream: int) -> tuple[int]:
        self.calls.append("launch")
        for work in executable:
            work()
        return (0,)


class StandInTensorrt:
    """tensorrt: engines that list their outputs backwards, and compute with ONNX Runtime."""

    __version__ = VERSION
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    class Logger:
        WARNING = 2

        def __init__(self, level: int) -> None:
            assert level == self.WARNING

    def __init__(self, cuda: StandInCuda) -> None:
        self.cuda = cuda
        self.deserialised: list[str] = []

    def Runtime(self, log: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=self._deserialise)

    def nptype(self, dtype: np.dtype) -> np.dtype:
        return dtype

    def _deserialise(self, data: bytes | memoryview) -> Any:
        kind, _, path = bytes(data).decode().partition(":")
        if kind != "plan":
            return None
        self.deserialised.append(Path(path).stem)
        return StandInEngine(Path(path), self.cuda)


class StandInEngine:
    """An engine of a graph; its tensors are listed outputs first and backwards."""

    def __init__(self, path: Path, cuda: StandInCuda) -> None:
        self.role, self.cuda = path.name.split(".")[0], cuda
        ort = load_onnxruntime()
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = {tensor.name: tensor for tensor in [*reversed(outputs), *inputs]}
        self.names = list(self.tensors)
        self.inputs = {tensor.name for tensor in inputs}
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_dtype(self, name: str) -> np.dtype:
        return TYPES[self.tensors[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(dim, str) else dim for dim in self.tensors[name].shape)

    def create_execution_context(self) -> StandInContext:
        return StandInContext(self)


class StandInContext:
    """An execution context: what is bound by name is what is read and written."""

    LARGEST_BATCH = 4

    def __init__(self, engine: StandInEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        expected = self.engine.tensors[name].shape
        fits = all(isinstance(e, str) or e == s for e, s in zip(expected, shape, strict=True))
        return fits and (not isinstance(expected[0], str) or shape[0] <= self.LARGEST_BATCH)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        lengths = {
            dim: length
            for given, shape in self.shapes.items()
            for dim, length in zip(self.engine.tensors[given].shape, shape, strict=True)
        }
        dims = self.engine.tensors[name].shape
        return tuple(lengths[dim] if isinstance(dim, str) else dim for dim in dims)

    def set_tensor_address(self, name: str, address: int) -> None:
        assert address in self.engine.cuda.device, f"{name} is not in device memory"
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        engine, addresses = self.engine, dict(self.addresses)
        shapes = {name: self.get_tensor_shape(name) for name in engine.names} | self.shapes
        assert set(addresses) == set(engine.names)

        def view(name: str) -> np.ndarray:
            dtype = engine.get_tensor_dtype(name)
            size = int(np.prod(shapes[name])) * dtype.itemsize
            memory = engine.cuda.device[addresses[name]][:size]
            return memory.view(dtype).reshape(shapes[name])

        def work() -> None:
            outputs = [name for name in engine.names if name not in engine.inputs]
            arrays = engine.session.run(outputs, {name: view(name) for name in engine.inputs})
            for name, array in zip(outputs, arrays, strict=True):
                view(name)[...] = array

        weights = {n: a for n, a in addresses.items() if n.startswith("weight.")}
        engine.cuda.weights_seen.append((engine.role, weights))
        engine.cuda.queue(f"run {engine.role}", work)
        return True
