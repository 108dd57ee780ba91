"""The lock file: damaged ones, and pins of fetches at once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fetching_server import CONTENT, Server, fetched
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.fetching import lock as lock_file
from hyperstyle_rt.fetching.lock import Lock, Pinned


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"format": "x"}', '{"format": "hyperstyle-rt-lock", "version": "9"}'],
)
def test_damaged_lock_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.lock"
    path.write_text(text)
    with pytest.raises(HyperStyleError, match="lock file"):
        Lock.read(path)


@pytest.mark.parametrize("files", [{}, {"weights.pt": "0" * 64, "other.pt": "0" * 64}])
def test_the_lock_file_has_one_file_of_a_file(
    server: Server, tmp_path: Path, files: dict[str, str]
) -> None:
    server.files["/weights.pt"] = CONTENT
    url = f"{server.url}/weights.pt"
    Lock(tmp_path / "weights.lock").pin(url, Pinned(files))
    with pytest.raises(HyperStyleError, match=r"lock file .* has not the one file"):
        fetched(url, tmp_path)
    fetched(url, tmp_path, renew=True)
    assert set(fetched(url, tmp_path, offline=True).pinned.files) == {"weights.pt"}


@pytest.mark.parametrize("name", ["", "..", "../../weights.pt", "/weights.pt", "tensorrt//x"])
def test_names_in_a_lock_file_stay_in_the_cache(tmp_path: Path, name: str) -> None:
    path = tmp_path / "weights.lock"
    sources = {"https://example.org/weights.pt": {"files": {name: "0" * 64}}}
    document = {"format": "hyperstyle-rt-lock", "version": "1", "sources": sources}
    path.write_text(json.dumps(document))
    with pytest.raises(HyperStyleError, match=r"lock file .* names a file"):
        Lock.read(path)


def test_two_fetches_at_once_lose_no_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    path, pinned = tmp_path / "weights.lock", Pinned({"weights.pt": "0" * 64})
    first, second = Lock.read(path), Lock.read(path)
    other = threading.Thread(target=second.pin, args=("second", pinned))
    write = lock_file.write_atomically

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(lock_file, "write_atomically", write)
        other.start()
        other.join(0.2)  # it waits for the first to be done
        write(*arguments)

    monkeypatch.setattr(lock_file, "write_atomically", meanwhile)
    first.pin("first", pinned)
    other.join()
    assert set(Lock.read(path).pinned) == {"first", "second"}
