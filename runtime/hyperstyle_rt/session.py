"""A session: one thread's work on a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .backends.protocol import Backend
from .closing import Closable
from .errors import BackendError
from .formats.directions_file import Direction
from .operations import Operations
from .work import Work

if TYPE_CHECKING:
    from .model import Model


class Session(Operations, Closable):
    """One thread's work on a model, opened by `model.session()`.

    Sessions share the model's graphs. Each has its own device memory where the backend needs that,
    so several threads with a session each do not wait for one another. To be used as a context
    manager, or closed.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.bundle = model.bundle
        self._own = model.open_work()

    @property
    def directions(self) -> Mapping[str, Direction]:
        """See :attr:`Model.directions`."""
        return self._model.directions

    @property
    def backend(self) -> Backend:
        """What runs this session's graphs."""
        return self._work.backend

    @property
    def _work(self) -> Work:
        if self._own.closed:
            raise BackendError("the session is closed; open another one with model.session()")
        return self._own

    def close(self) -> None:
        """Give back the session's memory; further use raises BackendError."""
        self._own.close()
