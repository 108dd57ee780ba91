"""Bundles from a server: whole or not at all, and mended file by file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fetching_server import Asked, Server, fetched
from hyperstyle_rt.errors import BundleError, HyperStyleError
from hyperstyle_rt.fetching import fetch as fetching
from hyperstyle_rt.files import visible_files
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from stand_ins import add_plans


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


def test_a_digest_of_a_bundle_is_refused(
    server: Server, served_bundle: str, tmp_path: Path
) -> None:
    with pytest.raises(HyperStyleError, match="leave out --sha256"):
        fetched(served_bundle, tmp_path, digest="0" * 64)
    assert server.asked == []


def test_damaged_files_of_a_bundle_are_fetched_again(
    server: Server, served_bundle: str, tmp_path: Path
) -> None:
    first = fetched(served_bundle, tmp_path)
    (first.path / "weights.onnx").write_bytes(b"altered here")
    with pytest.raises(HyperStyleError, match="offline"):
        fetched(served_bundle, tmp_path, offline=True)
    server.asked.clear()
    assert fetched(served_bundle, tmp_path) == first
    Bundle.open(first.path).verify()
    asked = [Path(path).name for path, _range in server.asked]
    assert asked == ["manifest.json", "weights.onnx", *fetching.BESIDE]


def test_a_bundle_that_lost_its_manifest_is_fetched_again(
    served_bundle: str, tmp_path: Path
) -> None:
    first = fetched(served_bundle, tmp_path)
    (first.path / "manifest.json").unlink()
    assert fetched(served_bundle, tmp_path) == first
    assert find_bundle("tiny") == first.path


def test_a_bundle_that_was_being_replaced_is_none(served_bundle: str, tmp_path: Path) -> None:
    first = fetched(served_bundle, tmp_path)
    first.path.rename(first.path.with_name(".tiny.old"))
    assert fetched(served_bundle, tmp_path) == first
    assert [path.name for path in first.path.parent.iterdir()] == ["tiny"]


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
