"""The service on Ray Serve: the same API, and what a replica takes with it when it dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hyperstyle_rt import Inversion, Model

pytest.importorskip("ray", reason="the extra `ray-serve` is not installed")
pytest.importorskip("ray.serve", reason="the extra `ray-serve` is not installed")

from ray_runs import ENVIRONMENT, processes

httpx = pytest.importorskip("httpx", reason="the test client of the service")

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = "portraits"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = {"bundle": BUNDLE, "backend": "cpu", "workers": 2, "least_workers": 2}
    program = Path(__file__).with_name("serve_program.py")
    process = subprocess.Popen(
        [sys.executable, program, str(port), json.dumps(arguments)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any(line.strip() == "ready" for line in process.stdout)
        yield f"http://127.0.0.1:{port}"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with httpx.Client(base_url=url, timeout=120) as opened:
        deadline = time.monotonic() + 120
        while opened.get("/health").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield opened


def invert(client: Any, number: int = 0, iterations: int = 1) -> Any:
    content = (ROOT / "examples" / f"portrait_{number}.png").read_bytes()
    return client.post(
        "/v1/inversions",
        files={"picture": ("a.png", content)},
        data={"iterations": iterations, "then": "none"},
    )


def test_it_is_the_service_of_one_machine(client: Any) -> None:
    from fastapi.testclient import TestClient
    from hyperstyle_rt.formats.bundle_lookup import find_bundle
    from hyperstyle_rt.serving.http import create_app
    from hyperstyle_rt.serving.service import Service
    from hyperstyle_rt.serving.settings import ModelSettings, ServiceSettings

    settings = ServiceSettings(model=ModelSettings(bundle=find_bundle(BUNDLE)))
    alone = TestClient(create_app(Service(settings)), base_url="http://localhost")
    assert client.get("/openapi.json").json() == alone.get("/openapi.json").json()
    assert client.get("/").text == alone.get("/").text

    answer = invert(client, iterations=2)
    assert answer.status_code in (200, 201), answer.text
    id = answer.json()["id"]
    with Model.load(BUNDLE, "cpu", threads=1) as model:
        expected = model.invert(ROOT / "examples" / "portrait_0.png", 2)
    made = Inversion.from_bytes(client.get(f"/v1/inversions/{id}/file").content)
    assert made.latents.tobytes() == expected.latents.tobytes()
    assert made.codes is not None and expected.codes is not None
    assert made.codes.tobytes() == expected.codes.tobytes()
    events = client.get(f"/v1/inversions/{id}/events").text
    assert "iteration" in events
    edited = client.post(f"/v1/inversions/{id}/edits", json={"amounts": {"smile": 2}})
    assert edited.status_code == 200 and edited.headers["content-type"] == "image/png"
    refused = client.post(f"/v1/inversions/{id}/edits", json={"amounts": {"grin": 2}})
    assert refused.status_code == 422 and "grin" in refused.json()["detail"]
    assert invert(client, iterations=1000).status_code == 422


@pytest.mark.slow
def test_a_replica_that_is_killed_takes_only_its_own_requests(client: Any, url: str) -> None:
    id = invert(client).json()["id"]

    def ask(number: int) -> tuple[int, str | None]:
        with httpx.Client(base_url=url, timeout=120) as own:
            if number % 3:
                answer = own.post(f"/v1/inversions/{id}/edits", json={"amounts": {"smile": 1}})
            else:
                answer = invert(own, number % 2)
            return answer.status_code, answer.headers.get("retry-after")

    workers = processes("ServeReplica:hyperstyle-rt:Worker")
    assert len(workers) == 2
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, number) for number in range(60)]
        while sum(each.done() for each in answers) < 15:
            time.sleep(0.02)
        os.kill(workers[0], signal.SIGKILL)
        found = [each.result() for each in answers]
    lost = [each for each in found if each[0] >= 400]
    print(f"{len(lost)} of {len(found)} requests were lost")
    assert len(lost) <= 2  # one job a replica
    assert all(status >= 500 and retry is not None for status, retry in lost)
    deadline = time.monotonic() + 120
    while len(processes("ServeReplica:hyperstyle-rt:Worker")) < 2:
        assert time.monotonic() < deadline, "the replica is not replaced"
        time.sleep(0.2)
    assert invert(client).status_code in (200, 201)
