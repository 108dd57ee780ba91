"""How long a bundle takes: each of its graphs, and what is done with them.

Contenders take turns, one round after another, so that what else the machine does meets all of
them. The first round is told apart: it opens the graphs.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends.protocol import Backend, Buffers, Signature
from ..backends.registry import entry_of
from ..errors import HyperStyleError
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION
from ..inversion import Inversion
from ..model import Model
from ..optimising.names import FAST
from ..optimising.objective import OBJECTIVE
from ..types import Array, Picture
from .comparison import Contender

INVERSION, REFINEMENT_STEP, RENDERINGS = "inversion", "refinement step", "edits"
OPENING = "opening"

OnTime = Callable[[str, float], None]
"""Called with what was done and the seconds it took."""


@dataclass
class Timing:
    """Seconds that one thing took, in the order of the rounds.

    Attributes
    ----------
    first:
        The first time, which opens the graphs it needs.
    warm:
        The times after it.
    """

    first: float
    warm: list[float] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        """Of the warm ones; None if there are none."""
        return statistics.median(self.warm) if self.warm else None


@dataclass(frozen=True)
class Timings:
    """What one contender took.

    Attributes
    ----------
    contender:
        Its name.
    computed:
        What really computed: ``provider`` and ``precision``.
    tasks, graphs:
        What was done, or the role of a graph -> its times. A graph's are those of single runs, its
        results waited for.
    macs, bytes_moved:
        The role of a graph -> multiply-accumulates of a run, and bytes that its products read and
        write at least; of those whose bundle tells.
    on_cpu:
        Whether a CPU computed.
    """

    contender: str
    computed: Mapping[str, str]
    tasks: dict[str, Timing]
    graphs: dict[str, Timing]
    macs: Mapping[str, int] = field(default_factory=dict)
    on_cpu: bool = True
    bytes_moved: Mapping[str, int] = field(default_factory=dict)

    def rate(self, role: str) -> float | None:
        """Multiply-accumulates a second of a graph's median run; None if they are unknown."""
        median = self.graphs[role].median
        return self.macs[role] / median if median and role in self.macs else None

    def intensity(self, role: str) -> float | None:
        """Multiply-accumulates of a graph for each byte that is moved; None if unknown."""
        moved = self.bytes_moved.get(role)
        return self.macs[role] / moved if moved and role in self.macs else None

    def to_json(self) -> dict[str, Any]:
        """Make a JSON document: seconds."""
        return {
            "contender": self.contender,
            **self.computed,
            "tasks": {name: _document(timing) for name, timing in self.tasks.items()},
            "graphs": {
                role: {
                    **_document(timing),
                    "macs": self.macs.get(role),
                    "macs_per_second": self.rate(role),
                    "bytes_moved": self.bytes_moved.get(role),
                    "macs_per_byte": self.intensity(role),
                }
                for role, timing in self.graphs.items()
            },
        }


class TimedBackend:
    """A backend whose graphs are timed one by one; for one thread.

    Parameters
    ----------
    watched:
        Open; it stays the caller's to close.
    on_time:
        Called after every graph with its role.
    """

    def __init__(self, watched: Backend, on_time: OnTime) -> None:
        self.name = watched.name
        self.provider = watched.provider
        self.precision = watched.precision
        self.graph_precision = watched.graph_precision
        self.largest_batch = watched.largest_batch
        self._watched = watched
        self._on_time = on_time

    def signature(self, role: str) -> Signature:
        """Of the watched backend."""
        return self._watched.signature(role)

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph, and wait for its results: a GPU is given work ahead of time."""
        began = time.perf_counter()
        outputs = self._watched.run(role, inputs)
        for buffer in outputs.values():
            self._watched.share(buffer)
        self._on_time(role, time.perf_counter() - began)
        return outputs

    def upload(self, array: Any) -> Any:
        """Upload to the watched backend."""
        return self._watched.upload(array)

    def download(self, buffer: Any) -> Array:
        """Download from the watched backend."""
        return self._watched.download(buffer)

    def share(self, buffer: Any) -> Any:
        """Share what the watched backend has."""
        return self._watched.share(buffer)

    def for_session(self) -> TimedBackend:
        """Itself: for one thread."""
        return self

    def close(self) -> None:
        """Nothing: what it watches is the caller's."""


def time_contenders(
    openers: Mapping[str, Callable[[], Contender]],
    bundle: Bundle,
    picture: Picture,
    rounds: int,
    edits: int,
    on_progress: Callable[[str], None],
    method: str | None = None,
) -> list[Timings]:
    """Time contenders in turns.

    Parameters
    ----------
    openers:
        Name -> what opens the contender; all stay open until the end.
    picture:
        uint8 [H,W,3], aligned.
    rounds:
        After the first, which is told apart; at least 1.
    edits:
        Pictures of one face that are rendered with its kernels expanded once; at least 1.
    on_progress:
        Called with what is done next.
    method:
        By name; None for the bundle's default.

    Returns
    -------
    Of each contender, in the given order. A refinement step is timed where the bundle has the
    graphs and the contender runs fp32 ones.

    Raises
    ------
    HyperStyleError
        If a number is too small.
    BackendError
        If a contender cannot be opened or fails.
    BundleError
        If the bundle has no such method, or a file of it is altered.
    """
    if rounds < 1 or edits < 1:
        raise HyperStyleError(f"rounds and edits must be at least 1, not {rounds} and {edits}")
    bundle.manifest.method(method)  # refused before anything is opened
    runs: list[_Run] = []
    try:
        for name, opener in openers.items():
            on_progress(f"opening {name}")
            runs.append(_Run(name, opener, bundle))
        for number in range(rounds + 1):
            for run in runs:
                on_progress(f"round {number} of {rounds}: {run.timings.contender}")
                run.do(picture, edits, method)
    finally:
        for run in runs:
            run.backend.close()
    return [run.timings for run in runs]


def peak_memory() -> int | None:
    """Most bytes this process has held in memory; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Run:
    """A contender that is being timed."""

    def __init__(self, name: str, opener: Callable[[], Contender], bundle: Bundle) -> None:
        began = time.perf_counter()
        self.backend = opener().backend
        opened = Timing(time.perf_counter() - began)
        computed = {"provider": self.backend.provider, "precision": self.backend.precision}
        graphs = bundle.manifest.graphs.items()
        macs = {role: graph.macs for role, graph in graphs if graph.macs is not None}
        moved = {role: graph.bytes_moved for role, graph in graphs if graph.bytes_moved is not None}
        on_cpu = entry_of(self.backend.name).memory == "cpu"
        self.timings = Timings(name, computed, {OPENING: opened}, {}, macs, on_cpu, moved)
        self._model = Model(bundle, self.backend)
        self._watched = Model(bundle, TimedBackend(self.backend, self._add_graph))
        self._refines = (
            OBJECTIVE in bundle.manifest.graphs and self.backend.graph_precision == BASE_PRECISION
        )

    def do(self, picture: Picture, edits: int, method: str | None) -> None:
        """Do everything once: first whole, then graph by graph."""
        began = time.perf_counter()
        inversion = self._model.invert(picture, method=method, align="never", effort=FAST)
        self._add_task(INVERSION, time.perf_counter() - began)
        latents = np.repeat(inversion.latents[None], edits, axis=0)
        began = time.perf_counter()
        self._model.synthesise(inversion, latents)
        self._add_task(f"{edits} {RENDERINGS}", time.perf_counter() - began)
        if self._refines:
            self._add_task(REFINEMENT_STEP, self._refinement_step(inversion, picture))
        self._watched.invert(picture, method=method, align="never", effort=FAST)
        if self._refines:
            self._watched.optimise(inversion, picture, steps=1, align="never")

    def _refinement_step(self, inversion: Inversion, picture: Picture) -> float:
        """Seconds from the first gradient to the loss after it."""
        times: list[float] = []
        self._model.optimise(
            inversion,
            picture,
            steps=1,
            on_step=lambda *_: times.append(time.perf_counter()),
            align="never",
        )
        return times[-1] - times[0]

    def _add_task(self, name: str, seconds: float) -> None:
        _add(self.timings.tasks, name, seconds)

    def _add_graph(self, role: str, seconds: float) -> None:
        _add(self.timings.graphs, role, seconds)


def _add(timings: dict[str, Timing], name: str, seconds: float) -> None:
    if name in timings:
        timings[name].warm.append(seconds)
    else:
        timings[name] = Timing(seconds)


def _document(timing: Timing) -> dict[str, Any]:
    return {"first": timing.first, "median": timing.median, "warm": timing.warm}
