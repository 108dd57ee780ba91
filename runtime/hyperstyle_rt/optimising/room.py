"""Room for a descent: graphs that it does not run are let go of, and its own after it.

At 1024 px the networks of an inversion take 1.5 GB and a descent as much again; neither needs the
other's.
"""

from __future__ import annotations

from ..backends.protocol import Backend, SparingBackend, in_own_memory
from ..formats.manifest import Manifest
from ..rendering import CHANNEL_OFFSETS, WEIGHTS
from .descent import Problem
from .objective import Target
from .variables import WEIGHTS_ADJOINT


def make_room(backend: Backend, manifest: Manifest, problem: Problem) -> None:
    """Let go of the graphs that a descent does not run."""
    if not isinstance(backend, SparingBackend):
        return
    used = _used(problem)
    problem.objective.own_kernels(problem.point(), with_base=CHANNEL_OFFSETS in used)
    problem.target = Target(in_own_memory(backend, problem.target.inputs))
    backend.let_go(manifest.graphs.keys() - used)


def clear_room(backend: Backend, problem: Problem) -> None:
    """Let go of the graphs that a descent has run."""
    if isinstance(backend, SparingBackend):
        problem.objective.drop()
        backend.let_go(_used(problem))


def _used(problem: Problem) -> set[str]:
    used = {problem.objective.role}
    for moving in problem.moving:
        used |= set(moving.variable.graphs)
    return used | {WEIGHTS} if WEIGHTS_ADJOINT in used else used
