"""TensorRT plans that the runtime has built itself, in a directory of the user's alone.

A plan is native code: the directory must be writable by the user alone, and a plan is used only if
its SHA-256 is the one noted when it was built.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import BackendError, BundleError, HyperStyleError
from ...files import read_regular, reason, write_atomically
from ...formats import strict_json
from ...formats.bundle import Bundle
from ...user_cache import user_cache
from .build import EngineOptions, Target, build_plan

logger = logging.getLogger(__name__)

VARIABLE = "HYPERSTYLE_RT_PLANS"
MAX_NOTE_SIZE = 1 << 16
TIMING_CACHE = "timing.cache"


@dataclass(frozen=True)
class Identity:
    """What identifies a plan: everything that it depends on.

    Attributes
    ----------
    role, precision:
        Of the graph.
    graph:
        SHA-256 of its files by name.
    tensorrt, sm, gpu:
        Version, architecture and name of what the plan was built with and for.
    batch:
        Sizes of the batch axis: smallest, the one it is optimised for, largest.
    """

    role: str
    precision: str
    graph: dict[str, str]
    tensorrt: str
    sm: int
    gpu: str | None
    batch: list[int]

    @property
    def file_name(self) -> str:
        """Name of the plan's file."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.role}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.plan"


@dataclass(frozen=True)
class VerifiedPlan:
    """A plan as it was built.

    Attributes
    ----------
    path:
        Its file, for messages.
    content:
        What was read of it, and has the SHA-256 that was noted.
    """

    path: Path
    content: bytes | memoryview


@dataclass(frozen=True)
class CachedPlan:
    """A plan of the cache.

    Attributes
    ----------
    path:
        Its file.
    role, key:
        Graph, and the set of plans it belongs to: TensorRT's version, architecture, precision.
    size, sha256:
        Of the file, as noted when it was built.
    """

    path: Path
    role: str
    key: str
    size: int
    sha256: str


def cache_directory() -> Path:
    """Where the plans are: ``$HYPERSTYLE_RT_PLANS``, else in the user's cache directory.

    Raises
    ------
    BackendError
        If the user has no home.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).resolve()
    try:
        return user_cache() / "plans"
    except HyperStyleError:
        raise BackendError(f"there is no home directory for TensorRT plans; set {VARIABLE}") from (
            None
        )


def cached_plan(bundle: Bundle, target: Target, precision: str, role: str) -> VerifiedPlan:
    """Read the plan of a graph from the cache, or build it there, which takes minutes.

    Raises
    ------
    BackendError
        If the cache cannot be used or is open to others, or the plan cannot be built.
    BundleError
        If the bundle has no such graph, or it is altered.
    """
    options = EngineOptions()
    identity = Identity(
        role=role,
        precision=precision,
        graph=bundle.graph_digests(role, precision),
        tensorrt=target.version,
        sm=target.sm,
        gpu=target.gpu,
        batch=list(options.batch(role).sizes),
    )
    directory = _private_directory() / target.key(precision)
    plan = directory / identity.file_name
    known = _read_as_noted(plan)
    if known is not None:
        return VerifiedPlan(plan, known)
    graph = bundle.verified_path(role, precision)
    offered = ", ".join(bundle.manifest.plans) or "none"
    logger.warning(
        "building the plan of %s for %s on %s, which takes minutes, once (plans of the bundle: %s)",
        graph.name,
        target.title,
        target.gpu,
        offered,
    )
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise BackendError(_unusable(directory, reason(error))) from error
    options = EngineOptions(timing_cache=directory / TIMING_CACHE)
    built = build_plan(target, graph, role, plan, options, logger.info)
    note = asdict(identity) | {"bytes": built.size, "sha256": built.sha256}
    write_atomically(_note_of(plan), json.dumps(note, indent=2).encode(), BackendError)
    content = _read_as_noted(plan)
    if content is None:
        raise BackendError(f"{plan} was changed as soon as it was built; load the model again")
    return VerifiedPlan(plan, content)


def plans_of(bundle: Bundle) -> Iterator[CachedPlan]:
    """The plans in the cache that were built of a bundle's graphs; none where it cannot be read."""
    graphs: dict[tuple[Any, Any], dict[str, str]] = {}
    for precision in ("fp32", *bundle.manifest.precisions):
        for role in bundle.manifest.graphs:
            graphs[role, precision] = bundle.graph_digests(role, precision)
    try:
        notes = sorted(cache_directory().glob("*/*.json"))
    except (BackendError, OSError):
        return
    for path in notes:
        note = _read_note(path)
        if note is None or graphs.get((note["role"], note["precision"])) != note["graph"]:
            continue
        plan = path.with_suffix(".plan")
        yield CachedPlan(plan, note["role"], path.parent.name, note["bytes"], note["sha256"])


def _private_directory() -> Path:
    """The cache's directory, made if it is missing; refused if others may write to it."""
    directory = cache_directory()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise BackendError(_unusable(directory, reason(error))) from error
    if sys.platform != "win32":
        if status.st_uid != os.getuid():
            raise BackendError(_unusable(directory, "it is another user's"))
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise BackendError(
                f"TensorRT plans are native code, but others can get at {directory}; run: "
                f"chmod 700 {directory}"
            )
    return directory


def _unusable(directory: Path, why: str) -> str:
    return f"cannot keep TensorRT plans in {directory} ({why}); set {VARIABLE} to another directory"


def _note_of(plan: Path) -> Path:
    return plan.with_suffix(".json")


def _read_note(path: Path) -> dict[str, Any] | None:
    """What was noted of a plan; None if there is nothing that can be read."""
    try:
        note = strict_json.parse(read_regular(path, MAX_NOTE_SIZE, BundleError))
    except (BundleError, ValueError):
        return None
    if not isinstance(note, dict):
        return None
    kinds = {"role": str, "precision": str, "graph": dict, "bytes": int, "sha256": str}
    return note if all(isinstance(note.get(key), kind) for key, kind in kinds.items()) else None


def _read_as_noted(plan: Path) -> bytes | None:
    """A plan's content if it is there, and the one that was built."""
    note = _read_note(_note_of(plan))
    if note is None or not plan.is_file():
        return None
    try:
        content = plan.read_bytes()
    except OSError as error:
        raise BackendError(_unusable(plan.parent, reason(error))) from error
    if hashlib.sha256(content).hexdigest() == note["sha256"]:
        return content
    logger.warning("%s is damaged and is built again", plan)
    return None
