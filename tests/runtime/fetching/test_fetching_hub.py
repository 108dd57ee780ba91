"""Repositories of Hugging Face, by a stand-in of its library."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fetching_server import Asked, digest, fetched
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle


@pytest.fixture
def _hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path) -> None:
    """A stand-in of Hugging Face's library, which keeps files by their digests."""

    class EntryNotFoundError(Exception): ...

    def hf_hub_download(name: str, file: str, **options: Any) -> str:
        assert (name, options["revision"]) == ("someone/tiny", "abc123")
        if not (tiny_bundle / file).exists():
            raise EntryNotFoundError
        content = (tiny_bundle / file).read_bytes()
        blob = tmp_path / "blobs" / digest(content)
        blob.parent.mkdir(exist_ok=True)
        if options["force_download"] or not blob.exists():
            blob.unlink(missing_ok=True)
            blob.write_bytes(content)
        return str(blob)

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


@pytest.mark.usefixtures("_hub")
def test_a_repository_of_the_hub(tmp_path: Path) -> None:
    user = Asked()
    got = fetched("hf:someone/tiny", tmp_path, user)
    assert (got.name, got.pinned.revision, user.licences) == ("tiny", "abc123", ["cc-by-nc-4.0"])
    assert find_bundle("tiny") == got.path


@pytest.mark.usefixtures("_hub")
def test_damage_to_what_the_library_keeps_is_mended(tmp_path: Path) -> None:
    first = fetched("hf:someone/tiny", tmp_path)
    (first.path / "weights.onnx").write_bytes(b"altered here, and there by the link")
    assert fetched("hf:someone/tiny", tmp_path) == first
    Bundle.open(first.path).verify()
