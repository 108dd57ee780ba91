"""``hyperstyle-rt serve --static``: what the folder holds, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from attacks import manifests
from command_line import files, refuse
from hyperstyle_rt.errors import BackendError, BundleError, HyperStyleError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.photos.face_models import MODEL_DIGESTS
from hyperstyle_rt.serving.static_page import (
    RUNTIME_FILES,
    find_onnxruntime_web,
    wanted_version,
    web_package,
    write_static_page,
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A stand-in of the npm package onnxruntime-web."""
    folder = tmp_path / "node_modules" / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in RUNTIME_FILES:
        (folder / "dist" / name).write_text(name)
    (folder / "package.json").write_text(json.dumps({"version": wanted_version()}))
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return Bundle.open(manifests.write_bundle(tmp_path / "tiny"))


def test_the_folder_has_all_that_its_modules_import(
    tmp_path: Path, tiny: Bundle, package: Path
) -> None:
    site = tmp_path / "site"
    write_static_page(site, [tiny], package)
    assert json.loads((site / "bundles.json").read_text()) == ["tiny"]
    imported = 0
    for module in [*site.glob("*.js"), *(site / "engine").rglob("*.js")]:
        text = module.read_text("utf-8")
        for target in re.findall(r'^(?:import|export) .*?from "([^"]+)";$', text, re.M | re.S):
            if not target.startswith("node:"):
                assert (module.parent / target).is_file(), f"{module}: {target}"
                imported += 1
    assert imported > 50
    assert {path.name for path in (site / "onnxruntime-web").iterdir()} >= set(RUNTIME_FILES)
    assert (site / "engine" / "worker.js").is_file()
    assert not (site / "server.js").exists()
    for name in MODEL_DIGESTS:
        assert (site / "models" / name).is_file()
    for name in (*manifests.CONTENTS, "manifest.json"):
        copied = (site / "bundles" / "tiny" / name).read_bytes()
        assert copied == (tiny.directory / name).read_bytes()


def test_the_folder_says_that_nothing_comes_from_or_goes_elsewhere(
    tmp_path: Path, tiny: Bundle, package: Path
) -> None:
    write_static_page(tmp_path / "site", [tiny], package)
    page = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "connect-src 'self'" in page
    assert page.index("Content-Security-Policy") < page.index("stylesheet")
    headers = (tmp_path / "site" / "_headers").read_text("utf-8")
    assert "cross-origin-embedder-policy: require-corp" in headers


def test_the_face_models_of_the_page_are_those_of_this_release() -> None:
    text = (web_package() / "src" / "photos" / "face_models.js").read_text("utf-8")
    assert dict(re.findall(r'\["(\w+\.onnx)", "([0-9a-f]{64})"\]', text)) == MODEL_DIGESTS


def test_onnxruntime_web_is_looked_for_in_the_folders_above(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "here" / "below"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_onnxruntime_web() == package / "dist"


def test_a_package_of_another_version_or_without_a_file_is_refused(package: Path) -> None:
    (package / "package.json").write_text('{"version": "1.0.0"}')
    with pytest.raises(BackendError, match=r"is version 1\.0\.0 .* npm install onnxruntime-web@"):
        find_onnxruntime_web(package)
    for damaged in ("[]", "{", "{}", None):
        (package / "package.json").unlink()
        if damaged is not None:
            (package / "package.json").write_text(damaged)
        with pytest.raises(BackendError, match=r"has no package\.json .* npm install"):
            find_onnxruntime_web(package)
    (package / "dist" / RUNTIME_FILES[2]).unlink()
    with pytest.raises(BackendError, match=rf"has no dist/{RUNTIME_FILES[2]}"):
        find_onnxruntime_web(package)


def test_nothing_is_written_where_something_is_wrong(
    tmp_path: Path, tiny: Bundle, package: Path
) -> None:
    site = tmp_path / "site"
    with pytest.raises(BundleError, match="two bundles are named 'tiny'"):
        write_static_page(site, [tiny, tiny], package)
    (tiny.directory / "generator.onnx").write_bytes(b"another generator")
    with pytest.raises(BundleError, match=r"generator\.onnx"):
        write_static_page(site, [tiny], package)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("site", "."))]
    site.mkdir()
    (site / "notes").write_text("mine")
    with pytest.raises(HyperStyleError, match="holds files; name a new folder"):
        write_static_page(site, [tiny], package)
    assert (site / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--also", "portraits"), "--also goes with --static; add --static DIR"),
        (("--onnxruntime-web", "x"), "--onnxruntime-web goes with --static; add --static DIR"),
        (("--static", "site", "--store", "x"), "--store is the service's"),
        (("--static", "site", "--adapted", "x"), "--adapted is the service's"),
        (("--static", "site", "--origin", "https://a.example"), "--origin is the service's"),
        (("--static", "site", "--port", 0), "--port is the service's"),
        (("--static", "site", "--backend", "cuda"), "--backend is the service's"),
        (("--static", "site", "--workers", 2), "--workers is the service's"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: tuple[object, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refuse("serve", *options).startswith(says)
    assert files() == set()
