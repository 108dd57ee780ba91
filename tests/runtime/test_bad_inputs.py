"""Bad input through the command line: handled right, or one sentence and exit code 2.

Pictures, bundles and inversion files each have a table of their own (pictures.py, attacks/); here
one row of every kind goes the whole way a user goes, and nothing may be left behind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import files, refuse, run, write_face
from hyperstyle_rt import Model
from hyperstyle_rt.formats.tensors import parse, serialize
from hyperstyle_rt.imaging.pictures import read_picture
from pictures import BAD_PICTURES, ODD_PICTURES


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_pictures(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    path = BAD_PICTURES[name](tmp_path)
    before = files()
    assert path.name in refuse("invert", path, "--bundle", tiny_bundle, "--save-inversion")
    assert files() == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD_PICTURES)
def test_odd_pictures(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """The result is that of the pixels that the file stands for."""
    path, pixels = ODD_PICTURES[name](tmp_path)
    options = ("--bundle", tiny_bundle, "--backend", "cpu", "--threads", 1)
    result = run("invert", path, *options, "-n", 1, "-o", "out.png")
    assert result.exit_code == 0, result.output
    expected = Model.load(tiny_bundle, "cpu", threads=1).invert(np.ascontiguousarray(pixels), 1)
    difference = np.abs(read_picture("out.png").astype(int) - expected.image)
    assert difference.max() <= (3 if path.suffix == ".jpg" else 0)  # two decoders


def _edit(**changes: object) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        (bundle / "manifest.json").write_text(json.dumps(manifest | changes))

    return change


def _wrong_digest(bundle: Path) -> None:
    with (bundle / "generator.onnx").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")


def _other_file_name(name: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["files"][name] = manifest["files"].pop("generator.onnx")
        manifest["graphs"]["generator"]["file"] = name
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return change


def _link_to_a_folder(bundle: Path) -> None:
    graph = bundle / "generator.onnx"
    graph.unlink()
    graph.symlink_to(bundle.parent)


BAD_BUNDLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "wrong digest": (_wrong_digest, "altered"),
    "missing file": (lambda bundle: (bundle / "generator.onnx").unlink(), "generator.onnx"),
    "path with ..": (_other_file_name("../generator.onnx"), "plain name"),
    "absolute path": (_other_file_name("/etc/passwd"), "plain name"),
    "link to a folder": (_link_to_a_folder, "generator.onnx"),
    "unknown version": (_edit(version=3), "version 3"),
    "other format": (_edit(format="zip"), "format"),
    "wrong shapes": (_edit(num_latents=7), "[8, 16] where the manifest"),
    "unknown graph": (_edit(methods={"x": {"phases": [{"graph": "magic"}]}}), "'magic'"),
    "unknown default": (_edit(default_method="magic"), "'magic'"),
    "not JSON": (lambda bundle: (bundle / "manifest.json").write_text("{"), "JSON"),
    "no manifest": (lambda bundle: (bundle / "manifest.json").unlink(), "manifest.json"),
}


@pytest.mark.parametrize("name", BAD_BUNDLES)
def test_bad_bundles(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    spoil, says = BAD_BUNDLES[name]
    face = write_face()
    bundle = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, bundle)
    spoil(bundle)
    before = files()
    assert says in refuse("invert", face, "--bundle", bundle, "--save-inversion")
    assert files() == before


def _nan_codes(path: Path) -> None:
    file = parse(path.read_bytes())
    codes = file.tensors["codes"].copy()
    codes[0, 0] = np.nan
    path.write_bytes(serialize(file.tensors | {"codes": codes}, file.metadata))


def _of_another_space(path: Path) -> None:
    file = parse(path.read_bytes())
    metadata = file.metadata | {"bundle": "cats", "space": "0" * 64}
    path.write_bytes(serialize(file.tensors, metadata))


BAD_INVERSIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "of another space": (_of_another_space, "cats"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-10]), "safetensors"),
    "NaN in it": (_nan_codes, "NaN"),
    "empty": (lambda path: path.write_bytes(b""), "safetensors"),
    "text": (lambda path: path.write_text("a face"), "safetensors"),
}


@pytest.mark.parametrize("name", BAD_INVERSIONS)
def test_bad_inversions(name: str, tiny_bundle: Path, picture: np.ndarray) -> None:
    spoil, says = BAD_INVERSIONS[name]
    path = Path("face.safetensors")
    Model.load(tiny_bundle, "cpu", threads=1).invert(picture, 1).save(path)
    spoil(path)
    before = path.read_bytes()
    assert says in refuse("info", path, "--bundle", tiny_bundle)
    assert path.read_bytes() == before
