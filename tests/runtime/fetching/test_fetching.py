"""Weights that a user names, from a server of our own: resumed, verified, pinned."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fetching_server import CONTENT, Asked, Server, digest, fetched
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.fetching import fetch as fetching
from hyperstyle_rt.fetching import transfer
from hyperstyle_rt.fetching.fetch import Fetched
from hyperstyle_rt.fetching.sources import HubSource, is_file_name, parse_source
from hyperstyle_rt.formats.bundle_lookup import find_bundle


def test_a_file_is_pinned_and_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    url, user = f"{server.url}/weights.pt", Asked()
    first = fetched(url, tmp_path, user)
    assert first.path.read_bytes() == CONTENT
    assert first.path.name == "weights.pt"
    lock = json.loads((tmp_path / "weights.lock").read_text())
    assert lock["sources"] == {url: {"files": {"weights.pt": digest(CONTENT)}}}
    asked = len(server.asked)
    assert fetched(url, tmp_path, user, offline=True) == first
    assert len(server.asked) == asked
    assert user.licences == [None], "asked once"


def test_what_breaks_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    server.breaks_after = [300_000, 300_000]
    assert fetched(f"{server.url}/weights.pt", tmp_path).path.read_bytes() == CONTENT
    ranges = [wanted for _path, wanted in server.asked]
    assert ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_what_has_changed_meanwhile_begins_anew(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/weights.pt"
    server.files["/weights.pt"] = b"old" * 100_000
    server.breaks_after = [1000] * transfer.ATTEMPTS
    with pytest.raises(HyperStyleError, match="goes on where it broke off"):
        fetched(url, tmp_path)
    server.files["/weights.pt"] = CONTENT
    assert fetched(url, tmp_path).path.read_bytes() == CONTENT


def test_what_ended_at_its_last_byte_begins_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/weights.pt"] = CONTENT
    url = f"{server.url}/weights.pt"

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(transfer.Path, "replace", full)
        with pytest.raises(HyperStyleError, match="No space left"):
            fetched(url, tmp_path)
    assert fetched(url, tmp_path).path.read_bytes() == CONTENT
    assert [wanted for _path, wanted in server.asked] == [None, f"bytes={len(CONTENT)}-", None]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    server.statuses = [503, 429]
    assert fetched(f"{server.url}/weights.pt", tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "says"), [(404, "nothing at"), (403, "login"), (418, "status 418")]
)
def test_refusals_are_told(server: Server, tmp_path: Path, status: int, says: str) -> None:
    server.statuses = [status]
    server.files["/weights.pt"] = CONTENT
    with pytest.raises(HyperStyleError, match=says):
        fetched(f"{server.url}/weights.pt", tmp_path)
    assert not (tmp_path / "weights.lock").exists()


def test_other_bytes_than_pinned_are_refused(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/weights.pt"
    server.files["/weights.pt"] = CONTENT
    path = fetched(url, tmp_path).path
    path.write_bytes(b"altered here")
    server.files["/weights.pt"] = b"altered there"
    with pytest.raises(HyperStyleError, match="--renew"):
        fetched(url, tmp_path)
    assert not path.exists()
    assert fetched(url, tmp_path, renew=True).path.read_bytes() == b"altered there"


def test_a_digest_that_is_named_must_hold(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    url = f"{server.url}/weights.pt"
    with pytest.raises(HyperStyleError, match=digest(CONTENT)):
        fetched(url, tmp_path, digest="0" * 64)
    assert fetched(url, tmp_path, digest=digest(CONTENT)).path.exists()


def test_a_digest_that_is_named_must_be_that_of_the_cache(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    url = f"{server.url}/weights.pt"
    first = fetched(url, tmp_path)
    assert fetched(url, tmp_path, digest=digest(CONTENT), offline=True) == first
    with pytest.raises(HyperStyleError, match="is pinned with"):
        fetched(url, tmp_path, digest=digest(b"published later"))
    assert first.path.exists()
    server.files["/weights.pt"] = b"published later"
    again = fetched(url, tmp_path, digest=digest(b"published later"), renew=True)
    assert again.path.read_bytes() == b"published later"


def test_two_fetches_of_one_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    server.files["/weights.pt"] = CONTENT
    server.answers.clear()

    def get() -> Fetched:
        return fetched(f"{server.url}/weights.pt", tmp_path, on_wait=server.answers.set)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(get), pool.submit(get)
    assert first.result() == second.result()
    assert len(server.asked) == 1


def test_who_does_not_agree_gets_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    with pytest.raises(HyperStyleError, match="not agreed"):
        fetched(f"{server.url}/weights.pt", tmp_path, Asked(agrees=False))
    assert server.asked == []


def test_offline_nothing_is_asked_for(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HyperStyleError, match="offline"):
        fetched(f"{server.url}/weights.pt", tmp_path, offline=True)
    assert server.asked == []


def test_a_directory_and_a_file_of_this_machine(tmp_path: Path, tiny_bundle: Path) -> None:
    assert fetched(str(tiny_bundle), tmp_path).path == find_bundle("tiny")
    file = tmp_path / "hyperstyle.pt"
    file.write_bytes(CONTENT)
    assert fetched(str(file), tmp_path).path == file
    file.write_bytes(b"altered")
    with pytest.raises(HyperStyleError, match="SHA-256"):
        fetched(str(file), tmp_path)
    assert file.exists(), "a user's own file is never removed"


def test_redirects_stay_on_encrypted_connections(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    server.redirects["/there"] = f"{server.url}/weights.pt"
    assert fetched(f"{server.url}/there", tmp_path).path.read_bytes() == CONTENT
    server.redirects["/away"] = "http://example.org/weights.pt"
    with pytest.raises(HyperStyleError, match="https"):
        fetched(f"{server.url}/away", tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://example.org/weights.pt", "https"),
        ("ftp://example.org/weights.pt", "https"),
        ("file:///etc/passwd", "https"),
        ("https://me:secret@example.org/w.pt", "password"),
        ("https://example.org", "names no file"),
        ("https://example.org/..%2f..%2fetc%2fpasswd", "names no file"),
        ("https://[bad/w.pt", "no address"),
        ("hf:someone", "names no repository"),
        ("hf:someone/it/../../x", "names no repository"),
        ("nowhere.pt", "there is no"),
    ],
)
def test_sources_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(HyperStyleError, match=says):
        parse_source(text)


def test_sources_of_the_hub() -> None:
    assert parse_source("hf:a/b") == HubSource("a/b", None, None)
    assert parse_source("hf:a/b@v1.0/c/d.pt") == HubSource("a/b", "v1.0", "c/d.pt")


NO_NAMES = ("", ".", "..", "a/b", "a\\b", "nul\0", ".hidden", "x" * 300, "a ")


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_none(name: str) -> None:
    assert not is_file_name(name)


def test_nothing_is_more_than_can_be_right(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_FILE", 1000)
    server.files["/weights.pt"] = CONTENT
    with pytest.raises(HyperStyleError, match="more than can be right"):
        fetched(f"{server.url}/weights.pt", tmp_path)
