"""The workers of a service and the queue before them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..closing import Closable
from ..errors import HyperStyleError
from .jobs import Job, Progress
from .settings import ModelSettings
from .tickets import JobFailed, ShuttingDown, Ticket, WorkerLost
from .worker_process import WorkerProcess

_log = logging.getLogger(__name__)

RESTART_PAUSE = 1.0
"""Seconds before a worker is started anew whose start has failed."""

ATTEMPTS = 2
"""Workers that may die of one job; it could be the job that they die of."""

WATCH_SECONDS = 1.0
"""Between looks at whether a worker that has nothing to do has died."""

ENDING_SECONDS = 1.5
"""For the workers to end when the pool is closed; those that have not are killed by Python."""


class Busy(Exception):
    """The queue is full.

    Attributes
    ----------
    seconds:
        After which it is worth to try again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; try again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True)
class PoolState:
    """What there is to tell of a pool."""

    waiting: int
    working: int
    ready: int
    restarts: int


class Worker(Protocol):
    """What does jobs, one at a time.

    Attributes
    ----------
    computed:
        What computes there: ``backend``, ``provider`` and ``precision``.
    """

    computed: dict[str, str]

    @property
    def alive(self) -> bool:
        """Whether it can do more."""

    def do(self, ticket: Ticket, deadline: float) -> Any:
        """Have it do a job: its result.

        Parameters
        ----------
        deadline:
            On the clock of ``time.monotonic``.

        Raises
        ------
        HyperStyleError, WorkerLost, OutOfTime, JobFailed
            See :class:`Ticket`.
        """

    def stop(self) -> None:
        """End it."""


OpenWorker = Callable[[ModelSettings], Worker]
"""Opens a worker; raises HyperStyleError if it cannot open its model."""


class Pool(Closable):
    """Workers that do jobs, opened anew when they die.

    Short jobs go first, and jobs that take minutes never occupy the last of several workers: an
    edit does not wait for another client's descent.

    Parameters
    ----------
    settings:
        What each worker opens.
    workers:
        How many.
    waiting:
        How many jobs the queue holds.
    seconds:
        A job may take.
    open_worker:
        Opens one; None for a process of this machine.
    """

    def __init__(
        self,
        settings: ModelSettings,
        workers: int,
        waiting: int,
        seconds: float,
        open_worker: OpenWorker | None = None,
    ) -> None:
        self._settings = settings
        self._open_worker: OpenWorker = open_worker or WorkerProcess
        self._workers = workers
        self._limit = waiting
        self._seconds = seconds
        self._changed = threading.Condition()
        self._short: deque[Ticket] = deque()
        self._long: deque[Ticket] = deque()
        self._at_work: set[Ticket] = set()
        self._long_working = self._ready = self._restarts = 0
        self._mean = 1.0  # seconds of a job, lately
        self._closed = False
        self._threads: list[threading.Thread] = []
        self.computed: dict[str, str] = {}

    def start(self) -> None:
        """Start the workers, and wait for the first.

        Raises
        ------
        HyperStyleError
            If it cannot open the model.
        """
        first = self._open_worker(self._settings)
        self.computed = first.computed
        processes: list[Worker | None] = [first, *[None] * (self._workers - 1)]
        for number, process in enumerate(processes):
            thread = threading.Thread(
                target=self._keep_working, args=(process,), name=f"worker-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def submit(self, job: Job, on_progress: Callable[[Progress], None]) -> Ticket:
        """Queue a job.

        Parameters
        ----------
        on_progress:
            Called from a thread of the pool.

        Raises
        ------
        Busy
            If the queue is full.
        ShuttingDown
            If the pool is closed.
        """
        ticket = Ticket(job, on_progress, self._leave_queue)
        with self._changed:
            if self._closed:
                raise ShuttingDown
            waiting = len(self._short) + len(self._long)
            if waiting >= self._limit:
                raise Busy(max(1, round(self._mean * waiting / self._workers)))
            self._queue_of(ticket).append(ticket)
            self._changed.notify()
        return ticket

    @property
    def state(self) -> PoolState:
        """How many wait and work now."""
        with self._changed:
            waiting = len(self._short) + len(self._long)
            return PoolState(waiting, len(self._at_work), self._ready, self._restarts)

    def close(self, grace: float = 0.0) -> None:
        """Stop the workers.

        Parameters
        ----------
        grace:
            Seconds in which what waits and what is at work may yet end; the rest is abandoned.
        """
        with self._changed:
            self._changed.wait_for(self._is_idle, grace)
            self._closed = True
            abandoned = (*self._short, *self._long, *self._at_work)
            self._short.clear()
            self._long.clear()
            self._changed.notify_all()
        for ticket in abandoned:
            ticket.abandon()
        end = time.monotonic() + ENDING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _is_idle(self) -> bool:
        return self._closed or not (self._short or self._long or self._at_work)

    def _queue_of(self, ticket: Ticket) -> deque[Ticket]:
        return self._long if ticket.job.takes_minutes else self._short

    def _leave_queue(self, ticket: Ticket) -> None:
        """Let go of a cancelled job and its picture at once, not when its turn would have come."""
        with self._changed:
            if ticket not in self._queue_of(ticket):
                return
            self._queue_of(ticket).remove(ticket)
        if ticket.attempts:  # its worker has died, and a future that was begun cannot be cancelled
            ticket.settle(JobFailed("the job was cancelled"))

    def _take(self, process: Worker) -> Ticket | None:
        """The next job; None where the pool is closed, or the worker has died."""
        with self._changed:
            while not self._closed and process.alive:
                queue = self._next_queue()
                if queue is None:
                    self._changed.wait(WATCH_SECONDS)
                    continue
                ticket = queue.popleft()
                if ticket.begin():
                    self._at_work.add(ticket)
                    self._long_working += ticket.job.takes_minutes
                    return ticket
            return None

    def _next_queue(self) -> deque[Ticket] | None:
        if self._short:
            return self._short
        may_be_long = self._long_working < max(1, self._workers - 1)
        return self._long if self._long and may_be_long else None

    def _done(self, ticket: Ticket, seconds: float) -> None:
        with self._changed:
            self._at_work.remove(ticket)
            self._long_working -= ticket.job.takes_minutes
            self._mean += 0.1 * (seconds - self._mean)
            self._changed.notify_all()  # the workers, and who closes

    def _keep_working(self, process: Worker | None) -> None:
        while not self._closed:
            if process is None:
                process = self._restarted()
                continue
            self._count_ready(1)
            try:
                self._work_with(process)
            finally:
                self._count_ready(-1)
                process.stop()
            process = None

    def _restarted(self) -> Worker | None:
        try:
            return self._open_worker(self._settings)
        except HyperStyleError as error:
            _log.error("a worker cannot start: %s", error)
            time.sleep(RESTART_PAUSE)
            return None

    def _count_ready(self, more: int) -> None:
        with self._changed:
            self._ready += more
            self._restarts += more < 0 and not self._closed

    def _work_with(self, process: Worker) -> None:
        """Do jobs with a process until it dies or the pool is closed."""
        while (ticket := self._take(process)) is not None:
            began = time.monotonic()
            try:
                self._settle(ticket, process, began + self._seconds)
            finally:
                self._done(ticket, time.monotonic() - began)

    def _settle(self, ticket: Ticket, process: Worker, deadline: float) -> None:
        """Do a job and settle its future; one whose worker dies is given to another, once."""
        try:
            ticket.settle(process.do(ticket, deadline))
        except WorkerLost as error:
            with self._changed:
                again = ticket.attempts < ATTEMPTS and not ticket.cancelled and not self._closed
                if again:
                    self._queue_of(ticket).appendleft(ticket)
            if not again:
                ticket.settle(error)
        except Exception as error:
            ticket.settle(error)
