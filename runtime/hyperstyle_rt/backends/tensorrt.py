"""Native TensorRT: plans, all tensors on the device, the loop as one CUDA graph.

Before TensorRT is touched, the driver is asked for the GPU (a Runtime without a driver crashes the
process) and the plan's digest is verified (a plan is native code). Tensors are bound by name: the
order of an engine's outputs is TensorRT's own. Plans are the bundle's; where it has none for this
GPU and TensorRT, the runtime builds them into the user's cache.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError, BundleError
from ..formats.bundle import Bundle
from ..types import Array
from .cuda.memory import Cuda, DeviceBuffer, Pool
from .plans.build import classic_target
from .plans.cache import cached_plan
from .protocol import GPU_BATCH, Buffers, LoopBuffers, refuse_optional_inputs

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
        If there is no GPU, TensorRT or cuda-python is missing, or a plan cannot be built.
    BundleError
        If the bundle's plan or graph is altered.
    """

    def __init__(self, bundle: Bundle, precision: str) -> None:
        self.precision = precision
        self._bundle = bundle
        self._target = classic_target()
        self.key = self._target.key(precision)
        self._plan("generator")  # before anything is made; all tasks need it
        self._cuda = Cuda()
        self._trt: Any = import_module(self._target.module)
        self._log = self._trt.Logger(self._trt.Logger.WARNING)
        self._runtime = self._trt.Runtime(self._log)
        self._engines: dict[str, _Engine] = {}
        self._loop: _CapturedLoop | None = None

    @property
    def provider(self) -> str:
        """What runs the graphs."""
        return f"TensorRT {self.key} on {self._target.gpu}"

    @property
    def largest_batch(self) -> int:
        """What the generator's plans are built for."""
        return GPU_BATCH

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
        refuse_optional_inputs(role, inputs, engine.inputs)
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
        """Copy a float32 array to the device, or a device array of another library on it."""
        return self._cuda.upload(array)

    def download(self, buffer: DeviceBuffer) -> Array:
        """Wait for the device, and copy a buffer into a float32 array of its own."""
        return np.asarray(self._cuda.download(buffer), np.float32)

    def invert(
        self, image: Any, iterations: int | None = None, until: float | None = None
    ) -> LoopBuffers:
        """Invert a picture that is on the device, and leave the result there.

        Parameters
        ----------
        image:
            float32 [1,3,h,w] of the bundle's input size, in [-1,1]: an array of PyTorch, CuPy,
            PyCUDA or any library with `__dlpack__` or `__cuda_array_interface__`; numpy's, too.
        iterations:
            None for the bundle's default.
        until:
            As in :meth:`run_loop`.

        Returns
        -------
        Buffers with `__dlpack__` and `__cuda_array_interface__`, complete when this returns. They
        are written again by the next inversion.

        Raises
        ------
        BackendError
            If the array is of another shape or type, or on another GPU.
        """
        manifest = self._bundle.manifest
        x = self.upload(image)
        if x.shape != (1, 3, *manifest.input_size):
            raise BackendError(
                f"the picture must be float32 {[1, 3, *manifest.input_size]}, not {list(x.shape)}; "
                "resize it first"
            )
        shape = 1, len(manifest.tuned_layers), manifest.code_width + 1
        codes = self.upload(np.zeros(shape, np.float32))
        count = manifest.default_iterations if iterations is None else iterations
        result = self.run_loop(x, codes, count, until)
        self._cuda.synchronise()
        return result

    def run_loop(
        self, image: Any, codes: Any, iterations: int, until: float | None = None
    ) -> LoopBuffers:
        """Run a whole inversion.

        Without `until` it is one CUDA graph, captured when shapes or count change; the buffers
        given back are those of the graph: valid until the next call.

        With `until` it stops as :meth:`Model.invert` does, see `_stopping_loop`.
        """
        if until is not None:
            return self._stopping_loop(image, codes, iterations, until)
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
            codes = self._next_codes(image, made, codes)
            made = self._generate(latents, codes)
        return LoopBuffers(latents, codes, made["image"], iterations)

    def _stopping_loop(
        self, image: DeviceBuffer, codes: DeviceBuffer, iterations: int, until: float
    ) -> LoopBuffers:
        """The loop that stops when the reconstruction moves by less than `until`.

        The device does not wait for the host: what it made of iteration t is on its way to the host
        and compared there while the device computes the hypernetwork of iteration t + 1. What is
        lost where the loop stops is that one graph, about a sixth of an iteration. (A conditional
        node of a CUDA graph would lose nothing, but needs a kernel of our own and CUDA 12.4.)
        """
        latents = self.run("encoder", {"image": image})["latents"]
        made = self._generate(latents, codes)
        following = self._next_codes(image, made, codes) if iterations else codes
        done, before = 0, None
        while done < iterations:
            codes, made, done = following, self._generate(latents, following), done + 1
            if done == iterations:
                break
            reading = self._cuda.start_reading(made["reconstruction"])
            following = self._next_codes(image, made, codes)
            now = self._cuda.finish_reading(reading)
            if before is not None and float(np.abs(now - before).mean()) < until:
                break
            before = now
        return LoopBuffers(latents, codes, made["image"], done)

    def _next_codes(self, image: DeviceBuffer, made: Buffers, codes: DeviceBuffer) -> DeviceBuffer:
        feeds = {"image": image, "reconstruction": made["reconstruction"], "codes_in": codes}
        following: DeviceBuffer = self.run("hypernet", feeds)["codes"]
        return following

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

    def _plan(self, role: str) -> Path:
        """The verified plan of a graph: the bundle's, or the one of the user's cache."""
        if self.key in self._bundle.manifest.plans:
            return self._bundle.verified_plan(self.key, role)
        return cached_plan(self._bundle, self._target, self.precision, role)

    def _engine(self, role: str) -> _Engine:
        if role not in self._engines:
            plan = self._plan(role)
            engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
            if engine is None:
                raise BundleError(
                    f"TensorRT cannot load {plan}, the plan of {role}; build the bundle again with "
                    "--tensorrt on this machine, or delete the plan if it is not the bundle's"
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
