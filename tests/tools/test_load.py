"""The load test of the service, against a service that only waits."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: the tool makes sockets and clocks those of gevent.
PROGRAM = """
import json, threading, time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
from serving.load import Load, Run, table

statuses = iter([201, 500, 201, 201])

class Waiting(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        status = next(statuses)
        time.sleep(0.3 if status == 201 else 1.5)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Waiting)
threading.Thread(target=server.serve_forever, daemon=True).start()
run = Load(psutil.Process(), 4, 1, False, {}).run(f"http://127.0.0.1:{server.server_port}")
print(json.dumps(asdict(run)))
print(table([Run(1, failed=5), run]))
"""


@pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="wants the extra `load`")
def test_figures_are_of_what_was_done_from_the_start_on() -> None:
    """The rate was counted from the first answer on, and failures were among the waiting times."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    figures, _, _, nothing, something = ran.stdout.splitlines()
    found = json.loads(figures)
    assert (found["done"], found["failed"]) == (3, 1) and found["problems"] == ["500: "]
    assert found["per_second"] <= 3 / (3 * 0.3 + 1.5)
    assert 300 <= found["median_ms"] <= found["p95_ms"] < 1500
    assert nothing == "| 1 | 0 | 5 | 0 | - | - | - | - |"
    assert something.startswith("| 1 | 3 | 1 | 0 | ")


@pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="wants the extra `load`")
@pytest.mark.parametrize("words", [("--concurrency", "1,x"), ("--out", "/proc/version/load.json")])
def test_mistakes_are_told_before_a_service_is_started(words: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "serving.load", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path("/"))
    assert ran.returncode == 2 and "Traceback" not in ran.stderr and ran.stdout == ""
