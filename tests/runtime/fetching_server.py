"""A server of files that behaves as told, and a user who fetches."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hyperstyle_rt.fetching.fetch import Fetched, Options, fetch
from hyperstyle_rt.fetching.lock import Lock

CONTENT = bytes(range(256)) * 4096  # a mebibyte


class Server:
    """Files by their paths, and how the server behaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.breaks_after: list[int] = []  # bytes, one for each answer
        self.statuses: list[int] = []  # one for each answer
        self.missing = 404  # status of what is not there
        self.answers = threading.Event()  # not before
        self.answers.set()
        self.asked: list[tuple[str, str | None]] = []  # path and range
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        self.answers.wait(20)
        if request.path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[request.path])
            request.end_headers()
            return
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200 or request.path not in self.files:
            request.send_error(status if status != 200 else self.missing)
            return
        content = self.files[request.path]
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        start = 0
        if wanted and request.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        end = start + self.breaks_after.pop(0) if self.breaks_after else None
        request.wfile.write(content[start:end])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Asked:
    """A user who agrees or not, and is asked how often."""

    def __init__(self, agrees: bool = True) -> None:
        self._agrees = agrees
        self.licences: list[str | None] = []

    def __call__(self, licence: str | None) -> bool:
        self.licences.append(licence)
        return self._agrees


def fetched(text: str, tmp_path: Path, agrees: Asked | None = None, **options: Any) -> Fetched:
    lock = Lock.read(tmp_path / "weights.lock")
    wanted = Options(agrees or Asked(), lambda _name: lambda _here, _total: None, **options)
    return fetch(text, lock, wanted)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
