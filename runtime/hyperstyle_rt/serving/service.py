"""What the routes work with: the workers, the inversions that are kept, and what is counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import HTTPException

from ..errors import HyperStyleError
from ..formats.bundle import Bundle
from ..formats.directions_file import bundle_directions
from .jobs import Inverted, InvertJob, Job, OpenJob, Progress
from .metrics import Metrics
from .pool import Busy, OpenWorker, Pool
from .settings import ServiceSettings
from .store import DONE, FAILED, RUNNING, Kept, Store
from .tickets import JobFailed, OutOfTime, ShuttingDown, Ticket, WorkerLost

_log = logging.getLogger(__name__)

RETRY_AFTER = "retry-after"


class Service:
    """One bundle, served.

    Parameters
    ----------
    open_worker:
        As for :class:`Pool`.

    Raises
    ------
    HyperStyleError
        If the bundle or the store cannot be opened.
    """

    def __init__(self, settings: ServiceSettings, open_worker: OpenWorker | None = None) -> None:
        self.settings = settings
        self.bundle = Bundle.open(settings.model.bundle)
        self.directions = bundle_directions(self.bundle)
        self.store = Store(settings.keeping)
        limits = settings.limits
        self.pool = Pool(
            settings.model, settings.workers, limits.waiting, limits.work_seconds, open_worker
        )
        self.metrics = Metrics(self.pool, self.store)
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Future[None] | None = None

    def begin(self, job: InvertJob | OpenJob) -> Kept:
        """Queue an inversion, and keep what comes of it.

        Raises
        ------
        HTTPException
            If the queue is full.
        """
        loop = asyncio.get_running_loop()

        def on_progress(progress: Progress) -> None:
            loop.call_soon_threadsafe(lambda: self._told(kept, progress))

        ticket = self._submit(job, on_progress)
        kept = self.store.add()  # not before: others make room for it
        kept.cancel = ticket.cancel
        task = loop.create_task(self._follow(kept, ticket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return kept

    async def do(self, job: Job) -> Any:
        """Have a job done; to cancel it is to give the job up.

        Raises
        ------
        HTTPException
            If it cannot be done; 422 with its sentence where the client can mend it.
        """
        ticket = self._submit(job, lambda _progress: None)
        try:
            return await self._outcome(ticket)
        except asyncio.CancelledError:
            ticket.cancel()
            raise

    async def ended(self, kept: Kept) -> None:
        """Wait until an inversion is done or has failed."""
        async with self._news:
            await self._news.wait_for(lambda: kept.ended)

    async def progress_of(self, kept: Kept) -> AsyncIterator[Progress | None]:
        """What an inversion has told and tells, to its end; None where nothing came for a while."""
        sent = 0
        while True:
            while sent < len(kept.told):  # more may come while one is sent
                progress = kept.told[sent]
                sent += 1
                yield progress
            if kept.ended:
                return
            try:
                async with self._news:
                    if len(kept.told) == sent and not kept.ended:
                        await asyncio.wait_for(self._news.wait(), 10)
            except asyncio.TimeoutError:
                yield None

    def close(self) -> None:
        """Stop the workers."""
        self.pool.close()

    async def stop(self, grace: float = 0.0) -> None:
        """Stop the workers, and wait until all who wait for them are told.

        Parameters
        ----------
        grace:
            As for :meth:`Pool.close`; that of the first call holds for the others, too.
        """
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(grace))
        await self._stopping

    async def _stop(self, grace: float) -> None:
        await asyncio.to_thread(self.pool.close, grace)
        while self._tasks:  # one that has ended may have begun another
            await asyncio.wait(self._tasks)

    def _submit(self, job: Job, on_progress: Any) -> Ticket:
        try:
            return self.pool.submit(job, on_progress)
        except Busy as busy:
            raise HTTPException(429, str(busy), {RETRY_AFTER: str(busy.seconds)}) from None
        except ShuttingDown:
            raise _stopped() from None

    def _told(self, kept: Kept, progress: Progress) -> None:
        """Keep what was told; of the pictures of renderings the last alone."""
        for number, earlier in enumerate(kept.told):
            if earlier.kind != "crop" and earlier.picture is not None:
                kept.told[number] = Progress(earlier.kind, earlier.number, None, earlier.loss)
        kept.told.append(progress)
        kept.state = RUNNING
        self._notify()

    async def _follow(self, kept: Kept, ticket: Ticket) -> None:
        """Wait for an inversion and keep what came of it."""
        try:
            result = await self._outcome(ticket)
            assert isinstance(result, Inverted)
            await asyncio.to_thread(self.store.finish, kept, result)
            kept.state = DONE
        except HTTPException as error:
            kept.problem, kept.status = str(error.detail), error.status_code
            kept.state = FAILED
        # It leads to the job with its picture, and by way of what is told back to `kept`: a circle,
        # which Python takes apart only when it has made many thousands of objects.
        kept.cancel = lambda: None
        kept.told = [
            Progress(each.kind, each.number, None, each.loss, each.notice) for each in kept.told
        ]
        self._notify()

    async def _outcome(self, ticket: Ticket) -> Any:
        began, outcome = time.monotonic(), "failed"
        try:
            result = await asyncio.wrap_future(ticket.future)
            outcome = "done"
            return result
        except HyperStyleError as error:
            outcome = "refused"
            raise HTTPException(422, str(error)) from None
        except OutOfTime:
            limit = self.settings.limits.work_seconds
            raise HTTPException(
                504, f"this took more than {limit:g} s and was stopped; ask for fewer steps"
            ) from None
        except WorkerLost:
            raise HTTPException(
                503, "the workers died of this; try it again later", {RETRY_AFTER: "5"}
            ) from None
        except ShuttingDown:
            raise _stopped() from None
        except JobFailed as error:
            raise HTTPException(500, str(error)) from None
        except asyncio.CancelledError:
            if ticket.cancelled:
                raise HTTPException(410, "the inversion was given up") from None
            raise
        finally:
            self.metrics.observe_job(
                type(ticket.job).__name__.removesuffix("Job").lower(),
                outcome,
                time.monotonic() - began,
            )
            del ticket  # its future holds the error, and the error this frame: a circle, too

    def _notify(self) -> None:
        async def notify() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _stopped() -> HTTPException:
    return HTTPException(503, "the service is being stopped; try again later", {RETRY_AFTER: "5"})
