"""Runs the application on uvicorn, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from ..errors import HyperStyleError
from .connections import Connection
from .http import create_app
from .service import Service

GRACE_SECONDS = 7
"""For what waits and is at work when the service is told to stop; the rest is answered with 503."""

ANSWER_SECONDS = 1
"""For these answers; then connections are cut. Containers are often killed after ten in all."""

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """A server for which SIGTERM is an orderly end, not a death by signal."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what is at work end, answer what has not, and end."""
        loop = asyncio.get_running_loop()
        stopping = loop.create_task(self._service.stop(GRACE_SECONDS))
        cutting = loop.call_later(GRACE_SECONDS + ANSWER_SECONDS, self._cut)
        await super().shutdown(sockets)
        cutting.cancel()
        if self.force_exit:  # Ctrl-C again
            self._service.close()
        await stopping

    def _cut(self) -> None:
        """Hang up on clients that do not take their answer, or do not come to an end of asking."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        before = {number: signal.signal(number, stop) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(service: Service, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; then what is at work may end.

    Parameters
    ----------
    announce:
        Called with the address when it listens.

    Raises
    ------
    HyperStyleError
        If the address cannot be listened on.
    """
    access = service.settings.access
    try:
        listening = _listen(access.host, access.port)
    except BaseException:
        service.close()
        raise
    host, port = listening.getsockname()[:2]
    announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    with listening:
        server_of(service).run(sockets=[listening])


def server_of(service: Service) -> uvicorn.Server:
    """The server of a service whose pool was started."""
    config = uvicorn.Config(
        create_app(service),
        log_level="warning",  # what is asked for is nobody's business
        access_log=False,
        server_header=False,
        http=Connection,
        limit_concurrency=512,
    )
    return _Server(config, service)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, UnicodeError) as error:
        raise HyperStyleError(
            f"cannot listen on {host}, port {port} ({getattr(error, 'strerror', error)}); name "
            "another --host or --port"
        ) from None
    listening.listen(128)
    return listening
