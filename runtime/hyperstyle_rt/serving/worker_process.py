"""The pool's end of a worker process: opens it, gives it jobs, ends it."""

from __future__ import annotations

import atexit
import multiprocessing
import time
from typing import Any

from ..errors import BackendError
from ..files import reason
from .jobs import Progress
from .settings import ModelSettings
from .tickets import OutOfTime, ShuttingDown, Ticket, WorkerLost, value_of
from .worker import CANCEL, Ready, Refused, work

OPENING_SECONDS = 300.0

_WATCH = 0.25  # seconds between looks at whether a job was cancelled


class WorkerProcess:
    """A worker that is a process of this machine.

    Raises
    ------
    HyperStyleError
        If it cannot open its model.
    """

    def __init__(self, settings: ModelSettings) -> None:
        context = multiprocessing.get_context("spawn")  # after a fork ONNX Runtime hangs
        try:
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=work, args=(theirs, settings), daemon=True)
            self._process.start()
        except OSError as error:
            raise BackendError(
                f"the system refuses a process for a worker ({reason(error)}); free memory, or let "
                "the service have more files and processes (ulimit)"
            ) from error
        # Python would send it SIGTERM, which it does not heed, and wait for its end.
        atexit.register(self._process.kill)
        theirs.close()
        try:
            self.computed = self._opened().computed
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can do more."""
        return not self._connection.closed and self._process.is_alive()

    def do(self, ticket: Ticket, deadline: float) -> Any:
        """Have it do a job: its result.

        Raises
        ------
        HyperStyleError, WorkerLost, OutOfTime, JobFailed
            See :class:`Ticket`.
        """
        try:
            self._connection.send(ticket.job)
            while True:
                message = self._next(ticket, deadline)
                if isinstance(message, Progress):
                    ticket.on_progress(message)
                    continue
                return value_of(message)
        except (EOFError, OSError):
            self.stop()
            raise WorkerLost from None

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        atexit.unregister(self._process.kill)

    def _next(self, ticket: Ticket, deadline: float) -> object:
        told = False
        while True:
            if time.monotonic() > deadline:
                self.stop()
                raise OutOfTime
            if ticket.future.done():  # abandoned: it need not come to its next step
                self.stop()
                raise ShuttingDown
            if ticket.cancelled and not told:
                self._connection.send(CANCEL)
                told = True
            if self._connection.poll(_WATCH):
                return self._connection.recv()

    def _opened(self) -> Ready:
        message: object = None
        try:
            if self._connection.poll(OPENING_SECONDS):
                message = self._connection.recv()
        except EOFError:
            pass
        if isinstance(message, Refused):
            raise BackendError(message.sentence)
        if not isinstance(message, Ready):
            raise BackendError(
                "a worker of the service has died while it opened the bundle; its own message is "
                "above, or there is too little memory for so many workers: try --workers 1"
            )
        return message
