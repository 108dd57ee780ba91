"""The server as it is run: how it ends, and what connections it keeps."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hyperstyle_rt.serving.jobs import Inverted
from hyperstyle_rt.serving.settings import ServiceSettings
from malformed import GOOD
from services import PATIENCE
from waiting_worker import Waiting

httpx = pytest.importorskip("httpx", reason="the extra `dev` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")


class Running:
    """A server in a thread, whose one worker waits for the test to end its job."""

    def __init__(self, settings: ServiceSettings) -> None:
        from hyperstyle_rt.serving.run import server_of
        from hyperstyle_rt.serving.service import Service

        self.worker = Waiting()
        service = Service(settings, lambda _settings: self.worker)
        service.pool.start()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.server = server_of(service)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve(sockets=[self._listening]))
        )
        self._thread.start()

    def end(self) -> None:
        """As SIGTERM does."""
        self.server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def run(settings: ServiceSettings) -> Iterator[Callable[[], Running]]:
    """Starts a server, which ends with the test."""
    begun: list[Running] = []

    def start() -> Running:
        begun.append(Running(settings))
        return begun[-1]

    yield start
    for running in begun:
        running.worker.end.set()
        running.end()


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """What uvicorn logs, which does not pass it on to others."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    yield caplog.records
    logger.removeHandler(caplog.handler)


def test_clients_are_told_that_the_service_is_stopped(
    run: Any, monkeypatch: pytest.MonkeyPatch, complaints: list[logging.LogRecord]
) -> None:
    monkeypatch.setattr("hyperstyle_rt.serving.run.GRACE_SECONDS", 0.5)
    running = run()
    at = f"http://127.0.0.1:{running.port}/v1/inversions"
    answers: dict[str, Any] = {}

    def invert(prefer: str = "") -> Any:
        files, headers = {"picture": ("x", GOOD)}, {"prefer": prefer}
        return httpx.post(at, files=files, headers=headers, timeout=PATIENCE)

    queued = invert("respond-async").json()["id"]
    threads = [
        threading.Thread(target=lambda: answers.update(inverted=invert())),
        threading.Thread(
            target=lambda: answers.update(
                events=httpx.get(f"{at}/{queued}/events", timeout=PATIENCE)
            )
        ),
    ]
    for thread in threads:
        thread.start()
    while len(running.server.server_state.tasks) < 2 or not running.worker.at_work.is_set():
        time.sleep(0.01)
    time.sleep(0.2)
    running.end()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers["inverted"].status_code == 503
    assert "the service is being stopped" in answers["inverted"].json()["detail"]
    assert answers["inverted"].headers["retry-after"] == "5"
    last = answers["events"].text.rstrip().split("\n\n")[-1]
    assert last.startswith("event: failed") and "the service is being stopped" in last
    assert complaints == []


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"GET /health HTTP/1.1\r\nHost: local", 0),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nG", 1),
    ],
)
def test_connections_that_ask_for_nothing_are_closed(
    run: Any, sent: bytes, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperstyle_rt.serving.connections.HEAD_SECONDS", 0.3)
    running = run()
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200") == answers


def test_a_request_that_is_answered_slowly_keeps_its_connection(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperstyle_rt.serving.connections.HEAD_SECONDS", 0.1)
    running = run()
    running.worker.result = Inverted(b"file", b"picture", None, {})
    threading.Timer(0.5, running.worker.end.set).start()
    at = f"http://127.0.0.1:{running.port}/v1/inversions"
    answer = httpx.post(at, files={"picture": ("x", GOOD)}, timeout=30)
    assert answer.json()["state"] == "done"


def test_a_client_that_never_comes_to_an_end_does_not_hold_up_the_end(
    run: Any, monkeypatch: pytest.MonkeyPatch, complaints: list[logging.LogRecord]
) -> None:
    for name in ("GRACE_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(f"hyperstyle_rt.serving.run.{name}", 0.01)
    running = run()
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /v1/inversion-files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        while not running.server.server_state.tasks:
            time.sleep(0.01)
        running.end()
    assert complaints == []
