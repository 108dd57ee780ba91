"""How long objects of a native library may be used: until they are closed, in the process that
opened them.

A child made by ``os.fork`` has the memory of its parent but none of its threads. ONNX Runtime waits
for its threads when a session is run or destroyed, and a CUDA context works in its process only: in
a child such objects can neither be used nor freed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable
from enum import Enum
from weakref import WeakSet

from ..errors import BackendError


class State(Enum):
    """Whether native objects may be used."""

    OPEN = "open"
    CLOSED = "closed"
    FORKED = "forked"


class NativeObjects:
    """The native objects of one backend, which live as long as this keeps them.

    Attributes
    ----------
    state:
        What may be done with them.
    """

    def __init__(self) -> None:
        self.state = State.OPEN
        self._kept: list[object] = []
        self._lock = threading.Lock()
        _all.add(self)

    def keep(self, native: object) -> None:
        """Keep one more.

        Raises
        ------
        BackendError
            As :meth:`check`.
        """
        with self._lock:
            self.check()
            self._kept.append(native)

    def let_go(self, native: object) -> None:
        """Keep one no longer: it is destroyed when no thread uses it any more."""
        with self._lock:
            self._kept = [kept for kept in self._kept if kept is not native]

    def check(self) -> None:
        """Refuse to use them after they were closed, or in a child process.

        Raises
        ------
        BackendError
            If so.
        """
        if self.state is State.CLOSED:
            raise BackendError("this model is closed; load it again to use it")
        if self.state is State.FORKED:
            raise BackendError(
                "this model was loaded before the process forked and does not work in the child; "
                "load it there, or start processes by spawn or forkserver"
            )

    def close(self) -> bool:
        """Drop the references; gives whether they were open, so that the caller frees the rest."""
        if self.state is not State.OPEN:
            return False
        with self._lock:
            self.state = State.CLOSED
            self._kept.clear()
        return True

    def abandon(self) -> None:
        """In a child process: mark them unusable, and keep them from ever being destroyed."""
        self.state = State.FORKED
        _make_immortal(self._kept)


def _make_immortal(objects: Iterable[object]) -> None:
    """Add references that are never dropped: these objects are not destroyed even at exit."""
    for native in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


def _after_fork_in_child() -> None:
    for objects in list(_all):
        if objects.state is State.OPEN:
            objects.abandon()


_all: WeakSet[NativeObjects] = WeakSet()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
