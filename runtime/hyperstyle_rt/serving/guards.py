"""What stands before the routes of a service: token, origin, size and pace of bodies, headers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from .headers import HEADERS
from .settings import Access, Limits, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Count = Callable[[str, str, int], None]
"""Counts a request: the pattern of its route, its method, its status."""

GUARDED = ("/v1", "/metrics", "/openapi.json", "/docs")
"""Paths below which a token is asked for; the page's own files and ``/health`` tell nothing."""


class Guard:
    """Refuses requests before a route sees them, and sets headers of all responses.

    - 401: the token is missing or wrong;
    - 403: a script of another web site asks, or the host's name is not ours: a page elsewhere must
      not use a service that listens on the visitor's machine, whatever name it has for it; or it
      came to an address that others reach, where the service was not set up for these (who listens
      may be told that elsewhere, as Ray Serve is);
    - 408: the body comes too slowly;
    - 413: it is too large.
    """

    def __init__(self, app: App, access: Access, limits: Limits, count: Count) -> None:
        self._app = app
        self._count = count
        self._access = access
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._count(route, scope["method"], message["status"])
                message["headers"] = [*message.get("headers", ()), *_security_headers(scope)]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, _Body(receive, self._limits).receive, sending)
        else:
            refusal.headers["connection"] = "close"  # what is left of the body is not read
            await refusal(scope, receive, sending)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        host = headers.get("host", b"").decode("latin-1")
        server = scope.get("server")  # address and port that the connection has come to
        if self._access.is_local and server and not is_loopback(server[0]):
            return _refuse(
                403,
                f"this service was set up for this machine alone, and others reach {server[0]}; "
                "set it up for these, with a token",
            )
        if self._access.is_local and not _is_local_name(host):
            return _refuse(403, f"this service answers to localhost, not to {host!r}")
        origin = headers.get("origin", b"").decode("latin-1")
        if origin and not self._allows_origin(origin, host):
            return _refuse(403, f"scripts of {origin} may not use this service")
        if self._access.token is not None and _path_of(scope).startswith(GUARDED):
            wanted = f"Bearer {self._access.token}".encode()
            if not secrets.compare_digest(headers.get("authorization", b""), wanted):
                refusal = _refuse(401, "give the token: Authorization: Bearer TOKEN")
                refusal.headers["www-authenticate"] = "Bearer"
                return refusal
        length = headers.get("content-length", b"0")
        if not length.isdigit() or len(length) > 18:
            return _refuse(400, "the length of the body is not a number")
        if int(length) > self._limits.body_bytes:
            return _refuse(413, too_large(self._limits))
        return None

    def _allows_origin(self, origin: str, host: str) -> bool:
        split = _split(origin)
        ours = split is not None and split.netloc == host
        return ours or origin in self._access.origins


def too_large(limits: Limits) -> str:
    """The sentence for a body that is too large."""
    return f"the request is larger than {limits.body_bytes >> 20} MiB; send a smaller picture"


class _Body:
    """Counts what comes of a body, and the time it takes."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._left = limits.body_bytes
        self._until: float | None = None
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what comes now is that the client has gone
            return await self._receive()
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + self._limits.body_seconds
        try:
            message = await asyncio.wait_for(self._receive(), max(0.001, self._until - now))
        except asyncio.TimeoutError:
            raise HTTPException(
                408, "the request takes too long to arrive; send it again"
            ) from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, too_large(self._limits))
        self._complete = not message.get("more_body", False)
        return message


def _security_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    headers = dict(HEADERS)
    if _path_of(scope).startswith("/v1"):
        headers["cache-control"] = "no-store"  # people's faces
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _path_of(scope: Scope) -> str:
    """The path as routes see it: without a prefix that the whole application stands under."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def _is_local_name(host: str) -> bool:
    split = _split(f"//{host}")
    return split is not None and is_loopback(split.hostname or "")


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None where it is none, such as ``http://[``."""
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _refuse(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status)
