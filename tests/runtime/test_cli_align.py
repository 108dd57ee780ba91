"""``hyperstyle-rt align``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import refuse, run, succeed
from face_pictures import in_a_photo, known_faces
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from hyperstyle_rt.photos.portraits import find_portraits
from pictures import photo as landscape


@pytest.fixture
def party(tmp_path: Path) -> Path:
    """A photo of two faces, in a folder of its own."""
    first, *_, last = known_faces()
    left = in_a_photo(first, (300, 600), np.array([150.0, 150.0]), 240, 5)
    right = in_a_photo(last, (300, 600), np.array([460.0, 150.0]), 170, -5)
    scene = left.picture.copy()
    scene[:, 330:] = right.picture[:, 330:]
    path = tmp_path / "photos" / "party.png"
    path.parent.mkdir()
    write_picture(path, scene)
    return path


def test_a_photo_becomes_its_largest_face(party: Path, tmp_path: Path) -> None:
    out = tmp_path / "face.png"
    assert succeed("align", party, "--size", 128, "-o", out) == f"{party} -> {out}\n"
    (expected,) = find_portraits(read_picture(party), 128, "largest")
    np.testing.assert_array_equal(read_picture(out), expected.crop)


def test_all_faces_get_numbers_and_json_their_transforms(party: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces"
    printed = succeed("align", party, "--size", 64, "--face", "all", "-o", out, "--json")
    document = json.loads(printed)
    assert document["errors"] == []
    assert [Path(crop["output"]).name for crop in document["crops"]] == [
        "party.face1.aligned.png",
        "party.face2.aligned.png",
    ]
    for crop, portrait in zip(
        document["crops"], find_portraits(read_picture(party), 64), strict=True
    ):
        assert read_picture(crop["output"]).shape == (64, 64, 3)
        np.testing.assert_allclose(crop["transform"], portrait.transform)
        np.testing.assert_allclose(crop["landmarks"], portrait.landmarks, atol=0.01)


def test_a_photo_without_a_face_does_not_stop_the_others(party: Path, tmp_path: Path) -> None:
    empty = party.with_name("a_field.png")
    write_picture(empty, landscape())
    result = run("align", party.parent, "-o", tmp_path / "out", "--size", 64)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {empty}: no face was found; try")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["party.aligned.png"]


def test_files_are_replaced_only_by_force(party: Path, tmp_path: Path) -> None:
    out = tmp_path / "face.png"
    out.write_bytes(b"mine")
    assert "exists" in refuse("align", party, "-o", out)
    assert out.read_bytes() == b"mine"
    succeed("align", party, "-o", out, "--size", 64, "--force", "--quiet")
    assert read_picture(out).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--face", "5"), "there is no face 5 in the photo, which has 2 faces"),
        (("--face", "smallest"), "--face must be largest, all or a number"),
        (("-o", "face.tiff"), "must end in one of"),
    ],
)
def test_mistakes_are_one_sentence(party: Path, options: tuple[str, ...], problem: str) -> None:
    assert problem in refuse("align", party, *options)
    assert [path.name for path in party.parent.iterdir()] == ["party.png"]


def test_a_photo_is_never_overwritten_by_its_crop(party: Path) -> None:
    before = party.read_bytes()
    assert "is one of the pictures" in refuse("align", party, "-o", party, "--force")
    assert party.read_bytes() == before


def test_crops_of_several_photos_are_of_different_names(party: Path, tmp_path: Path) -> None:
    names = [f"party.{suffix}" for suffix in ("jpg", "png", "png.png")]
    photos = [party.with_name(name) for name in names]
    for each in photos:
        each.write_bytes(party.read_bytes())
    said = refuse("align", *photos, "-o", tmp_path / "out", "--force")
    assert said.startswith(f"{photos[1]} and {photos[2]} would both be written to ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("face", ["largest", "all"])
def test_a_crop_that_is_there_is_refused_before_any_work(
    face: str, party: Path, tmp_path: Path
) -> None:
    """Else the batch would end with half of it done."""
    other = party.with_name("other.png")
    other.write_bytes(party.read_bytes())
    number = ".face1" if face == "all" else ""
    there = tmp_path / "out" / f"party{number}.aligned.png"
    there.parent.mkdir()
    there.touch()
    options = ("-o", there.parent, "--size", 64, "--face", face)
    assert f"{there} exists; " in refuse("align", other, party, *options)
    assert list(there.parent.iterdir()) == [there]


def test_a_later_crop_that_is_there_stops_only_its_photo(party: Path, tmp_path: Path) -> None:
    other = party.with_name("other.png")
    other.write_bytes(party.read_bytes())
    there = tmp_path / "out" / "other.face2.aligned.png"
    there.parent.mkdir()
    there.touch()
    options = ("-o", there.parent, "--size", 64, "--face", "all", "--json")
    result = run("align", other, party, *options)
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert [error["input"] for error in document["errors"]] == [str(other)]
    assert [Path(crop["output"]).name for crop in document["crops"]] == [
        f"party.face{number}.aligned.png" for number in (1, 2)
    ]


def test_standard_output_takes_no_crops_of_several_photos(
    party: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would lie in a folder that is called -."""
    monkeypatch.chdir(party.parent)
    other = party.with_name("other.png")
    write_picture(other, landscape())
    assert "--out - takes the one result" in refuse("align", party, other, "-o", "-")
    assert not Path("-").exists()


def test_one_name_for_several_photos_is_refused(party: Path) -> None:
    other = party.with_name("other.png")
    write_picture(other, landscape())
    assert "names one file for 2 pictures" in refuse("align", party, other, "-o", "face.png")
