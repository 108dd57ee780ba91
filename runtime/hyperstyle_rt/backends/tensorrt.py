"""Native TensorRT: plans, all tensors on the device, chains of graphs as one CUDA graph.

Before TensorRT is touched, the driver is asked for the GPU (a Runtime without a driver crashes the
process) and the plan's digest is verified (a plan is native code). Tensors are bound by name: the
order of an engine's outputs is TensorRT's own. Plans are the bundle's; where it has none for this
GPU and TensorRT, the runtime builds them into the user's cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import numpy as np

from ..errors import BackendError
from ..formats.bundle import Bundle
from ..types import Array
from .cuda.memory import Cuda, DeviceBuffer, Pool, Reading, cuda_runtime
from .inputs import check_names, check_tensor
from .lifetime import NativeObjects, State
from .plans.build import classic_target
from .plans.engines import Engine, Engines
from .protocol import GPU_BATCH, Buffers, Signature

logger = logging.getLogger(__name__)


def open_tensorrt(
    name: str, bundle: Bundle, threads: int | None, precision: str, device: int | None
) -> TensorrtBackend:
    """Open the backend; `threads`, which is for CPUs, and `device` are ignored.

    Raises
    ------
    BackendError
        If there is no GPU, or TensorRT or cuda-python is missing.
    BundleError
        If the bundle has no graphs of that precision.
    """
    return TensorrtBackend(name, Engines(bundle, precision))


def probe_tensorrt(name: str) -> str | None:
    """Ask for the GPU and the libraries; gives None, or why they cannot be used."""
    try:
        classic_target()
        cuda_runtime()
    except BackendError as error:
        return str(error)
    return None


class TensorrtBackend:
    """Runs engines on a stream and in memory of its own; for one thread at a time.

    Attributes
    ----------
    name:
        ``tensorrt``, or ``tensorrt-pycuda`` beside PyCUDA.
    key:
        Name of the set of plans: TensorRT's version, the GPU's architecture, the precision.

    Raises
    ------
    BackendError
        If cuda-python is missing, or the GPU cannot be used.
    """

    def __init__(self, name: str, engines: Engines, *, owns_engines: bool = True) -> None:
        self.name = name
        self.key = engines.key
        self._engines = engines
        self._owns_engines = owns_engines
        self._cuda = Cuda()
        self._native = NativeObjects()
        self._contexts: dict[str, Any] = {}
        self._recordings: WeakSet[CapturedGraph] = WeakSet()

    @property
    def provider(self) -> str:
        """What runs the graphs."""
        return f"TensorRT {self.key} on {self._engines.gpu}"

    @property
    def precision(self) -> str:
        """Type that the plans compute in."""
        return self._engines.precision

    @property
    def graph_precision(self) -> str:
        """Of the graphs that the plans were built of."""
        return self._engines.precision

    @property
    def largest_batch(self) -> int:
        """Largest batch that the plans of the generators are built for."""
        return GPU_BATCH

    def signature(self, role: str) -> Signature:
        """Inputs and outputs of a graph, as its plan has them; raises as :meth:`run`."""
        return self._engine(role).signature

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Queue a graph on device buffers; gives its outputs, which are not waited for.

        Raises
        ------
        BundleError
            If the bundle lacks the graph; if its plan is altered, or not one TensorRT can load.
        BackendError
            If an input is missing, unknown, or of another shape or type than the plan's; if the
            plan cannot be built or fails; after :meth:`close`, and in a forked child.
        """
        engine = self._engine(role)
        context = self._context(role, engine)
        signature = engine.signature
        check_names(role, signature, inputs)
        for name, spec in signature.inputs.items():
            buffer = inputs[name]
            if not isinstance(buffer, DeviceBuffer):
                raise BackendError(
                    f"the graph {role} takes {name} as a buffer, not as {type(buffer).__name__}; "
                    "upload it first"
                )
            check_tensor(role, name, spec, buffer.shape, buffer.dtype)
            if not context.set_input_shape(name, buffer.shape):
                raise BackendError(
                    f"the plan of {role} does not take {name} as {list(buffer.shape)}; use smaller "
                    "batches, or build the bundle again"
                )
            context.set_tensor_address(name, buffer.address)
        outputs = {}
        for name, spec in signature.outputs.items():
            outputs[name] = self._cuda.empty(tuple(context.get_tensor_shape(name)), spec.dtype)
            context.set_tensor_address(name, outputs[name].address)
        if not context.execute_async_v3(int(self._cuda.stream)):
            raise BackendError(
                f"TensorRT fails to run the plan of {role}; check the GPU with nvidia-smi, or use "
                "--backend cpu"
            )
        return outputs

    def upload(self, array: Any) -> DeviceBuffer:
        """Copy a host array to the device, or a float32 device array of another library on it.

        A device array has ``__dlpack__`` or ``__cuda_array_interface__``: PyTorch, CuPy, PyCUDA.

        Raises
        ------
        BackendError
            If a device array is not contiguous float32, or is on another GPU.
        """
        self._check()
        return self._cuda.upload(array)

    def download(self, buffer: DeviceBuffer) -> Array:
        """Wait for the device, and copy a buffer into a float32 array of its own."""
        self._check()
        return np.asarray(self._cuda.download(buffer), np.float32)

    def share(self, buffer: DeviceBuffer) -> Any:
        """Wait for the device; the buffer has ``__dlpack__`` and ``__cuda_array_interface__``."""
        self._check()
        self._cuda.synchronise()
        return buffer

    def start_reading(self, buffer: DeviceBuffer) -> Reading:
        """Queue a copy to the host; to be finished before the next is started."""
        self._check()
        return self._cuda.start_reading(buffer)

    def finish_reading(self, reading: Reading) -> Array:
        """Wait for that copy, not for what was queued after it."""
        return np.asarray(self._cuda.finish_reading(reading), np.float32)

    def record(self, work: Callable[[Buffers], Buffers], inputs: Buffers) -> CapturedGraph:
        """Capture what `work` queues as one CUDA graph.

        It is done once before: engines cannot be loaded, nor memory allocated, during a capture.
        Its tensors get memory that nothing else uses, as the graph writes to the same addresses
        whenever it is launched.

        Raises
        ------
        BackendError, BundleError
            As :meth:`run`.
        """
        self._check()
        cuda, results = self._cuda, Buffers()
        with cuda.private_memory() as memory:
            own = {name: cuda.empty(buffer.shape, buffer.dtype) for name, buffer in inputs.items()}
            for name, buffer in inputs.items():
                cuda.copy(own[name], buffer)
            work(dict(own))
            executable = cuda.capture(lambda: results.update(work(dict(own))))
        logger.debug("captured a CUDA graph with the inputs %s", ", ".join(own))
        recording = CapturedGraph(cuda, self._native, executable, own, results, memory)
        self._recordings.add(recording)
        return recording

    def for_session(self) -> TensorrtBackend:
        """The same engines with another stream, other memory and other execution contexts."""
        self._check()
        return type(self)(self.name, self._engines, owns_engines=False)

    def close(self) -> None:
        """Free everything on the device; the engines, too, where it is not a session's view."""
        for recording in list(self._recordings):
            recording.release()
        if self._native.close():
            self._contexts.clear()
            self._cuda.close()
            if self._owns_engines:
                self._engines.close()

    def _check(self) -> None:
        self._native.check()
        self._engines.check()

    def _engine(self, role: str) -> Engine:
        self._check()
        return self._engines.engine(role)

    def _context(self, role: str, engine: Engine) -> Any:
        if role not in self._contexts:
            context = engine.engine.create_execution_context()
            if context is None:
                raise BackendError(
                    f"TensorRT has no memory to run the plan of {role}; free GPU memory, or use "
                    "--backend cpu"
                )
            self._native.keep(context)
            self._contexts[role] = context
        return self._contexts[role]


class CapturedGraph:
    """A CUDA graph with the buffers it reads and writes, whose memory is its own."""

    def __init__(
        self,
        cuda: Cuda,
        native: NativeObjects,
        executable: Any,
        inputs: Buffers,
        results: Buffers,
        memory: Pool,
    ) -> None:
        self._cuda = cuda
        self._native = native
        self._executable = executable
        self._inputs = inputs
        self._results = results
        self._memory = memory

    def replay(self, inputs: Buffers) -> Buffers:
        """Queue the graph on other inputs; its results are not waited for.

        The next replay writes to the same buffers.

        Raises
        ------
        BackendError
            If the inputs are not those that were recorded, in name, shape and type; after
            :meth:`release`.
        """
        self._native.check()
        if self._executable is None:
            raise BackendError("this recording was released; record the work again")
        kinds, recorded = (
            {name: (buffer.shape, buffer.dtype) for name, buffer in buffers.items()}
            for buffers in (inputs, self._inputs)
        )
        if kinds != recorded:
            raise BackendError("a recording takes the inputs it was made with; record again")
        for name, buffer in inputs.items():
            self._cuda.copy(self._inputs[name], buffer)
        self._cuda.launch(self._executable)
        return dict(self._results)

    def release(self) -> None:
        """Return its memory to the common pool; again, or in a forked child, this does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None and self._native.state is State.OPEN:
            self._cuda.destroy(executable)
            self._inputs.clear()  # the buffers go back to the graph's own memory
            self._results.clear()
            self._cuda.release(self._memory)
