"""A server of our own, a bundle on it, and a cache of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fetching_server import Server
from hyperstyle_rt.fetching import transfer


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYPERSTYLE_RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer.time, "sleep", lambda _seconds: None)


@pytest.fixture
def served_bundle(server: Server, tiny_bundle: Path) -> str:
    for path in tiny_bundle.iterdir():
        server.files[f"/engines/tiny/{path.name}"] = path.read_bytes()
    server.files["/engines/tiny/LICENSE"] = b"As you like it.\n"
    return f"{server.url}/engines/tiny/manifest.json"
