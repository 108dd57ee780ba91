"""A file from the web: resumed where it broke off, and never taken for whole before it is."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..errors import HyperStyleError
from ..files import make_directory, reason
from .sources import check_address

OnBytes = Callable[[int, int | None], Any]
"""Called with (bytes that are here, bytes in all or None)."""

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5
_AT_ONCE = 1 << 18
_PART, _NOTE = ".part", ".part.json"


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to addresses only that could be named in the first place."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_open = build_opener(_Redirects).open


class NotThere(HyperStyleError):
    """The server has no such file."""


class AsksForLogin(HyperStyleError):
    """The server gives the file to some only, or has none and does not say so."""


def download(url: str, path: Path, limit: int, on_bytes: OnBytes, pause: float = 1.0) -> None:
    """Fetch a file, going on with what an earlier try has left beside its name.

    Parameters
    ----------
    path:
        Replaced when all is here.
    limit:
        Bytes at most.
    pause:
        Seconds before the second try; each further one waits twice as long.

    Raises
    ------
    NotThere
        If the server has no such file.
    AsksForLogin
        If it gives it to some only.
    HyperStyleError
        If it cannot be fetched or written. What has come stays for the next time.
    """
    make_directory(path.parent, HyperStyleError)
    for attempt in range(ATTEMPTS):
        try:
            _fetch(url, path, limit, on_bytes)
            return
        except (HTTPException, URLError, TimeoutError, ConnectionError) as error:
            if isinstance(error, HTTPError) and error.code < 500 and error.code != 429:
                raise _refused(url, error) from None
            if attempt + 1 == ATTEMPTS:
                raise HyperStyleError(
                    f"cannot fetch {url} ({_why(error)}); try again: it goes on where it broke off"
                ) from None
            time.sleep(pause * 2**attempt)
        except OSError as error:
            raise HyperStyleError(f"cannot write {path}: {reason(error)}") from None


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file of ours a second place, where it takes no space if the file system can do that.

    Raises
    ------
    HyperStyleError
        If it can neither be linked nor copied.
    """
    make_directory(path.parent, HyperStyleError)
    try:
        path.unlink(missing_ok=True)
        try:
            os.link(source.resolve(), path)
        except OSError:
            shutil.copyfile(source, path)
    except OSError as error:
        raise HyperStyleError(f"cannot copy {source}: {reason(error)}") from None


def _fetch(url: str, path: Path, limit: int, on_bytes: OnBytes) -> None:
    part, note = path.with_name(path.name + _PART), path.with_name(path.name + _NOTE)
    have, validator = _earlier(url, part, note)
    with _asked(url, have, validator) as answer:
        if answer.status != 206:
            have = 0
            _write_note(url, note, answer.headers)
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdigit() else None
        if (total or 0) > limit:
            raise HyperStyleError(f"{url} has {total:,} bytes, more than can be right")
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while block := answer.read(_AT_ONCE):
                have += len(block)
                if have > limit:
                    raise HyperStyleError(f"{url} has more than {limit:,} bytes")
                file.write(block)
                on_bytes(have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise ConnectionError("the connection ended early")
    part.replace(path)
    with suppress(OSError):
        note.unlink()


def _asked(url: str, have: int, validator: str | None) -> Any:
    """The server's answer: what is behind the bytes that are here, else the whole file."""
    request = Request(url, headers={"User-Agent": "hyperstyle-rt", "Accept-Encoding": "identity"})
    if not (have and validator):
        return _open(request, timeout=TIMEOUT)
    request.add_header("Range", f"bytes={have}-")
    request.add_header("If-Range", validator)  # the whole file, if it has changed since
    try:
        return _open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            raise
    return _asked(url, 0, None)  # nothing is behind them: an earlier try ended at its last byte


def _earlier(url: str, part: Path, note: Path) -> tuple[int, str | None]:
    """How much an earlier try has left, and what tells whether the file is still the same."""
    try:
        noted = json.loads(note.read_bytes())
        if noted["url"] == url and isinstance(noted["validator"], str):
            return part.stat().st_size, noted["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, None


def _write_note(url: str, note: Path, headers: Message) -> None:
    validator = headers.get("ETag") or headers.get("Last-Modified")
    if validator is not None and validator.startswith("W/"):
        validator = headers.get("Last-Modified")  # a weak tag says nothing of bytes
    note.write_text(json.dumps({"url": url, "validator": validator}), "ascii")


def _refused(url: str, error: HTTPError) -> HyperStyleError:
    if error.code in (404, 410):
        return NotThere(f"there is nothing at {url}; copy the address again")
    if error.code in (401, 403):
        return AsksForLogin(f"{url} asks for a login; fetch it in a browser and give its path")
    return HyperStyleError(f"{url} was refused with status {error.code}")


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
