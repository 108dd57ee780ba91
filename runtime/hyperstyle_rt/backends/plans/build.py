"""ONNX graphs -> TensorRT plans, for TensorRT 10.4 to 11.x and TensorRT-RTX by one code path.

The three share their Python API. What differs is said in a `Target`: classic TensorRT builds for
the GPU it runs on, TensorRT-RTX for a compute capability that is named, on any machine. Precision
is in the graphs, the networks are strongly typed, the only kind that TensorRT 11 has. Each plan is
built in a process of its own; `worker` says why.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ...errors import BackendError
from ...files import sha256
from ..cuda.driver import find_gpu
from ..protocol import GPU_BATCH
from .worker import BuildRequest

logger = logging.getLogger(__name__)

OnProgress = Callable[[str], None]

OLDEST = (10, 4)  # infers the shape of kernels that are tensors; 11 is the newest major version
NEWEST_MAJOR = 11
LONGEST_BUILD = 3600.0  # seconds; minutes are usual

_IMPORT_ROOT = Path(__file__).resolve().parents[3]


class EngineError(BackendError):
    """Plans that cannot be built, here or at all; the ONNX graphs are not affected."""


@dataclass(frozen=True)
class Target:
    """What plans are built with, and for.

    Attributes
    ----------
    module:
        ``tensorrt`` or ``tensorrt_rtx``.
    title:
        Name and version for people.
    version:
        As in a plan's key: `10.13.2.6`, `rtx1.7.1.116`.
    sm:
        Compute capability: 89 is 8.9.
    gpu:
        Name of the GPU; None for TensorRT-RTX, which serves every GPU of a capability.
    capability:
        ``sm`` as TensorRT-RTX names it; None for classic TensorRT, which asks the GPU.
    """

    module: str
    title: str
    version: str
    sm: int
    gpu: str | None = None
    capability: str | None = None

    def key(self, precision: str) -> str:
        """Name of a set of plans, unique for all that decides whether they can be loaded."""
        return f"{self.version}-sm{self.sm}-{precision}"


def classic_target() -> Target:
    """TensorRT for the first GPU of this machine.

    The driver is asked for the GPU first: TensorRT's Runtime crashes where there is none.

    Raises
    ------
    BackendError
        If there is no GPU.
    EngineError
        If TensorRT is missing, too old or too new.
    """
    gpu = find_gpu()
    version = _import("tensorrt", "'hyperstyle-rt[gpu]'").__version__
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < OLDEST or major > NEWEST_MAJOR:
        raise EngineError(
            f"TensorRT {version} is none that is known here; install one from "
            f"{'.'.join(map(str, OLDEST))} to {NEWEST_MAJOR}.x"
        )
    return Target("tensorrt", f"TensorRT {version}", version, gpu.sm, gpu.name)


def rtx_target(sm: int) -> Target:
    """TensorRT-RTX for any GPU of a compute capability; needs no GPU here.

    Raises
    ------
    EngineError
        If TensorRT-RTX is missing or does not serve that capability.
    """
    tensorrt = _import("tensorrt_rtx", "tensorrt-rtx")
    version, capabilities = tensorrt.__version__, tensorrt.ComputeCapability.__members__
    if f"SM{sm}" not in capabilities:
        served = ", ".join(name[2:] for name in capabilities if name.startswith("SM"))
        raise EngineError(f"TensorRT-RTX {version} does not build for sm {sm}; give --sm {served}")
    return Target(
        "tensorrt_rtx", f"TensorRT-RTX {version}", f"rtx{version}", sm, capability=f"SM{sm}"
    )


def _import(name: str, package: str) -> ModuleType:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: one of its libraries
        raise EngineError(
            f"{name} cannot be imported ({error}); run: pip install {package}"
        ) from None


@dataclass(frozen=True)
class Batch:
    """Sizes of a graph's batch axis: smallest, the one to optimise for, largest."""

    smallest: int = 1
    usual: int = 1
    largest: int = 4

    @property
    def sizes(self) -> tuple[int, int, int]:
        """All three."""
        return self.smallest, self.usual, self.largest


RENDERING_BATCHES = {role: Batch(1, 1, GPU_BATCH) for role in ("generator", "styled_generator")}
"""Edits and films render several latents at once; everything else works on one picture."""


@dataclass(frozen=True)
class EngineOptions:
    """How plans are built.

    Attributes
    ----------
    batches:
        By role; roles that are not named have the batch `Batch()`.
    workspace:
        Bytes of GPU memory a layer may use for itself; None for TensorRT's choice.
    timing_cache:
        File of measured kernel times that shortens the next build on the same GPU; None for none.
        TensorRT-RTX measures nothing when it builds and has none.
    layer_report:
        Also give what the engine inspector says of each plan.
    longest:
        Seconds after which a build is given up.
    """

    batches: Mapping[str, Batch] = field(default_factory=lambda: dict(RENDERING_BATCHES))
    workspace: int | None = None
    timing_cache: Path | None = None
    layer_report: bool = False
    longest: float = LONGEST_BUILD

    def batch(self, role: str) -> Batch:
        """Sizes of a role's batch axis."""
        return self.batches.get(role, Batch())


@dataclass(frozen=True)
class BuiltPlan:
    """A plan that was written, and how it came about.

    Attributes
    ----------
    size, sha256:
        Of the file.
    layers:
        Layers of the parsed network, before fusion.
    seconds:
        Time the build took.
    report:
        The engine inspector's JSON, None if not asked for or without a GPU.
    """

    size: int
    sha256: str
    layers: int
    seconds: float
    report: str | None = None


def build_plan(
    target: Target,
    graph: Path,
    role: str,
    plan: Path,
    options: EngineOptions,
    on_progress: OnProgress,
) -> BuiltPlan:
    """Build a graph's engine in a process of its own and write it, as a whole or not at all.

    Raises
    ------
    EngineError
        If NVIDIA's parser refuses the graph, or no engine can be made of it; if the process crashes
        or takes too long.
    """
    start = time.perf_counter()
    part = plan.resolve().parent / f".{uuid.uuid4().hex}.part"
    cache = options.timing_cache if target.capability is None else None
    request = BuildRequest(
        module=target.module,
        title=target.title,
        graph=str(graph.resolve()),
        plan=str(part),
        sm=target.sm,
        capability=target.capability,
        batch=options.batch(role).sizes,
        workspace=options.workspace,
        timing_cache=None if cache is None else str(cache.resolve()),
        layer_report=options.layer_report,
    )
    try:
        built = _ask_worker(request, options.longest, on_progress)
        digest, size = sha256(part), part.stat().st_size
        part.replace(plan)
    finally:
        part.unlink(missing_ok=True)
    seconds = time.perf_counter() - start
    return BuiltPlan(size, digest, built["layers"], seconds, built["report"])


def _ask_worker(request: BuildRequest, longest: float, on_progress: OnProgress) -> dict[str, Any]:
    """Run `worker` on a request; gives what it says of the plan it has written."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=_IMPORT_ROOT,  # -m looks for modules there first: not among the user's files
        env=os.environ | {"PYTHONPATH": _import_paths()},
    )
    too_long = threading.Event()

    def give_up() -> None:
        too_long.set()
        process.kill()

    timer = threading.Timer(longest, give_up)
    timer.start()
    answer: dict[str, Any] = {}
    with process:
        try:
            answer = _converse(process, request, on_progress)
        finally:
            timer.cancel()
            if not answer:
                process.kill()
    if "built" not in answer:
        raise EngineError(_complaint(request, answer, process.returncode, too_long.is_set()))
    built: dict[str, Any] = answer["built"]
    for text in built["warnings"]:
        logger.warning("%s", text)
    for text in built["log"]:
        logger.info("%s", text)
    return built


def _complaint(
    request: BuildRequest, answer: Mapping[str, str], status: int, too_long: bool
) -> str:
    """Why there is no plan."""
    if "refused" in answer:
        return answer["refused"]
    what = f"{request.title} building {Path(request.graph).name}"
    if too_long:
        return f"{what} has taken too long and was stopped; try another version of it"
    return f"{what} ended without an answer ({_ending(status)}); try another version of it"


def _import_paths() -> str:
    """Where the worker finds this package, and whatever this process was told to look for."""
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(_IMPORT_ROOT), *([inherited] if inherited else [])])


def _converse(
    process: subprocess.Popen[str], request: BuildRequest, on_progress: OnProgress
) -> dict[str, Any]:
    """Send the request and read messages until the worker ends; gives the last, {} without one."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it ended at once: there will be no answer
        process.stdin.write(json.dumps(asdict(request)))
        process.stdin.close()
    last: dict[str, Any] = {}
    for line in process.stdout:
        if not line.endswith("\n"):  # it was killed while it wrote
            break
        message = json.loads(line)
        if "progress" in message:
            on_progress(message["progress"])
        else:
            last = message
    return last


def _ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
