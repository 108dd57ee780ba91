"""The HTTP service on Ray Serve: one front, and workers on all machines of a cluster.

The front is the application of ``hyperstyle-rt serve``, page and all, and keeps the inversions. Its
pool has the same queue and the same rules as on one machine; what does the jobs are replicas of a
deployment, each with a model, placed and scaled by Ray Serve. A replica that dies is replaced, and
its job given to another, once.

    serve run examples/ray/serve.yaml
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayError, TaskCancelledError

from ..errors import BackendError
from ..formats.bundle import Bundle
from ..formats.bundle_lookup import find_bundle
from ..serving.desk import Desk
from ..serving.http import create_app
from ..serving.jobs import Job, Progress
from ..serving.service import Service
from ..serving.settings import Access, Keeping, Limits, ModelSettings, ServiceSettings, check_access
from ..serving.tickets import JobFailed, OutOfTime, Ticket, WorkerLost, value_of
from ..serving.worker import CANCEL, Failed, message_of
from ..serving.worker_process import OPENING_SECONDS
from ..work import computed_by
from .serve_settings import ServeArguments

_WATCH = 0.25  # seconds between looks at whether a job was cancelled
_REPLICA_WAIT = 1.0  # seconds before a worker is asked again that was not there


class _Line:
    """What a worker's thread tells, and whether it is to stop."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.cancelled = threading.Event()

    def send(self, message: object, /) -> None:
        self.told.put(message)

    def poll(self) -> bool:
        return self.cancelled.is_set()

    def recv(self) -> object:
        return CANCEL


@serve.deployment
class Worker:
    """A replica: an open model that does one job at a time."""

    def __init__(self, bundle: str | None, settings: ModelSettings) -> None:
        """Open the model, by a name or directory that means the same on every machine."""
        directory = Bundle.open(find_bundle(bundle)).directory
        self._desk = Desk(replace(settings, bundle=directory))

    def computed(self) -> dict[str, str]:
        """What computes here."""
        return computed_by(self._desk.session.backend)

    def do(self, job: Job) -> Iterator[object]:
        """Do a job: what it tells, and in the end its message; stops where nobody listens."""
        line = _Line()
        thread = threading.Thread(target=self._work, args=(job, line), daemon=True)
        thread.start()
        try:
            while True:
                message = line.told.get()
                yield message
                if not isinstance(message, Progress):
                    return
        finally:
            line.cancelled.set()
            thread.join()  # the model is one thread's

    def _work(self, job: Job, line: _Line) -> None:
        message: object = Failed()
        try:
            message = message_of(job, self._desk, line)
        finally:
            line.send(message)


class ServeWorker:
    """A place in the front's pool; its jobs go to whichever replica is free."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.computed: dict[str, str] = {}
        try:
            self.computed = handle.computed.remote().result(timeout_s=OPENING_SECONDS)
        except (RayError, TimeoutError) as error:
            time.sleep(_REPLICA_WAIT)
            raise BackendError(
                f"no worker of the service answers ({type(error).__name__})"
            ) from error

    @property
    def alive(self) -> bool:
        """True: replicas are Ray Serve's business."""
        return True

    def do(self, ticket: Ticket, deadline: float) -> Any:
        """Have a replica do a job; see :class:`hyperstyle_rt.serving.pool.Worker`."""
        told = self._handle.options(stream=True).do.remote(ticket.job)
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(told, ticket, deadline, ended), daemon=True)
        watch.start()
        try:
            for message in told:
                if isinstance(message, Progress):
                    ticket.on_progress(message)
                else:
                    return value_of(message)
            raise WorkerLost
        except (TaskCancelledError, asyncio.CancelledError):
            if time.monotonic() > deadline:
                raise OutOfTime from None
            raise JobFailed("the job was cancelled") from None
        except RayActorError:
            raise WorkerLost from None
        except RayError as error:
            raise JobFailed(f"Ray gives up the job: {type(error).__name__}") from error
        finally:
            ended.set()

    def stop(self) -> None:
        """Do nothing: replicas are Ray Serve's business."""


def _watch(told: Any, ticket: Ticket, deadline: float, ended: threading.Event) -> None:
    """Give up a job that nobody waits for, or that takes too long."""
    while not ended.wait(_WATCH):
        if ticket.cancelled or time.monotonic() > deadline:
            with suppress(RayError):
                told.cancel()
            return


@serve.deployment(
    num_replicas=1,
    max_ongoing_requests=512,
    ray_actor_options={"num_cpus": 0},  # its workers compute; a machine of two cores has two
)
@serve.ingress()
class Front:
    """The application; there is one, for inversions are kept in it."""

    def __init__(self, workers: Any, settings: ServiceSettings) -> None:
        """Open the service; its workers may come later."""
        self.service = Service(settings, lambda _settings: ServeWorker(workers))
        threading.Thread(target=self._start, daemon=True).start()

    def _start(self) -> None:
        """Wait for the first worker, however long it takes to be placed."""
        while True:
            with suppress(BackendError):
                self.service.pool.start()
                return

    def __serve_build_asgi_app__(self) -> Any:
        """Give the application to Ray Serve."""
        return create_app(self.service)


def application(arguments: Mapping[str, Any]) -> Any:
    """Build the application of a Ray Serve config file.

    Parameters
    ----------
    arguments:
        The file's ``args``, as :class:`ServeArguments` describes them.

    Raises
    ------
    HyperStyleError
        If an argument is wrong, the bundle is not there, or the address needs what is not given.
    """
    asked = ServeArguments.parse(arguments)
    access = Access(host=asked.host, token=os.environ.get("HYPERSTYLE_RT_TOKEN") or None)
    check_access(access, asked.allow_remote)
    directory = Bundle.open(find_bundle(asked.bundle)).directory
    model = ModelSettings(
        bundle=directory,
        backend=asked.backend,
        precision=asked.precision,
        threads=asked.threads,
    )
    settings = ServiceSettings(
        model=model,
        access=access,
        limits=Limits(waiting=asked.waiting, work_seconds=asked.seconds),
        keeping=Keeping(
            most=asked.keep, directory=None if asked.store is None else Path(asked.store)
        ),
        workers=asked.workers,
    )
    named = (
        str(Path(asked.bundle).absolute()) if asked.bundle and "/" in asked.bundle else asked.bundle
    )
    workers: Any = Worker  # what the decorators have made of the classes
    front: Any = Front
    worker = workers.options(
        max_ongoing_requests=1,
        autoscaling_config={
            "min_replicas": asked.least_workers,
            "max_replicas": asked.workers,
            "target_ongoing_requests": 1,
        },
        ray_actor_options={"num_cpus": asked.threads, "num_gpus": asked.gpus},
    )
    return front.bind(worker.bind(named, model), settings)
