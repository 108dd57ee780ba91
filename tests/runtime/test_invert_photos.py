"""Photos that are no aligned crops, with stand-ins for what finds the faces in them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakeweights
import numpy as np
import pytest
from batch_folders import contents, make_pictures, outcomes
from command_line import files, refuse, run, succeed
from hyperstyle_rt import Inversion, Model, PictureError
from hyperstyle_rt.imaging.pictures import Original, read_picture, write_picture


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Halves:
    """In the place of `hyperstyle_rt.photos`: the left and the right half of a photo are faces."""

    LARGEST, ALL = "largest", "all"

    def find_portraits(self, photo: np.ndarray, which: str) -> tuple[SimpleNamespace, ...]:
        if not photo.any():
            raise PictureError("there is no face in the picture")
        width = photo.shape[1] // 2
        portraits = tuple(
            SimpleNamespace(
                crop=photo[:, start : start + width].copy(),
                transform_to=lambda side, start=start: np.array(
                    [[side / width, 0, -start], [0, side / width, 0], [0, 0, 1.0]]
                ),
            )
            for start in (0, width)
        )
        if which == "all":
            return portraits
        number = 0 if which == "largest" else int(which)
        if number >= len(portraits):
            raise PictureError(f"there is no face {number}")
        return (portraits[number],)

    def portraits_to_invert(self, photo: np.ndarray, which: str) -> Any:
        if photo.all():
            return (), None  # aligned already
        if not photo.any():
            return (), "there is no face in the picture, which is used as it is"
        return self.find_portraits(photo, which), None

    def paste_into(self, original: Original, transform: np.ndarray, face: np.ndarray) -> Original:
        pasted = original.stored.copy()
        pasted[0, int(-transform[0, 2])] = face[0, 0]
        return replace(original, stored=pasted)


@pytest.fixture
def faces(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that shows faces, and stand-ins that find some."""
    monkeypatch.setitem(sys.modules, "hyperstyle_rt.photos.portraits", Halves())
    bundle = shutil.copytree(tiny_bundle, tmp_path / "faces")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"domain": "human faces"}))
    return bundle


def photo_of_two() -> np.ndarray:
    photo = fakeweights.image_u8(5, 16, 32)
    photo[0, 0] = 0
    return photo


def test_the_largest_face_is_inverted_and_its_transform_kept(faces: Path) -> None:
    write_picture("party.png", photo_of_two())
    succeed("invert", "party.png", "--bundle", faces, "-n", 1, "--save-inversion")
    assert {"party.inverted.png", "party.safetensors"} <= files()
    model = Model.load(faces)
    expected = model.invert(np.ascontiguousarray(photo_of_two()[:, :16]), 1, align="never")
    assert np.array_equal(read_picture("party.inverted.png"), expected.image)
    data = Inversion.load("party.safetensors").data
    scale = model.bundle.manifest.resolution / 16
    assert np.array_equal(data.transform, np.diag([scale, scale, 1]).astype(np.float32))
    assert data.picture == hashlib.sha256(Path("party.png").read_bytes()).hexdigest()


def test_all_faces_are_inverted_and_set_back_into_one_photo(faces: Path) -> None:
    make_pictures("in/alone.png")
    write_picture("in/party.png", photo_of_two())
    options = ("in", "-o", "out", "--bundle", faces, "-n", 1, "--face", "all", "--paste")
    document = json.loads(succeed("invert", *options, "--json"))
    assert [(entry["input"], entry["face"]) for entry in document["inversions"]] == [
        ("in/alone.png", 1),
        ("in/party.png", 1),
        ("in/party.png", 2),
    ]
    names = {f"party{ending}" for ending in (".face1.inverted.png", ".face2.inverted.png")}
    assert set(contents()) == {"alone.face1.inverted.png", "party.pasted.png"} | names
    expected = photo_of_two()
    for number, column in ((1, 0), (2, 16)):
        expected[0, column] = read_picture(f"out/party.face{number}.inverted.png")[0, 0]
    assert np.array_equal(read_picture("out/party.pasted.png"), expected)

    before = contents()
    skipped = json.loads(succeed("invert", *options, "--json", "--resume"))["skipped"]
    assert [len(entry["results"]) for entry in skipped] == [1, 2]
    for name in sorted(names | {"party.pasted.png"}):
        Path("out", name).unlink()
        assert outcomes(*options, "--resume")["inversions"] == ["party"]
        assert contents() == before
    Path("in/party.png").rename("in/ball.png")
    assert outcomes(*options, "--resume")["inversions"] == []
    assert contents()["ball.face2.inverted.png"] == before["party.face2.inverted.png"]


def test_faces_are_numbered_from_the_largest(faces: Path) -> None:
    write_picture("party.png", photo_of_two())
    succeed("invert", "party.png", "--bundle", faces, "-n", 1, "--face", 1, "-o", "second.png")
    expected = Model.load(faces).invert(
        np.ascontiguousarray(photo_of_two()[:, 16:]), 1, align="never"
    )
    assert np.array_equal(read_picture("second.png"), expected.image)
    text = refuse("invert", "party.png", "--bundle", faces, "--face", 2, "--align", "always")
    assert text == "party.png: there is no face 2"


def test_without_a_face(faces: Path) -> None:
    write_picture("night.png", np.zeros((16, 16, 3), np.uint8))
    text = refuse("invert", "night.png", "--bundle", faces, "--align", "always")
    assert text == "night.png: there is no face in the picture"
    result = run("invert", "night.png", "--bundle", faces, "-n", 1)
    assert result.exit_code == 0
    assert result.stderr.startswith("note: night.png: there is no face in the picture, which is")
    expected = Model.load(faces).invert("night.png", 1)
    assert np.array_equal(read_picture("night.inverted.png"), expected.image)


def test_never_and_other_domains_look_for_no_faces(faces: Path, tiny_bundle: Path) -> None:
    write_picture("party.png", photo_of_two())
    succeed("invert", "party.png", "--bundle", faces, "-n", 1, "--align", "never", "-o", "a.png")
    succeed("invert", "party.png", "--bundle", tiny_bundle, "-n", 1, "-o", "b.png")
    expected = Model.load(tiny_bundle).invert("party.png", 1).image
    assert np.array_equal(read_picture("a.png"), expected)
    assert np.array_equal(read_picture("b.png"), expected)
    text = refuse("invert", "party.png", "--bundle", faces, "--align", "never", "--paste")
    assert "--paste needs faces" in text
    text = refuse("invert", "party.png", "--bundle", tiny_bundle, "--paste")
    assert text.endswith("bundle tiny looks for none; add --align always")


def test_which_face_must_be_a_name_or_a_number(faces: Path) -> None:
    make_pictures("a.png")
    text = refuse("invert", "a.png", "--bundle", faces, "--face", "prettiest")
    assert text == "--face must be largest, all or a number from 0, not 'prettiest'"
