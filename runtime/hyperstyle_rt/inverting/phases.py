"""The loop: the phases of a method, one after the other, on the state of an inversion.

All maths is in the graphs. Which graphs run, and how often, is in the bundle's manifest: HyperStyle
(paper 3.3) is one encoder and five runs of its hypernetwork, an encoder alone is one phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..backends.protocol import Backend, Buffers, OverlappingBackend
from ..formats.methods import Method
from ..rendering import RECONSTRUCTION, RENDERING
from ..types import Array
from .state import State

OnIteration = Callable[[int, Array, Array | None], None]
"""Called with (iteration from 1, rendering float32 [3,H,W], codes float32 [M,K+1] or None)."""


@dataclass(frozen=True)
class Watch:
    """What is read of the state while a method iterates.

    Attributes
    ----------
    until:
        Stop once the mean absolute difference between two reconstructions in a row is smaller.
    on_iteration:
        Called after every iteration.
    """

    until: float | None = None
    on_iteration: OnIteration | None = None

    @property
    def looks(self) -> bool:
        """Whether anything is read while the method runs."""
        return self.until is not None or self.on_iteration is not None


def run_phases(
    method: Method, iterations: int, state: State, backend: Backend, watch: Watch
) -> int:
    """Run a method.

    Parameters
    ----------
    iterations:
        How often the iterating phase runs at most; the others run as often as the method says.

    Returns
    -------
    How many iterations were done.
    """
    done = 0
    for position, phase in enumerate(method.phases):
        if position == method.iterating_phase:
            done = _iterate(phase.graph, iterations, state, backend, watch)
        else:
            for _ in range(phase.repeat or 1):
                state.replace(state.run(phase.graph))
    return done


def _iterate(graph: str, iterations: int, state: State, backend: Backend, watch: Watch) -> int:
    """Run one graph `iterations` times, or until the reconstruction changes less than asked."""
    before: Array | None = None
    ahead: Buffers | None = None  # outputs of the next iteration, where they are there already
    for number in range(1, iterations + 1):
        state.replace(state.run(graph) if ahead is None else ahead)
        if watch.on_iteration is not None:
            watch.on_iteration(number, *_shown(state, backend))
        if watch.until is not None and number < iterations:
            now, ahead = _read_reconstruction(graph, state, backend)
            if before is not None and float(np.abs(now - before).mean()) < watch.until:
                return number
            before = now
    return iterations


def _read_reconstruction(
    graph: str, state: State, backend: Backend
) -> tuple[Array, Buffers | None]:
    """Bring the reconstruction to the host.

    A backend that can copies it while the device runs the next iteration's graph. Where the
    iterations end here, that run is wasted: about a sixth of an iteration of HyperStyle. (A
    conditional node of a CUDA graph would lose nothing, but needs a kernel of its own and CUDA
    12.4.)
    """
    if not isinstance(backend, OverlappingBackend):
        return backend.download(state[RECONSTRUCTION]), None
    reading = backend.start_reading(state[RECONSTRUCTION])
    ahead = state.run(graph)
    return backend.finish_reading(reading), ahead


def _shown(state: State, backend: Backend) -> tuple[Array, Array | None]:
    """Rendering [3,H,W] and codes [M,K+1] of a state."""
    rendering, codes = backend.download(state[RENDERING])[0], state.codes
    return rendering, None if codes is None else backend.download(codes)[0]
