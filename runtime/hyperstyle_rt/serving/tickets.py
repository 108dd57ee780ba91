"""A job on its way through the pool, and what can become of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import HyperStyleError
from .jobs import Job, Progress
from .worker import Failed, Refused, Result, Stopped


class WorkerLost(Exception):
    """The workers of a job have died; it can be tried again, but it may be what they died of."""


class OutOfTime(Exception):
    """A job has taken longer than is allowed, and its worker was stopped."""


class ShuttingDown(Exception):
    """The service ends before a job does."""


class JobFailed(Exception):
    """A job has met a fault of this program; the log has it."""


@dataclass(eq=False)
class Ticket:
    """A job in the queue or at work.

    Attributes
    ----------
    on_cancel:
        Told of the ticket when nobody waits for it any more.
    attempts:
        How many workers have begun it.
    future:
        Its result; or :class:`HyperStyleError`, :class:`WorkerLost`, :class:`OutOfTime`,
        :class:`ShuttingDown`, :class:`JobFailed`.
    """

    job: Job
    on_progress: Callable[[Progress], None]
    on_cancel: Callable[[Ticket], None] = lambda _ticket: None
    future: Future[Any] = field(default_factory=Future)
    attempts: int = 0
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Nobody waits for it any more: it leaves the queue, or is stopped at its next step."""
        self._cancelled.set()
        self.future.cancel()
        self.on_cancel(self)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it."""
        return self._cancelled.is_set()

    def abandon(self) -> None:
        """The service ends: who waits is told so, and what comes of it yet is for nobody."""
        self._cancelled.set()
        self.settle(ShuttingDown())

    def settle(self, outcome: Any) -> None:
        """Set the future, to a result or an exception; one that is settled stays as it is."""
        with suppress(InvalidStateError):
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)

    def begin(self) -> bool:
        """A worker takes it; False where nobody waits for it any more."""
        self.attempts += 1
        return self.attempts > 1 or self.future.set_running_or_notify_cancel()


def value_of(message: object) -> Any:
    """The result of a job, of the message that a worker has ended it with.

    Raises
    ------
    HyperStyleError, JobFailed
        See :class:`Ticket`.
    """
    if isinstance(message, Result):
        return message.value
    if isinstance(message, Refused):
        raise HyperStyleError(message.sentence)
    if isinstance(message, Stopped):
        raise JobFailed("the job was cancelled")
    assert isinstance(message, Failed)
    raise JobFailed("the job met a fault of this program; its log says more")
