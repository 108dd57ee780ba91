"""Native TensorRT: plans of the bundle, all tensors on the device, the loop as one CUDA graph.

Before TensorRT is touched, the driver is asked for the GPU (a Runtime without a driver crashes the
process) and the plan's digest is verified (a plan is native code). Tensors are bound by name: the
order of an engine's outputs is TensorRT's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..errors import BackendError, BundleError
from . import Array, Buffers, LoopBuffers
from .cuda_driver import find_gpu
from .cuda_memory import Cuda, DeviceBuffer, Pool

logger = logging.getLogger(__name__)


class TensorrtBackend:
    """One engine per graph, deserialised when it is first run, all on one stream.

    Attributes
    ----------
    precision:
        Of the plans: ``fp32`` or ``fp16``.
    key:
        Name of the set of plans: TensorRT's version, the GPU's architecture, the precision.

    Raises
    ------
    BackendError
        If there is no GPU, or TensorRT or cuda-python is missing.
    BundleError
        If the bundle has no plan for exactly this GPU and TensorRT, or it is altered.
    """

    def __init__(self, bundle: Bundle, precision: str) -> None:
        self.precision = precision
        self._bundle = bundle
        gpu = find_gpu()
        self._trt = _import_tensorrt()
        self.key = f"{self._trt.__version__}-sm{gpu.sm}-{precision}"
        self._gpu = gpu.name
        bundle.verified_plan(self.key, "generator")  # before anything is made; all tasks need it
        self._cuda = Cuda()
        self._log = self._trt.Logger(self._trt.Logger.WARNING)
        self._runtime = self._trt.Runtime(self._log)
        self._engines: dict[str, _Engine] = {}
        self._loop: _CapturedLoop | None = None

    @property
    def provider(self) -> str:
        """What runs the graphs."""
        return f"TensorRT {self.key} on {self._gpu}"

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Queue a graph on device buffers; gives its outputs, which are not waited for.

        Raises
        ------
        BundleError
            If the plan is missing, altered, or not one TensorRT can load.
        BackendError
            If TensorRT refuses the tensors.
        """
        engine = self._engine(role)
        context = engine.context
        for name in engine.inputs:
            buffer = inputs[name]
            if buffer.dtype != engine.dtypes[name] or not context.set_input_shape(
                name, buffer.shape
            ):
                raise BackendError(
                    f"the plan of {role} does not take {name} as {buffer.dtype} "
                    f"{list(buffer.shape)}; use smaller batches, or build the bundle again"
                )
            context.set_tensor_address(name, buffer.address)
        outputs = {}
        for name in engine.outputs:
            shape = tuple(context.get_tensor_shape(name))
            outputs[name] = self._cuda.empty(shape, engine.dtypes[name])
            context.set_tensor_address(name, outputs[name].address)
        if not context.execute_async_v3(int(self._cuda.stream)):
            raise BackendError(
                f"TensorRT fails to run the plan of {role}; check the GPU with nvidia-smi, or use "
                "--backend cpu"
            )
        return outputs

    def upload(self, array: Any) -> DeviceBuffer:
        """Copy a float32 array, or a device array of another library, to the device."""
        return self._cuda.upload(array)

    def download(self, buffer: DeviceBuffer) -> Array:
        """Wait for the device, and copy a buffer into a float32 array of its own."""
        return np.asarray(self._cuda.download(buffer), np.float32)

    def run_loop(self, image: Any, codes: Any, iterations: int) -> LoopBuffers:
        """Run the whole inversion as one CUDA graph, captured when shapes or count change.

        The buffers given back are those of the graph: valid until the next call.
        """
        key = image.shape, codes.shape, iterations
        if self._loop is None or self._loop.key != key:
            self._drop_loop()
            self._loop = self._capture(image, codes, iterations)
        loop = self._loop
        self._cuda.copy(loop.image, image)
        self._cuda.copy(loop.codes, codes)
        self._cuda.launch(loop.executable)
        return loop.result

    def close(self) -> None:
        """Free everything on the device; the backend cannot be used after this."""
        self._drop_loop()
        self._engines.clear()
        self._cuda.close()

    def plain_loop(self, image: DeviceBuffer, codes: DeviceBuffer, iterations: int) -> LoopBuffers:
        """The loop one call after the other: what is captured, and its reference."""
        latents = self.run("encoder", {"image": image})["latents"]
        made = self._generate(latents, codes)
        for _ in range(iterations):
            y = made["reconstruction"]
            feeds = {"image": image, "reconstruction": y, "codes_in": codes}
            codes = self.run("hypernet", feeds)["codes"]
            made = self._generate(latents, codes)
        return LoopBuffers(latents, codes, made["image"])

    def _generate(self, latents: DeviceBuffer, codes: DeviceBuffer) -> Buffers:
        weights = self.run("weights", {"codes": codes})
        return self.run("generator", {"latents": latents, **weights})

    def _capture(self, image: DeviceBuffer, codes: DeviceBuffer, iterations: int) -> _CapturedLoop:
        """Warm up, which loads the engines and allocates the memory; then record the same run."""
        made: list[LoopBuffers] = []
        with self._cuda.private_memory() as memory:
            own_image = self._cuda.empty(image.shape, image.dtype)
            own_codes = self._cuda.empty(codes.shape, codes.dtype)
            self._cuda.copy(own_image, image)
            self._cuda.copy(own_codes, codes)
            self.plain_loop(own_image, own_codes, iterations)
            executable = self._cuda.capture(
                lambda: made.append(self.plain_loop(own_image, own_codes, iterations))
            )
        logger.debug("captured a loop of %d iterations", iterations)
        key = image.shape, codes.shape, iterations
        return _CapturedLoop(key, executable, own_image, own_codes, made[0], memory)

    def _drop_loop(self) -> None:
        if self._loop is not None:
            executable, memory = self._loop.executable, self._loop.memory
            self._loop = None  # its buffers go back to its memory
            self._cuda.destroy(executable)
            self._cuda.release(memory)

    def _engine(self, role: str) -> _Engine:
        if role not in self._engines:
            data = self._bundle.verified_plan(self.key, role).read_bytes()
            engine = self._runtime.deserialize_cuda_engine(data)
            if engine is None:
                raise BundleError(
                    f"TensorRT cannot load the plan of {role} for {self.key}; build the bundle "
                    "again with --tensorrt on this machine"
                )
            self._engines[role] = _describe(self._trt, engine)
        return self._engines[role]


@dataclass(frozen=True)
class _Engine:
    """An engine with its context and what its tensors are."""

    engine: Any
    context: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtypes: Mapping[str, np.dtype[Any]]


@dataclass(frozen=True)
class _CapturedLoop:
    """A CUDA graph of a whole inversion, and the buffers it reads and writes."""

    key: tuple[Any, ...]
    executable: Any
    image: DeviceBuffer
    codes: DeviceBuffer
    result: LoopBuffers
    memory: Pool


def _describe(trt: Any, engine: Any) -> _Engine:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    return _Engine(
        engine,
        engine.create_execution_context(),
        tuple(inputs),
        tuple(name for name in names if name not in inputs),
        {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names},
    )


def _import_tensorrt() -> Any:
    try:
        return import_module("tensorrt")
    except (ImportError, OSError) as error:  # OSError: one of its libraries
        raise BackendError(
            f"TensorRT cannot be imported ({error}); run: pip install 'hyperstyle-rt[gpu]', or use "
            "--backend cuda"
        ) from None
