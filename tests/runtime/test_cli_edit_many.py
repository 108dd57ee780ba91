"""``hyperstyle-rt edit`` on several faces, folders and patterns, and back into photos."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import pytest
from batch_folders import make_pictures
from command_line import files, refuse, run, succeed
from face_pictures import in_a_photo, known_faces
from hyperstyle_rt import Inversion, Model, PictureError, find_portraits
from hyperstyle_rt.cli.edit import _Work
from hyperstyle_rt.cli.edit_report import Edited
from hyperstyle_rt.imaging.films import contact_sheet
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from hyperstyle_rt.inverting.preparing import Crop
from hyperstyle_rt.photos.portraits import paste
from hyperstyle_rt.types import Picture


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model(edit_bundle: Path) -> Model:
    return Model.load(edit_bundle, "cpu", threads=1)


@pytest.fixture
def faces(model: Model) -> Path:
    """``in/``: two inversions, a picture, and one of each that is bad."""
    make_pictures("in/c.png", "in/x/b.png", "a.png")
    model.invert("a.png", 1).save("in/a.safetensors")
    model.invert("in/x/b.png", 1).save("in/x/b.safetensors")
    for name in ("in/x/b.png", "a.png"):
        Path(name).unlink()
    Path("in/bad.safetensors").write_bytes(b"no tensors")
    Path("in/bad.png").write_bytes(b"no picture")
    return Path("in")


def test_a_folder_is_edited(faces: Path, model: Model, edit_bundle: Path) -> None:
    before = files()
    options = ("smile=-1:1:3", "--bundle", edit_bundle, "-o", "out.v1", "--report", "r.json")
    result = run("edit", faces, *options)
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "in/a.safetensors -> out.v1/a.edited.png",
        "in/c.png -> out.v1/c.edited.png",
        "in/x/b.safetensors -> out.v1/x/b.edited.png",
    ]
    first, second = result.stderr.splitlines()
    assert first.startswith("error: in/bad.png is not a picture")
    assert second.startswith("error: in/bad.safetensors: ")
    written = {f"out.v1/{name}.edited.png" for name in ("a", "c", "x/b")}
    assert files() == before | written | {"r.json"}
    steps = [{"smile": amount} for amount in (-1.0, 0.0, 1.0)]
    face = Inversion.load("in/a.safetensors")
    sheet = contact_sheet(list(model.sweep(face, steps)))
    assert np.array_equal(read_picture("out.v1/a.edited.png"), sheet)
    report = json.loads(Path("r.json").read_text())
    assert [entry["input"] for entry in report["errors"]] == ["in/bad.png", "in/bad.safetensors"]
    assert {entry["output"] for entry in report["edited"]} == written
    assert report["edits"] == steps


def test_what_is_edited_already_is_skipped(
    faces: Path, edit_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--bundle", edit_bundle, "-o", "out", "--json")

    def skipped(*arguments: object) -> dict[str, bool]:
        document = json.loads(run("edit", faces, *arguments, *options).stdout)
        return {Path(entry["output"]).name: entry["skipped"] for entry in document["edited"]}

    everything = dict.fromkeys(("a.edited.png", "c.edited.png", "b.edited.png"), False)
    assert skipped("smile=1") == everything
    assert skipped("smile=1", "--resume") == dict.fromkeys(everything, True)
    computed = {"backend": "another", "provider": "newer", "precision": "fp32"}
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("hyperstyle_rt.work.computed_by", lambda _backend: computed)
        assert skipped("smile=1", "--resume") == dict.fromkeys(everything, True)
    make_pictures("in/c.png", first=7)
    assert skipped("smile=1", "--resume") == dict.fromkeys(everything, True) | {
        "c.edited.png": False
    }
    assert skipped("smile=2", "--resume") == everything
    assert "out/a.edited.png (and 2 more) exists" in refuse("edit", faces, "smile=1", *options)
    write_picture("out/a.edited.png", fakeweights.image_u8(1, 8, 8))  # of somebody else
    said = refuse("edit", faces / "a.safetensors", "smile=1", *options[:4], "--resume")
    assert "out/a.edited.png exists" in said


def test_a_report_takes_no_other_place(faces: Path, edit_bundle: Path) -> None:
    before = files()
    options = ("smile=1", "--bundle", edit_bundle, "--force", "--report")
    for report in ("y.png", "in/c.png"):
        said = refuse("edit", "in/c.png", *options, report, "-o", "y.png")
        assert f"--report {report} would take the place of {report}" in said
    said = refuse("edit", "in", *options, "out/a.edited.png", "-o", "out")
    assert "would take the place of out/a.edited.png" in said
    said = refuse("edit", "in/a.safetensors", *options, "p.png", "-o", "y.png", "--paste", "p.png")
    assert "would take the place of p.png" in said
    assert files() == before


def test_several_are_named_or_fit_a_pattern(faces: Path, edit_bundle: Path) -> None:
    more = ("--bundle", edit_bundle, "-q", "-o")
    succeed("edit", "in/a.safetensors", "in/c.png", "smile=1", *more, "named")
    succeed("edit", "in/[ac].*", "smile=1", *more, "fitting")
    found = {path.name: path.read_bytes() for path in Path("named").iterdir()}
    assert set(found) == {"a.edited.png", "c.edited.png"}
    assert {path.name: path.read_bytes() for path in Path("fitting").iterdir()} == found
    said = refuse("edit", "in/a.safetensors", "in/c.png", "smile=1", *more, "film.mp4")
    assert "--out film.mp4 names one file for 2 pictures" in said
    said = refuse("edit", "in/a.safetensors", "in/c.png", "smile=1", *more, "-")
    assert "--out - takes the one result" in said and not Path("-").exists()
    said = refuse("edit", "in", "smile=1", "--face", "left", *more, "out")
    assert said == "--face must be largest, all or a number from 0, not 'left'"


def test_results_are_no_faces_of_a_folder(faces: Path, edit_bundle: Path) -> None:
    shutil.rmtree("in/x")
    for name in ("bad.png", "bad.safetensors"):
        Path("in", name).unlink()
    options = ("--bundle", edit_bundle, "-q", "-o", "in", "--resume")
    succeed("edit", "in", "smile=1", *options)
    before = files()
    succeed("edit", "in", "smile=1", *options)
    assert (
        files()
        == before
        == {f"in/{n}" for n in ("a.safetensors", "c.png")} | {f"in/{n}.edited.png" for n in "ac"}
    )


def test_results_of_different_faces_are_different_files(faces: Path, edit_bundle: Path) -> None:
    named = [f"in/c.{suffix}" for suffix in ("jpg", "png", "png.png")]
    for name in named:
        shutil.copy("in/c.png", name) if name != "in/c.png" else None
    more = ("smile=1", "--bundle", edit_bundle, "--force", "-o")
    before = files()
    for resume in ((), ("--resume",)):
        said = refuse("edit", *named, *more, "out", *resume)
        assert "in/c.png and in/c.png.png would both be written to out/c.png.edited.png" in said
    shutil.copy("in/c.png", "in/a.edited.png")
    said = refuse("edit", "in/a.safetensors", "in/a.edited.png", *more, "in")
    assert "in/a.edited.png is one of the pictures" in said
    assert files() == before | {"in/a.edited.png"}


def test_a_later_face_that_is_there_stops_only_its_photo(
    party: tuple[Picture, list[Inversion]], edit_bundle: Path
) -> None:
    shutil.copy("party.png", "other.png")
    Path("out").mkdir()
    Path("out/other.face2.edited.png").touch()
    more = ("--align", "always", "--face", "all", "--bundle", edit_bundle, "-o", "out")
    result = run("edit", "other.png", "party.png", "smile=1", *more, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, [each["input"] for each in document["errors"]]) == (2, ["other.png"])
    assert [each["input"] for each in document["edited"]] == ["party.png"] * 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in/a.safetensors"], "there is no edit; give DIRECTION=AMOUNT"),
        (["smile=1"], "name the face before the edits"),
        (["in/a.safetensors", "smile=1", "in/c.png"], "'in/c.png' is no edit"),
        (["in", "smlie=1", "-o", "out"], "no direction 'smlie'"),
        (["in/missing.png", "smile=1"], "cannot read in/missing.png"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], says: str, faces: Path, edit_bundle: Path
) -> None:
    before = files()
    assert says in refuse("edit", *arguments, "--bundle", edit_bundle)
    assert files() == before


# Back into photos


def test_another_photo_than_the_face_was_cut_from_is_refused(
    model: Model, edit_bundle: Path
) -> None:
    photo, other = fakeweights.image_u8(2, 100, 120), fakeweights.image_u8(3, 100, 120)
    write_picture("photo.png", photo)
    write_picture("other.png", other)
    transform = np.array([[0.5, 0, -10], [0, 0.5, -15], [0, 0, 1]], np.float32)
    face = model.invert(Crop(photo[30:94, 20:84], transform), 1)
    digest = hashlib.sha256(Path("photo.png").read_bytes()).hexdigest()
    Inversion(replace(face.data, picture=digest)).save("cut.safetensors")
    before = files()
    arguments = ("edit", "cut.safetensors", "smile=2", "--bundle", edit_bundle, "-q", "-o", "x.png")
    said = refuse(*arguments, "--paste", "other.png")
    assert said.startswith("other.png is not the file that the face of cut.safetensors was cut out")
    assert "--force" in said
    assert files() == before
    image = model.edit(face, {"smile": 2.0}).image
    succeed(*arguments, "--paste", "other.png", "--force")
    assert np.array_equal(read_picture("x.png"), paste(other, transform, image))
    shutil.copy("photo.png", "renamed.png")
    succeed(*arguments, "--paste", "renamed.png", "--force")
    assert np.array_equal(read_picture("x.png"), paste(photo, transform, image))
    Path("x.png").unlink()
    succeed(*arguments, "--paste", "renamed.png")  # the content counts, not the name


def test_a_photo_edited_by_itself_goes_back_only_into_itself(
    edit_bundle: Path, tmp_path: Path
) -> None:
    first, *_ = known_faces()
    for name, shade in (("one.png", 0), ("two.png", 1)):
        scene = in_a_photo(first, (300, 400), np.array([200.0, 150.0]), 240, 5).picture
        scene[0, 0] = shade
        write_picture(name, scene)
    arguments = ("edit", "one.png", "smile=1", "--align", "always", "--bundle", edit_bundle, "-q")
    said = refuse(*arguments, "--paste", "two.png", "-o", "x.png")
    assert "two.png is not the file that the face of one.png was cut out of" in said
    succeed(*arguments, "--paste", "one.png", "-o", "x.png")
    assert read_picture("x.png").shape == (300, 400, 3)


# One of several faces, or all


@pytest.fixture
def party(model: Model) -> tuple[Picture, list[Inversion]]:
    """``party.png``, a photo of two people; its pixels, and the inversions of its faces."""
    one, two = (
        in_a_photo(known_faces()[n], (300, 600), np.array([x, 150.0]), side, turn).picture
        for n, x, side, turn in ((3, 150.0, 250, 5), (5, 460.0, 180, -8))
    )
    photo = np.where(np.arange(600)[None, :, None] < 330, one, two)
    write_picture("party.png", photo)
    return photo, [model.invert(portrait) for portrait in find_portraits(photo)]


def test_all_faces_of_a_photo_or_one_of_them_are_edited(
    party: tuple[Picture, list[Inversion]], model: Model, edit_bundle: Path
) -> None:
    more = ("smile=2", "--align", "always", "--bundle", edit_bundle)
    first, second = (model.edit(face, {"smile": 2.0}).image for face in party[1])
    said = succeed("edit", "party.png", *more, "--face", "all")
    assert [line.split("  ")[0] for line in said.splitlines()] == [
        f"party.png -> party.face{number}.edited.png" for number in (1, 2)
    ]
    assert np.array_equal(read_picture("party.face1.edited.png"), first)
    assert np.array_equal(read_picture("party.face2.edited.png"), second)
    succeed("edit", "party.png", *more, "-q", "--face", "1", "-o", "second.png")
    assert np.array_equal(read_picture("second.png"), second)
    succeed("edit", "party.png", *more, "-q", "-o", "largest.png")
    assert np.array_equal(read_picture("largest.png"), first)
    Path("party.face1.edited.png").unlink()
    said = refuse("edit", "party.png", *more, "--face", "all")
    assert "party.face2.edited.png exists" in said
    assert not Path("party.face1.edited.png").exists()
    said = refuse("edit", "party.png", *more, "--face", "all", "-o", "-")
    assert "--out - takes one face" in said
    said = refuse("edit", "party.png", *more, "--face", "2", "-o", "third.png")
    assert "there is no face 2 in the photo, which has 2 faces" in said


def test_all_faces_go_back_into_their_photo(
    party: tuple[Picture, list[Inversion]], model: Model, edit_bundle: Path
) -> None:
    photo, faces = party
    more = ("--align", "always", "--bundle", edit_bundle, "-q", "--face", "all")
    succeed("edit", "party.png", "smile=-1:1:2", *more, "--paste", "party.png", "-o", "frames")
    for number, amount in enumerate((-1.0, 1.0)):
        expected = photo
        for face in faces:
            rendered = model.edit(face, {"smile": amount}).image
            expected = paste(expected, face.data.transform, rendered)
        assert np.array_equal(read_picture(f"frames/frame_{number:05d}.png"), expected)


def test_all_faces_are_edited_already(
    party: tuple[Picture, list[Inversion]], edit_bundle: Path
) -> None:
    more = ("smile=1", "--align", "always", "--bundle", edit_bundle, "--resume", "--json")

    def skipped(*arguments: object) -> list[tuple[int, bool]]:
        document = json.loads(succeed("edit", "party.png", *more, "-o", "out", *arguments))
        return [(entry["face"], entry["skipped"]) for entry in document["edited"]]

    assert skipped("--face", "all") == [(1, False), (2, False)]
    assert skipped("--face", "all") == [(1, True), (2, True)]
    Path("out/party.face2.edited.png").unlink()
    assert skipped("--face", "all") == [(1, False), (2, False)]


def test_faces_that_are_written_when_the_next_is_stopped_are_reported(
    party: tuple[Picture, list[Inversion]], edit_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, problems = _Work._write, [PictureError("the disk is full"), KeyboardInterrupt()]

    def write_one(work: _Work, task: Any, number: int, *arguments: Any) -> Edited:
        if number == 2:
            raise problems.pop(0)
        return write(work, task, number, *arguments)

    monkeypatch.setattr(_Work, "_write", write_one)
    more = ("--align", "always", "--bundle", edit_bundle, "--face", "all", "--report", "r.json")
    assert run("edit", "party.png", "smile=1", *more).exit_code == 2
    report = json.loads(Path("r.json").read_text())
    assert [entry["output"] for entry in report["edited"]] == ["party.face1.edited.png"]
    assert report["errors"] == [{"input": "party.png", "error": "the disk is full"}]
    assert run("edit", "party.png", "smile=2", *more, "--force").exit_code == 130
    report = json.loads(Path("r.json").read_text())
    assert (report["output"], report["edits"]) == ("party.face1.edited.png", [{"smile": 2.0}])
