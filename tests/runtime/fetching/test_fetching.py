"""Weights that a user names, from a server of our own: resumed, verified, pinned."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hyperstyle_rt.errors import BundleError, HyperStyleError
from hyperstyle_rt.fetching import fetch as fetching
from hyperstyle_rt.fetching import transfer
from hyperstyle_rt.fetching.fetch import Fetched, Options, fetch
from hyperstyle_rt.fetching.lock import Lock
from hyperstyle_rt.fetching.sources import HubSource, is_file_name, parse_source
from hyperstyle_rt.files import visible_files
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from stand_ins import add_plans

CONTENT = bytes(range(256)) * 4096  # a mebibyte


class Server:
    """Files by their paths, and how the server behaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.breaks_after: list[int] = []  # bytes, one for each answer
        self.statuses: list[int] = []  # one for each answer
        self.missing = 404  # status of what is not there
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


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYPERSTYLE_RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer.time, "sleep", lambda _seconds: None)


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


def test_who_does_not_agree_gets_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/weights.pt"] = CONTENT
    with pytest.raises(HyperStyleError, match="not agreed"):
        fetched(f"{server.url}/weights.pt", tmp_path, Asked(agrees=False))
    assert server.asked == []


def test_offline_nothing_is_asked_for(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HyperStyleError, match="offline"):
        fetched(f"{server.url}/weights.pt", tmp_path, offline=True)
    assert server.asked == []


@pytest.fixture
def served_bundle(server: Server, tiny_bundle: Path) -> str:
    for path in tiny_bundle.iterdir():
        server.files[f"/engines/tiny/{path.name}"] = path.read_bytes()
    server.files["/engines/tiny/LICENSE"] = b"As you like it.\n"
    return f"{server.url}/engines/tiny/manifest.json"


def test_a_bundle_is_found_by_its_name(
    server: Server, served_bundle: str, tmp_path: Path, tiny_bundle: Path
) -> None:
    user = Asked()
    got = fetched(served_bundle, tmp_path, user)
    assert (got.name, user.licences) == ("tiny", ["MIT"])
    assert find_bundle("tiny") == got.path
    assert Bundle.open(got.path).digest == Bundle.open(tiny_bundle).digest
    assert (got.path / "LICENSE").read_text() == "As you like it.\n"
    assert fetched(served_bundle, tmp_path, offline=True).path == got.path


def test_a_bundle_goes_on_where_it_broke_off(
    server: Server, served_bundle: str, tmp_path: Path
) -> None:
    kept = server.files.pop("/engines/tiny/weights.onnx")
    with pytest.raises(HyperStyleError, match="nothing at"):
        fetched(served_bundle, tmp_path)
    with pytest.raises(BundleError):
        find_bundle("tiny")
    server.files["/engines/tiny/weights.onnx"] = kept
    server.asked.clear()
    fetched(served_bundle, tmp_path)
    assert [path for path, _range in server.asked if path.endswith("encoder.onnx")] == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_store_that_lists_no_files_asks_for_a_login(
    server: Server, served_bundle: str, tmp_path: Path, status: int
) -> None:
    server.missing = status
    kept = server.files.pop("/engines/tiny/weights.onnx")
    with pytest.raises(HyperStyleError, match=r"weights\.onnx asks for a login"):
        fetched(served_bundle, tmp_path)
    server.files["/engines/tiny/weights.onnx"] = kept
    path = fetched(served_bundle, tmp_path).path
    assert [(path / name).exists() for name in fetching.BESIDE] == [True, False, False]


def test_plans_of_a_bundle_come_with_it(server: Server, tmp_path: Path, tiny_bundle: Path) -> None:
    planned = add_plans(Path(shutil.copytree(tiny_bundle, tmp_path / "planned")))
    for path in visible_files(planned):
        server.files[f"/{path.relative_to(tmp_path).as_posix()}"] = path.read_bytes()
    got = fetched(f"{server.url}/planned/", tmp_path)
    ((key, plans),) = Bundle.open(planned).manifest.plans.items()
    for name, plan in plans.items():
        assert (got.path / "tensorrt" / key / name).is_file()
        assert got.pinned.files[f"tensorrt/{key}/{name}"] == plan.sha256
    assert fetched(f"{server.url}/planned/", tmp_path, offline=True) == got


def test_leftovers_of_an_earlier_try_come_into_no_bundle(
    server: Server, served_bundle: str, tmp_path: Path
) -> None:
    kept = server.files.pop("/engines/tiny/weights.onnx")
    with pytest.raises(HyperStyleError, match="nothing at"):
        fetched(served_bundle, tmp_path)
    (folder,) = (tmp_path / "cache" / "incoming").iterdir()
    (folder / "encoder.onnx.data").write_bytes(b"of an encoder that was there before")
    (folder / "NOTICE").write_bytes(b"likewise")
    server.files["/engines/tiny/weights.onnx"] = kept
    path = fetched(served_bundle, tmp_path).path
    assert not (path / "encoder.onnx.data").exists()
    assert not (path / "NOTICE").exists()


def test_an_altered_bundle_is_refused(server: Server, served_bundle: str, tmp_path: Path) -> None:
    at = "/engines/tiny/weights.onnx"
    server.files[at] = server.files[at][:-1] + b"!"
    with pytest.raises(BundleError, match=r"weights\.onnx"):
        fetched(served_bundle, tmp_path)
    with pytest.raises(BundleError):
        find_bundle("tiny")


def test_another_bundle_of_the_name_replaces_none(
    server: Server, served_bundle: str, tmp_path: Path
) -> None:
    first = fetched(served_bundle, tmp_path).path
    for name, content in list(server.files.items()):
        server.files[name.replace("tiny", "other")] = content
    manifest = json.loads(server.files["/engines/tiny/manifest.json"])
    manifest["domain"] = "cats"
    server.files["/engines/other/manifest.json"] = json.dumps(manifest).encode()
    other = f"{server.url}/engines/other/"
    with pytest.raises(HyperStyleError, match="another bundle 'tiny'"):
        fetched(other, tmp_path)
    assert Bundle.open(first).manifest.domain == "noise"
    fetched(other, tmp_path, renew=True)
    assert Bundle.open(first).manifest.domain == "cats"


def test_a_directory_and_a_file_of_this_machine(tmp_path: Path, tiny_bundle: Path) -> None:
    assert fetched(str(tiny_bundle), tmp_path).path == find_bundle("tiny")
    file = tmp_path / "hyperstyle.pt"
    file.write_bytes(CONTENT)
    assert fetched(str(file), tmp_path).path == file
    file.write_bytes(b"altered")
    with pytest.raises(HyperStyleError, match="SHA-256"):
        fetched(str(file), tmp_path)
    assert file.exists(), "a user's own file is never removed"


def test_a_repository_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny_bundle, repository)

    class EntryNotFoundError(Exception): ...

    def hf_hub_download(name: str, file: str, **options: Any) -> str:
        assert (name, options["revision"]) == ("someone/tiny", "abc123")
        if not (repository / file).exists():
            raise EntryNotFoundError
        return str(repository / file)

    names = ("GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError", "HfHubHTTPError")
    errors = SimpleNamespace(
        EntryNotFoundError=EntryNotFoundError,
        **{name: type(name, (Exception,), {}) for name in names},
    )
    info = SimpleNamespace(sha="abc123", card_data=SimpleNamespace(license="cc-by-nc-4.0"))
    stand_in = SimpleNamespace(
        errors=errors, hf_hub_download=hf_hub_download, model_info=lambda *_a, **_k: info
    )
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", stand_in)
    user = Asked()
    got = fetched("hf:someone/tiny", tmp_path, user)
    assert (got.name, got.pinned.revision, user.licences) == ("tiny", "abc123", ["cc-by-nc-4.0"])
    assert find_bundle("tiny") == got.path


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


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"format": "x"}', '{"format": "hyperstyle-rt-lock", "version": "9"}'],
)
def test_damaged_lock_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.lock"
    path.write_text(text)
    with pytest.raises(HyperStyleError, match="lock file"):
        Lock.read(path)


def test_nothing_is_more_than_can_be_right(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_FILE", 1000)
    server.files["/weights.pt"] = CONTENT
    with pytest.raises(HyperStyleError, match="more than can be right"):
        fetched(f"{server.url}/weights.pt", tmp_path)
