"""The process that builds one TensorRT plan: ``python -m hyperstyle_rt.backends.plans.worker``.

TensorRT calls its logger while it holds locks of its own. Python may collect garbage in any such
call, and where the garbage is an earlier builder, its destructor waits for the lock that its caller
holds: the process hangs for ever. So a plan is built in a process that builds nothing else and
collects no garbage, and in which the logger only appends to lists. A crash or a hang of the native
library then is one of this process only.

It reads a `BuildRequest` as JSON from standard input and writes JSON objects to standard output,
one a line: ``{"progress": text}`` any number of times, then ``{"built": ...}`` or
``{"refused": text}``.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import BackendError
from ...files import write_atomically
from ..cuda.driver import find_gpu

Report = Callable[[dict[str, Any]], None]


class RefusedError(Exception):
    """A graph that TensorRT cannot parse or build; the text is one sentence without full stop."""


@dataclass(frozen=True)
class BuildRequest:
    """What to build; all paths absolute.

    Attributes
    ----------
    module:
        ``tensorrt`` or ``tensorrt_rtx``.
    title:
        Its name and version for people.
    graph:
        ONNX file.
    plan:
        File to write.
    sm:
        Compute capability: 89 is 8.9.
    capability:
        The same as TensorRT-RTX names it; None for classic TensorRT, which asks the GPU.
    batch:
        Sizes of the batch axis: smallest, the one to optimise for, largest.
    workspace, timing_cache, layer_report:
        As in `EngineOptions`.
    """

    module: str
    title: str
    graph: str
    plan: str
    sm: int
    capability: str | None
    batch: tuple[int, int, int]
    workspace: int | None
    timing_cache: str | None
    layer_report: bool


@dataclass(frozen=True)
class Built:
    """What there is to say of a plan that was written.

    Attributes
    ----------
    layers:
        Layers of the parsed network, before fusion.
    report:
        The engine inspector's JSON, None if not asked for or without a GPU.
    warnings:
        What went other than asked for, in sentences.
    log:
        TensorRT's own warnings.
    """

    layers: int
    report: str | None
    warnings: tuple[str, ...]
    log: tuple[str, ...]


def main() -> None:
    """Serve one request, then end without the clean-up in which TensorRT would log once more."""
    gc.disable()
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to standard error

    def report(message: dict[str, Any]) -> None:
        protocol.write(json.dumps(message) + "\n")

    request = BuildRequest(**json.load(sys.stdin))
    try:
        built = build(import_module(request.module), request, report)
    except (RefusedError, BackendError) as error:
        report({"refused": str(error)})
    else:
        report({"built": asdict(built)})
    protocol.flush()
    os._exit(0)


def build(trt: Any, request: BuildRequest, report: Report) -> Built:
    """Parse an ONNX file, build its engine and write it.

    Raises
    ------
    RefusedError
        If NVIDIA's parser refuses the graph, or no engine can be made of it.
    """
    graph = Path(request.graph)
    errors: list[str] = []
    log: list[str] = []
    warnings: list[str] = []
    # Every object here is kept until the end: TensorRT's wrappers do not keep each other alive.
    logger = _make_log(trt, errors, log)
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        said = _parser_errors(parser) or _last(errors)
        raise RefusedError(
            f"{request.title} cannot parse {graph.name}: {said}; build the bundle again, and "
            "report it if this remains"
        )
    config = builder.create_builder_config()
    monitor = _make_monitor(trt, lambda step: report({"progress": step}))
    config.progress_monitor = monitor
    if request.capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.__members__[request.capability], 0)
    if request.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace)
    if request.layer_report:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.add_optimization_profile(_profile(builder, network, request.batch, graph.name))
    timing_cache = None if request.timing_cache is None else Path(request.timing_cache)
    if timing_cache is not None and not _load_timing_cache(config, timing_cache):
        warnings.append(f"{timing_cache} is of another GPU or TensorRT and is started afresh")
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise RefusedError(
            f"{request.title} cannot build {graph.name} for sm {request.sm}: {_last(errors)}; try "
            "another version of it, or a larger --workspace"
        )
    if timing_cache is not None:
        measured = bytes(config.get_timing_cache().serialize())
        write_atomically(timing_cache, measured, BackendError)
    with Path(request.plan).open("wb") as file:
        file.write(serialised)
    inspected = _layer_report(trt, logger, serialised, warnings) if request.layer_report else None
    return Built(network.num_layers, inspected, tuple(warnings), tuple(log))


def network_flags(trt: Any) -> int:
    """Strongly typed: a flag up to 10.x and in TensorRT-RTX; in 11 the only kind there is."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    classic_11 = trt.__name__ == "tensorrt" and trt.__version__.startswith("11.")
    return 0 if flag is None or classic_11 else 1 << int(flag)


def _profile(builder: Any, network: Any, batch: tuple[int, int, int], name: str) -> Any:
    """The one optimisation profile: sizes of the batch axis, all other axes being static."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        first, *rest = tensor.shape
        if -1 in rest:
            raise RefusedError(
                f"{name}: input {tensor.name} has the shape {[first, *rest]}, but only the first "
                "axis may be dynamic; build the bundle again"
            )
        if first == -1:
            profile.set_shape(tensor.name, *([size, *rest] for size in batch))
    return profile


def _load_timing_cache(config: Any, path: Path) -> bool:
    """Hand the build a timing cache; False if an empty one had to take the place of the file's."""
    known = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(known)
    if cache is not None and config.set_timing_cache(cache, False):
        return True
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return False


def _layer_report(trt: Any, logger: Any, serialised: Any, warnings: list[str]) -> str | None:
    """What the engine inspector says of a plan, as JSON; it needs the GPU the plan is for."""
    try:
        find_gpu()
    except BackendError as error:
        warnings.append(f"no layer report: the engine inspector needs a GPU, and {error}")
        return None
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(serialised)
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


def _make_log(trt: Any, errors: list[str], warnings: list[str]) -> Any:
    """A logger for TensorRT that appends and does nothing else."""
    severity = trt.ILogger.Severity

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, level: Any, text: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                errors.append(text)
            elif level == severity.WARNING:
                warnings.append(text)

    return Log()


def _make_monitor(trt: Any, on_progress: Callable[[str], None]) -> Any:
    """A progress monitor that reports the phase at the top, step by step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
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


if __name__ == "__main__":
    main()
