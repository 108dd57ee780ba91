"""Services that run beside a test: where they listen, when they are ready, and what they invert."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0  # seconds until a service must answer
TOKEN = "0123456789abcdef-token"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def await_health(port: int, process: subprocess.Popen[Any]) -> str:
    """Wait until a service answers: its address.

    Raises
    ------
    AssertionError
        If its process ends, or it does not answer in time.
    """
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"the service has ended with {process.returncode}"
        try:
            with urlopen(f"{address}/health") as answer:
                assert answer.status == 200
                return address
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the service does not answer")


def invert(address: str, token: str | None = None) -> dict[str, Any]:
    """Send ``examples/portrait_0.png`` as a form: what the service says of the inversion.

    Raises
    ------
    urllib.error.HTTPError
        If it refuses.
    """
    content = (ROOT / "examples" / "portrait_0.png").read_bytes()
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="p"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = head + content + b"\r\n--x--\r\n"
    with urlopen(Request(f"{address}/v1/inversions", body, headers)) as answer:
        said: dict[str, Any] = json.load(answer)
    return said
