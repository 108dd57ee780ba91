"""ONNX graphs -> TensorRT plans, for TensorRT 10.4 to 11.x and TensorRT-RTX by one code path.

The three share their Python API. What differs is said in a `Target`: classic TensorRT builds for
the GPU it runs on, TensorRT-RTX for a compute capability that is named, on any machine. Precision
is in the graphs, the networks are strongly typed: TensorRT 11 knows nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hyperstyle_rt.backends.cuda_driver import find_gpu
from hyperstyle_rt.bundle import PLANS_DIRECTORY, Bundle
from hyperstyle_rt.errors import BackendError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.manifest import BundleFile

from .bundle_writer import BuildError, OnProgress, write_manifest
from .epcontext import ep_context_model

logger = logging.getLogger(__name__)

OLDEST = (10, 4)  # infers the shape of kernels that are tensors; 11 is the newest major version
NEWEST_MAJOR = 11


class EngineError(BuildError):
    """Plans that cannot be built, here or at all; the ONNX graphs are not affected."""


@dataclass(frozen=True)
class Target:
    """What plans are built with, and for.

    Attributes
    ----------
    tensorrt:
        The module `tensorrt` or `tensorrt_rtx`.
    title:
        Name and version for people.
    version:
        As in a plan's key: `10.13.2.6`, `rtx1.7.1.116`.
    sm:
        Compute capability: 89 is 8.9.
    capability:
        The same as TensorRT-RTX names it; None for classic TensorRT, which asks the GPU.
    """

    tensorrt: ModuleType
    title: str
    version: str
    sm: int
    capability: Any = None

    def key(self, precision: str) -> str:
        """Name of a set of plans, unique for all that decides whether they can be loaded."""
        return f"{self.version}-sm{self.sm}-{precision}"


def classic_target() -> Target:
    """TensorRT for the first GPU of this machine.

    Raises
    ------
    EngineError
        If TensorRT is missing, too old or too new, or there is no GPU.
    """
    tensorrt = _import("tensorrt", "pip install 'hyperstyle-rt[gpu]'")
    major, minor = (int(part) for part in tensorrt.__version__.split(".")[:2])
    if (major, minor) < OLDEST or major > NEWEST_MAJOR:
        raise EngineError(
            f"TensorRT {tensorrt.__version__} is none this exporter knows; install one from "
            f"{'.'.join(map(str, OLDEST))} to {NEWEST_MAJOR}.x."
        )
    try:
        gpu = find_gpu()
    except BackendError as error:
        raise EngineError(f"TensorRT builds on the GPU it is to run on, but {error}.") from None
    version = tensorrt.__version__
    return Target(tensorrt, f"TensorRT {version}", version, gpu.sm)


def rtx_target(sm: int) -> Target:
    """TensorRT-RTX for any GPU of a compute capability; needs no GPU here.

    Raises
    ------
    EngineError
        If TensorRT-RTX is missing or does not serve that capability.
    """
    tensorrt = _import("tensorrt_rtx", "pip install tensorrt-rtx")
    version, capabilities = tensorrt.__version__, tensorrt.ComputeCapability.__members__
    if f"SM{sm}" not in capabilities:
        served = ", ".join(name[2:] for name in capabilities if name.startswith("SM"))
        raise EngineError(f"TensorRT-RTX {version} does not build for sm {sm}; give --sm {served}.")
    return Target(tensorrt, f"TensorRT-RTX {version}", f"rtx{version}", sm, capabilities[f"SM{sm}"])


def _import(name: str, cure: str) -> ModuleType:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: one of its libraries
        raise EngineError(
            f"{name} cannot be imported ({error}); run {cure}; the ONNX bundle is whole without it."
        ) from None


@dataclass(frozen=True)
class Batch:
    """Sizes of a graph's batch axis: smallest, the one to optimise for, largest."""

    smallest: int = 1
    usual: int = 1
    largest: int = 4


@dataclass(frozen=True)
class EngineOptions:
    """How plans are built.

    Attributes
    ----------
    batches:
        By role; an inversion uses 1, edits and videos several latents at once. Roles that are not
        named have the batch `Batch()`.
    workspace:
        Bytes of GPU memory a layer may use for itself; None for TensorRT's choice.
    timing_cache:
        File of measured kernel times that shortens the next build on the same GPU; None for none.
        TensorRT-RTX measures nothing when it builds and has none.
    layer_report:
        Write what the engine inspector says beside each plan, `<role>.layers.json`.
    """

    batches: Mapping[str, Batch] = field(default_factory=lambda: {"generator": Batch(1, 1, 8)})
    workspace: int | None = None
    timing_cache: Path | None = None
    layer_report: bool = False


@dataclass(frozen=True)
class BuiltPlan:
    """A plan and how it came about.

    Attributes
    ----------
    data:
        The serialised engine.
    layers:
        Layers of the parsed network, before fusion.
    seconds:
        Time the build took.
    report:
        The engine inspector's JSON, None if not asked for.
    """

    data: bytes
    layers: int
    seconds: float
    report: str | None = None


def add_plans(
    bundle: Bundle,
    target: Target,
    precision: str,
    options: EngineOptions,
    on_progress: OnProgress,
) -> tuple[Bundle, dict[str, BuiltPlan]]:
    """Build a plan of every graph of a precision and list them in the bundle's manifest.

    Beside each lies `<role>.onnx`, through which ONNX Runtime's TensorRT provider loads it; not
    with those of TensorRT-RTX, which that provider cannot load.

    Returns
    -------
    The bundle reopened, and role -> plan (its data left out: it is in the file).

    Raises
    ------
    EngineError
        If a graph cannot be built; the manifest then is as before.
    """
    key = target.key(precision)
    directory = bundle.directory / PLANS_DIRECTORY / key
    directory.mkdir(parents=True, exist_ok=True)
    listed, plans = {}, {}
    for role in bundle.manifest.graphs:
        graph = bundle.verified_path(role, precision)
        step = _prefixed(f"{role} {precision}: ", on_progress)
        plan = build_plan(target, graph, role, options, step)
        contents = {f"{role}.plan": plan.data}
        if target.capability is None:
            model = ep_context_model(graph, f"{role}.plan", target.sm, target.version)
            contents[f"{role}.onnx"] = model.SerializeToString()
        if plan.report is not None:
            contents[f"{role}.layers.json"] = plan.report.encode()
        for name, content in contents.items():
            write_atomically(directory / name, content, EngineError)
            digest = hashlib.sha256(content).hexdigest()
            listed[name] = BundleFile(digest, len(content), precision)
        plans[role] = replace(plan, data=b"")
    manifest = replace(bundle.manifest, plans={**bundle.manifest.plans, key: listed})
    write_manifest(bundle.directory, manifest)
    return Bundle.open(bundle.directory), plans


def _prefixed(prefix: str, on_progress: OnProgress) -> OnProgress:
    return lambda step: on_progress(prefix + step)


def build_plan(
    target: Target, graph: Path, role: str, options: EngineOptions, on_progress: OnProgress
) -> BuiltPlan:
    """Parse an ONNX file and build its engine.

    Raises
    ------
    EngineError
        If NVIDIA's parser refuses the graph, or no engine can be made of it.
    """
    start, trt = time.perf_counter(), target.tensorrt
    errors: list[str] = []
    # Every object here is kept until the end: TensorRT's wrappers do not keep each other alive.
    log = _make_log(trt, errors)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise EngineError(
            f"{target.title} cannot parse {graph.name}: {_parser_errors(parser) or _last(errors)}; "
            "build the bundle again, and report it if this remains."
        )
    config = builder.create_builder_config()
    monitor = _make_monitor(trt, on_progress)
    config.progress_monitor = monitor
    if target.capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(target.capability, 0)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.layer_report:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    batch = options.batches.get(role, Batch())
    config.add_optimization_profile(_profile(builder, network, batch, graph.name))
    timing_cache = options.timing_cache if target.capability is None else None
    if timing_cache is not None:
        _load_timing_cache(config, timing_cache)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise EngineError(
            f"{target.title} cannot build {graph.name} for sm {target.sm}: {_last(errors)}; try "
            "another version of it, or a larger --workspace."
        )
    if timing_cache is not None:
        measured = bytes(config.get_timing_cache().serialize())
        write_atomically(timing_cache, measured, EngineError)
    data = bytes(serialised)
    report = _layer_report(trt, log, data) if options.layer_report else None
    return BuiltPlan(data, network.num_layers, time.perf_counter() - start, report)


def _network_flags(trt: ModuleType) -> int:
    """Strongly typed: a flag up to 10.x and in TensorRT-RTX; in 11 the only kind there is."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    classic_11 = trt.__name__ == "tensorrt" and trt.__version__.startswith("11.")
    return 0 if flag is None or classic_11 else 1 << int(flag)


def _profile(builder: Any, network: Any, batch: Batch, name: str) -> Any:
    """The one optimisation profile: sizes of the batch axis, all other axes being static."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        first, *rest = tensor.shape
        if -1 in rest:
            raise EngineError(
                f"{name}: input {tensor.name} has the shape {[first, *rest]}, but only the first "
                "axis may be dynamic; build the bundle again."
            )
        if first == -1:
            sizes = (batch.smallest, batch.usual, batch.largest)
            profile.set_shape(tensor.name, *([size, *rest] for size in sizes))
    return profile


def _load_timing_cache(config: Any, path: Path) -> None:
    """Hand the build a timing cache, an empty one if the file is absent or of another device."""
    known = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        logger.warning("%s is of another GPU or TensorRT and is started afresh", path)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _layer_report(trt: ModuleType, log: Any, data: bytes) -> str | None:
    """What the engine inspector says of a plan, as JSON; it needs the GPU the plan is for."""
    try:
        find_gpu()
    except BackendError as error:
        logger.warning("no layer report: the engine inspector needs a GPU, and %s", error)
        return None
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(data)
    inspector = engine.create_engine_inspector()
    report: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return report


def _parser_errors(parser: Any) -> str:
    """The parser's first complaint, with the node it is about."""
    if parser.num_errors == 0:
        return ""
    error = parser.get_error(0)
    node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    return node + _essence(error.desc())


def _last(errors: list[str]) -> str:
    return _essence(errors[-1]) if errors else "it gives no reason"


def _essence(text: str) -> str:
    """NVIDIA's words on one line, without the places in its source code."""
    return re.split(r"\.? In \S+ at /| \[\w+\.cpp::", " ".join(text.split()))[0][:300].rstrip(".;")


def _make_log(trt: ModuleType, errors: list[str]) -> Any:
    """A logger for TensorRT: errors into a list for our message, all else to `logging`."""
    severity = trt.ILogger.Severity
    levels = {severity.WARNING: logging.INFO, severity.INFO: logging.DEBUG}

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, level: Any, text: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                errors.append(text)
            elif level in levels:
                logger.log(levels[level], text)

    return Log()


def _make_monitor(trt: ModuleType, on_progress: Callable[[str], None]) -> Any:
    """A progress monitor that reports the phase at the top, step by step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.steps[name] = steps
                on_progress(name)

        def step_complete(self, name: str, step: int) -> bool:
            if name in self.steps:
                on_progress(f"{name} {step + 1}/{self.steps[name]}")
            return True  # go on

        def phase_finish(self, name: str) -> None:
            self.steps.pop(name, None)

    return Monitor()
