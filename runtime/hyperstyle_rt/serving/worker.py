"""A worker of a service: a process of its own, so that what kills it does not kill the service."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ..errors import HyperStyleError
from ..work import computed_by
from .desk import Desk
from .jobs import Cancelled, Job, Progress
from .settings import ModelSettings

_log = logging.getLogger(__name__)

CANCEL = "cancel"
"""Sent to a worker in place of a job: nobody waits for the one it does."""


@dataclass(frozen=True)
class Ready:
    """A worker has opened its model."""

    computed: dict[str, str]


@dataclass(frozen=True)
class Refused:
    """What was asked for cannot be done; the sentence says why.

    Attributes
    ----------
    kind:
        Name of the error's class.
    """

    sentence: str
    kind: str


@dataclass(frozen=True)
class Failed:
    """A job has met a fault of this program, which the worker has logged."""


@dataclass(frozen=True)
class Stopped:
    """A job was given up because nobody waited for it."""


@dataclass(frozen=True)
class Result:
    """What a job has given."""

    value: Any


def work(connection: Connection, settings: ModelSettings) -> None:
    """Open a model and do jobs until the connection ends: the main function of the process.

    Sends :class:`Ready`, or :class:`Refused` and ends; then for every job what it tells
    (:class:`Progress`) and one of :class:`Result`, :class:`Refused`, :class:`Failed` and
    :class:`Stopped`.
    """
    # Ctrl-C goes to all processes, as SIGTERM does of systemd and `timeout`; the service stops us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        desk = Desk(settings)
    except HyperStyleError as error:
        connection.send(Refused(str(error), type(error).__name__))
        return
    connection.send(Ready(computed_by(desk.session.backend)))
    with desk:
        while (job := _received(connection)) is not None:
            try:
                connection.send(message_of(job, desk, connection))
            except (BrokenPipeError, ConnectionResetError):
                return  # the service has gone


def _received(connection: Connection) -> Job | None:
    """The next job; None at the end."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            return None
        if message != CANCEL:  # one that came too late
            return message if isinstance(message, Job) else None


class Line(Protocol):
    """What a worker needs of the connection to who has asked for a job."""

    def send(self, message: object, /) -> None:
        """Tell something."""

    def poll(self) -> bool:
        """Whether something has come."""

    def recv(self) -> object:
        """What has come."""


def message_of(job: Job, desk: Desk, connection: Line) -> object:
    """Do a job; gives the message that ends it."""

    def tell(progress: Progress) -> None:
        if connection.poll() and connection.recv() == CANCEL:
            raise Cancelled
        connection.send(progress)

    try:
        return Result(job.run(desk, tell))
    except HyperStyleError as error:
        return Refused(str(error), type(error).__name__)
    except MemoryError:
        return Refused("there is not enough memory for this", "MemoryError")
    except Cancelled:
        return Stopped()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)  # the service has gone in the middle of it
    except Exception:
        _log.exception("a job failed")
        return Failed()
