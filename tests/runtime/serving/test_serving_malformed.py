"""Malformed requests against a real server: the right refusal, nothing written, and it lives on."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.serving.jobs import Job
from hyperstyle_rt.serving.settings import Keeping, Limits, ModelSettings, ServiceSettings
from hyperstyle_rt.serving.tickets import Ticket
from malformed import ATTACKS, GOOD, Attack, multipart

httpx = pytest.importorskip("httpx", reason="the extra `dev` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

BODY_SECONDS = 0.5
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All that the service may write to: its store, and the folder for temporary files."""
    path = tmp_path_factory.mktemp("service")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(path))
        patch.setattr(tempfile, "tempdir", str(path))
        patch.chdir(path)
        yield path


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Any]:
    from hyperstyle_rt.serving.service import Service

    settings = ServiceSettings(
        model=ModelSettings(bundle=find_bundle("portraits"), threads=1),
        limits=Limits(body_bytes=MEGABYTE, pixels=MEGABYTE, body_seconds=BODY_SECONDS, frames=20),
        keeping=Keeping(directory=folder / "store"),
    )
    service = Service(settings)
    service.pool.start()
    yield service
    service.close()


@pytest.fixture(scope="module")
def address(service: Any) -> Iterator[str]:
    from hyperstyle_rt.serving.http import create_app

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(create_app(service), log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
        )
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def inversion(address: str) -> str:
    answer = httpx.post(
        f"{address}/v1/inversions", files={"picture": GOOD}, data={"iterations": "0"}, timeout=60
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(autouse=True)
def _nothing_is_written_and_it_lives_on(
    folder: Path, service: Any, address: str, inversion: str
) -> Iterator[None]:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    before = files()
    yield
    assert files() == before
    assert httpx.get(f"{address}/health").json()["workers"] == 1
    assert service.pool.state.restarts == 0


def ask(address: str, attack: Attack, inversion: str) -> Any:
    path = attack.path.replace("{id}", inversion)
    split = urlsplit(address)
    # Of a URL httpx would take the dots out; the server is to see them.
    url = httpx.URL(scheme="http", host=split.hostname, port=split.port, raw_path=path.encode())
    return httpx.request(
        attack.method,
        url,
        content=attack.content,
        headers=dict(attack.headers),
        files=attack.files,
        data=attack.data,
        timeout=30,
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused(name: str, address: str, inversion: str) -> None:
    attack = ATTACKS[name]
    answer = ask(address, attack, inversion)
    assert answer.status_code == attack.status, answer.text[:200]
    assert "root:" not in answer.text
    if attack.says is not None:
        detail = answer.json()["detail"]
        assert attack.says in detail, detail
        assert "Traceback" not in detail


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) + len(RAW) + 3 >= 60


def talk(address: str, *pieces: bytes, pause: float = 0.0, shut: bool = False) -> bytes:
    """Send what no client would, piece by piece; what comes back until the server hangs up."""
    split = urlsplit(address)
    assert split.hostname is not None
    with socket.create_connection((split.hostname, split.port), timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            if shut:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has hung up already
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
                head, blank, rest = answer.partition(b"\r\n\r\n")
                if blank and (b"content-length" not in head.lower() or rest.endswith(b"}")):
                    break
        except ConnectionResetError:
            pass
        return answer


HEAD = b"POST /v1/inversions HTTP/1.1\r\nHost: localhost\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"

RAW: dict[str, tuple[bytes, bytes]] = {
    "a length of a hundred megabytes": (
        HEAD + FORM + b"Content-Length: 104857600\r\n\r\n",
        b"413",
    ),
    "a negative length": (HEAD + FORM + b"Content-Length: -1\r\n\r\n", b"400"),
    "a length in words": (HEAD + FORM + b"Content-Length: much\r\n\r\n", b"400"),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
    "a chunk of no size": (HEAD + FORM + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20) + b"\r\n\r\n", b"400"),
    "a header of a megabyte": (HEAD + b"X: " + b"a" * MEGABYTE + b"\r\n\r\n", b"4"),
}


@pytest.mark.parametrize("name", RAW)
def test_what_no_client_would_send(name: str, address: str) -> None:
    request, status = RAW[name]
    assert talk(address, request).startswith(b"HTTP/1.1 " + status)


def test_a_hundred_megabytes_that_come_nevertheless(address: str) -> None:
    """Sent in chunks, of no length that a header tells; the server stops reading soon."""
    head = HEAD + FORM + b"Transfer-Encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    begin = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="x"\r\n\r\n'
    first = f"{len(begin):x}\r\n".encode() + begin + b"\r\n"
    assert talk(address, head, first, *[piece] * 1600).startswith(b"HTTP/1.1 413")


def test_a_body_that_comes_too_slowly(address: str) -> None:
    head = HEAD + FORM + b"Content-Length: 1000\r\n\r\n"
    began = time.monotonic()
    answer = talk(address, head, *[b"-"] * 4, pause=0.2)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < BODY_SECONDS + 5


def test_a_client_that_goes_away_in_the_middle(address: str) -> None:
    head = HEAD + FORM + b"Content-Length: 1000\r\n\r\n--x\r\nContent-Disposition: form-"
    assert talk(address, head, shut=True) in (b"", b"HTTP/1.1 400 Bad Request")


def test_a_client_that_goes_away_while_its_picture_is_inverted(address: str) -> None:
    """It is no fault of the program, and the worker is soon free for others."""
    form = multipart(('name="iterations"', b"100"), ('name="picture"; filename="x"', GOOD))
    head = HEAD + FORM + f"Content-Length: {len(form)}\r\n\r\n".encode()
    split = urlsplit(address)
    with socket.create_connection((split.hostname, split.port), timeout=10) as connection:
        connection.sendall(head + form)
        time.sleep(0.3)
    await_gone(address, "POST", "/v1/inversions")


def await_gone(address: str, method: str, route: str) -> None:
    """Wait until the service has noticed that the client of a request has gone."""
    wanted = f'hyperstyle_requests_total{{method="{method}",route="{route}",status="499"}}'
    for _ in range(300):
        counted = httpx.get(f"{address}/metrics", timeout=60).text
        if wanted in counted:
            break
        time.sleep(0.1)
    assert wanted in counted
    assert 'status="500"' not in counted


_SWEEP = {"direction": "smile", "frames": 3}
_PAIR = {"first": "{id}", "second": "{id}", "fraction": 0.5}
ANSWERED_BY_WORKERS: dict[str, tuple[str, str, str, Any]] = {
    "a picture": ("GET", "/v1/inversions/{id}/picture", "?format=webp", None),
    "a film": ("POST", "/v1/inversions/{id}/edits", "", {"sweep": _SWEEP, "film": "gif"}),
    "a face between two": ("POST", "/v1/interpolations", "", _PAIR),
}


@pytest.mark.parametrize("name", ANSWERED_BY_WORKERS)
def test_a_client_that_goes_away_gives_up_what_it_asked_for(
    name: str, address: str, service: Any, inversion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, route, query, body = ANSWERED_BY_WORKERS[name]
    tickets: list[Ticket] = []

    def never_begin(job: Job, on_progress: Any) -> Ticket:
        tickets.append(Ticket(job, on_progress))
        return tickets[-1]

    monkeypatch.setattr(service.pool, "submit", never_begin)
    content = json.dumps(body).replace("{id}", inversion).encode() if body else b""
    head = f"{method} {route.replace('{id}', inversion)}{query} HTTP/1.1\r\nHost: localhost\r\n"
    if content:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    split = urlsplit(address)
    with socket.create_connection((split.hostname, split.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"\r\n" + content)
        for _ in range(300):
            if tickets:
                break
            time.sleep(0.1)
        assert tickets
    await_gone(address, method, route)
    assert [ticket.cancelled for ticket in tickets] == [True]
