"""Counts how often workers have begun something, so that one thing cannot end them for ever.

Ray gives the block of a worker that has died to another one, as often as that happens. What a
worker cannot survive (a picture that takes more memory than there is) would take all of them.
"""

from __future__ import annotations

from typing import Any, Protocol

MOST = 3
"""Workers that may die of a block, and then of a picture of it."""


class Attempts(Protocol):
    """Counts attempts of one run, for all of its workers."""

    def begin(self, name: str) -> int:
        """Note that a worker begins; gives how many have, with this one."""

    def end(self, name: str) -> None:
        """Note that it has survived."""


class Counter:
    """Counts attempts, in one process."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def begin(self, name: str) -> int:
        """See :class:`Attempts`."""
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def end(self, name: str) -> None:
        """See :class:`Attempts`."""
        self._counts.pop(name, None)


class SharedCounter:
    """A counter in an actor of its own, which workers on all machines ask."""

    def __init__(self, ray: Any) -> None:
        remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Counter)
        self._actor = remote.remote()

    def begin(self, name: str) -> int:
        """See :class:`Attempts`."""
        import ray

        return int(ray.get(self._actor.begin.remote(name)))

    def end(self, name: str) -> None:
        """See :class:`Attempts`; not waited for."""
        self._actor.end.remote(name)
