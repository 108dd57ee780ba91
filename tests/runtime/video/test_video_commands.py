"""Films on the command line: inverted, resumed, edited over time."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import files, refuse, run, succeed
from film_files import (
    RATE,
    find_markers,
    frame_with,
    lightness_differs,
    pictures_of,
    sound_of,
    write_film,
)
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.cli import invert_film
from hyperstyle_rt.errors import EditError, InversionError, PictureError
from hyperstyle_rt.photos.portraits import paste
from hyperstyle_rt.video import inverting, tracking
from hyperstyle_rt.video.amounts import amounts_at, parse_courses
from hyperstyle_rt.video.folder import FilmFolder
from hyperstyle_rt.video.inverting import cut_out
from hyperstyle_rt.video.reading import read_frames

COUNT = 7
NO_FACE = 5  # the last frames of the film: nothing is found in these
PICTURES = [frame_with((36 + 2 * n, 38)) for n in range(COUNT)] + [frame_with()] * 15


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "find_prominent_faces", find_markers)
    monkeypatch.setattr(inverting, "CROP_SIDE", 64)
    write_film(Path("film.mp4"), PICTURES)


def invert(bundle: Path, *more: object) -> str:
    options = ("--bundle", bundle, "--align", "always", "-n", 3)
    return succeed("invert", "film.mp4", *options, *more)


def inversions(folder: str = "film.inversions") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.safetensors"))}


def test_a_film_is_inverted_and_set_back(tiny_bundle: Path) -> None:
    document = json.loads(invert(tiny_bundle, "--paste", "--json"))
    (film,) = document["films"]
    assert (film["frames"], film["frames_with_face"], film["runs"]) == (len(PICTURES), COUNT, 1)
    assert len(inversions()) == COUNT
    made = {"film.inverted.mp4", "film.pasted.mp4", "film.inversions/film.json"}
    assert files() == made | {"film.mp4"} | {f"film.inversions/{name}" for name in inversions()}

    source = pictures_of(Path("film.mp4"))
    for name in ("film.inverted.mp4", "film.pasted.mp4"):
        assert [data for _, data in sound_of(Path(name))] == [
            data for _, data in sound_of(Path("film.mp4"))
        ]
        assert [time for time, _ in pictures_of(Path(name))] == [time for time, _ in source]
    pasted = [picture for _, picture in pictures_of(Path("film.pasted.mp4"))]
    faces = [picture for _, picture in pictures_of(Path("film.inverted.mp4"))]
    with Model.load(tiny_bundle) as model:
        for number, frame in enumerate(read_frames(Path("film.mp4"))):
            if number >= COUNT:  # there is no face: black, and the frame as it was
                assert np.abs(pasted[number].astype(int) - frame.picture).mean() < 3
                assert faces[number].max() < 8
                continue
            inversion = Inversion.load(f"film.inversions/{number:06d}.safetensors")
            rendering = model.render(inversion)
            assert lightness_differs(faces[number], rendering) < 4
            expected = paste(frame.picture, inversion.data.transform, rendering)
            assert np.abs(pasted[number].astype(int) - expected).mean() < 3


def test_a_frame_goes_on_from_the_one_before(tiny_bundle: Path) -> None:
    invert(tiny_bundle, "--following", 1, "--smooth", 0)
    folder = FilmFolder(Path("film.inversions"))
    record = folder.read()
    assert record is not None
    frames = list(read_frames(Path("film.mp4")))
    with Model.load(tiny_bundle) as model:
        before = None
        for number in range(3):
            crop = cut_out(frames[number].picture, record.track.points[number], model)
            count = 3 if before is None else 1
            before = model.invert(crop, count, effort="fast", start=before)
            assert np.array_equal(folder.load(number).latents, before.latents)
            assert np.array_equal(folder.load(number).codes, before.codes)
    assert before.codes[0, -1] == 5
    invert(tiny_bundle, "--independent", "--smooth", 0, "--force")
    with Model.load(tiny_bundle) as model:
        crop = cut_out(frames[2].picture, record.track.points[2], model)
        alone = model.invert(crop, 3, effort="fast")
    assert np.array_equal(folder.load(2).codes, alone.codes)


def test_steps_go_on_from_all_that_the_frame_before_has(tiny_bundle: Path) -> None:
    """A preset by itself leaves the codes of the inversion that its steps begin with."""
    options = ("--bundle", tiny_bundle, "--align", "always")
    succeed("invert", "film.mp4", *options, "--method", "refine", "--steps", 0)
    first, second = (Inversion.load(f"film.inversions/{n:06d}.safetensors") for n in range(2))
    assert first.codes.any() and np.array_equal(second.codes, first.codes)


def test_a_run_that_was_killed_is_resumed_to_the_same_bytes(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invert(tiny_bundle)
    whole, film = inversions(), pictures_of(Path("film.inverted.mp4"))
    for path in ("film.inverted.mp4", "film.inversions"):
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()

    save = Inversion.save

    def failing(inversion: Inversion, path: Path) -> None:
        if path.stem.endswith("3"):
            raise InversionError("the disk is full")
        save(inversion, path)

    with monkeypatch.context() as patch:
        patch.setattr(Inversion, "save", failing)
        result = run("invert", "film.mp4", "--bundle", tiny_bundle, "--align", "always", "-n", 3)
    assert (result.exit_code, result.stderr) == (2, "error: the disk is full\n")
    assert not Path("film.inverted.mp4").exists()
    left = inversions()
    assert 0 < len(left) < COUNT

    with monkeypatch.context() as patch:  # where the face is, is known
        patch.setattr(tracking, "find_prominent_faces", None)
        invert(tiny_bundle, "--resume")
        assert inversions() == whole
        found = pictures_of(Path("film.inverted.mp4"))
        for (_, picture), (_, expected) in zip(found, film, strict=True):
            assert np.abs(picture.astype(int) - expected).max() <= 8
        monkeypatch.setattr(inverting, "read_frames", None)
        assert "done by an earlier run" in invert(tiny_bundle, "--resume")


def test_other_settings_begin_anew(tiny_bundle: Path) -> None:
    invert(tiny_bundle, "--smooth", 0)
    text = refuse("invert", "film.mp4", "--bundle", tiny_bundle)
    assert text.startswith("film.inverted.mp4 (and 1 more) exists")
    before = inversions()
    Path("film.inversions/000021.safetensors").write_bytes(b"of another film")
    invert(tiny_bundle, "--following", 1, "--smooth", 0, "--resume")
    after = inversions()
    assert set(after) == set(before)
    assert after["000000.safetensors"] == before["000000.safetensors"]
    assert after["000001.safetensors"] != before["000001.safetensors"]
    Path("film.inverted.mp4").write_bytes(b"somebody else's")
    result = run(
        *("invert", "film.mp4", "--bundle", tiny_bundle, "--align", "always", "--resume"),
    )
    assert (result.exit_code, "of no earlier run" in result.stderr) == (2, True)
    assert Path("film.inverted.mp4").read_bytes() == b"somebody else's"


@pytest.mark.parametrize("more", [("--paste",), ("--following", 1)])
def test_what_goes_on_after_a_whole_run_is_resumed_again(
    more: tuple[object, ...], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The film of the first run is ours for the third, too."""
    invert(tiny_bundle)
    before = Path("film.inverted.mp4").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(invert_film, "_pictures_of", _interrupted)
        arguments = ("film.mp4", "--bundle", tiny_bundle, "--align", "always", "-n", 3)
        assert run("invert", *arguments, *more, "--resume").exit_code != 0
    assert Path("film.inverted.mp4").read_bytes() == before
    assert "done by an earlier run" not in invert(tiny_bundle, *more, "--resume")
    assert "done by an earlier run" in invert(tiny_bundle, *more, "--resume")


def test_films_of_all_earlier_runs_are_ours(tiny_bundle: Path) -> None:
    invert(tiny_bundle, "--paste")
    invert(tiny_bundle, "--following", 1, "--resume")
    invert(tiny_bundle, "--following", 1, "--paste", "--resume")


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("option", ["--resume", "--force"])
def test_a_folder_in_the_place_of_a_film_is_told_before_the_work(
    option: str, tiny_bundle: Path
) -> None:
    Path("film.inverted.mp4").mkdir()
    text = refuse("invert", "film.mp4", "--bundle", tiny_bundle, option)
    assert text == "film.inverted.mp4 is a folder; move it away, or give another --out"
    assert not Path("film.inversions").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_of_any_bytes_leaves_the_folder_readable(edit_bundle: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    write_film(Path(name), [frame_with((40, 38))] * 2, sound=None)
    arguments = ("invert", name, "--bundle", edit_bundle, "--align", "always", "-n", 1)
    succeed(*arguments)
    assert "done by an earlier run" in succeed(*arguments, "--resume")
    direction = sorted(Model.load(edit_bundle).directions)[0]
    folder = os.fsdecode(b"caf\xe9.inversions")
    succeed("edit", folder, f"{direction}=1", "--bundle", edit_bundle, "--paste", name)


def test_edits_over_time(edit_bundle: Path) -> None:
    invert(edit_bundle)
    name = sorted(Model.load(edit_bundle).directions)[0]
    edit = ("edit", "film.inversions", f"{name}=0@0,4@0.2", "--bundle", edit_bundle)
    line = succeed(*edit)
    assert line.startswith(f"film.inversions -> film.edited.mp4  ({len(PICTURES)} frames")
    found = [picture for _, picture in pictures_of(Path("film.edited.mp4"))]
    with Model.load(edit_bundle) as model:
        for number in (0, 3, 6):
            inversion = Inversion.load(f"film.inversions/{number:06d}.safetensors")
            amount = min(4.0, 20 * number / RATE)
            expected = model.edit(inversion, {name: amount}).image
            edited = lightness_differs(found[number], expected)
            unedited = lightness_differs(found[number], model.render(inversion))
            assert edited < 7  # of noise, through a lossy codec
            assert (unedited > 2 * edited) == bool(number)
    assert sound_of(Path("film.edited.mp4")) == []
    succeed(*edit, "--paste", "film.mp4", "--out", "whole.mov")
    assert len(pictures_of(Path("whole.mov"))) == len(PICTURES)
    assert [data for _, data in sound_of(Path("whole.mov"))] == [
        data for _, data in sound_of(Path("film.mp4"))
    ]
    last = pictures_of(Path("whole.mov"))[-1][1]
    assert np.abs(last.astype(int) - PICTURES[-1]).mean() < 4


def test_what_edits_of_films_refuse(edit_bundle: Path) -> None:
    invert(edit_bundle)
    name = sorted(Model.load(edit_bundle).directions)[0]
    start = ("edit", "film.inversions")
    before = files()
    assert "has no direction 'nope'" in refuse(*start, "nope=1", "--bundle", edit_bundle)
    assert "rise, as 0@0,2@1.5, not '0:1:5'" in refuse(*start, f"{name}=0:1:5")
    write_film(Path("other.mp4"), PICTURES[:2], sound=None)
    paste_it = ("--bundle", edit_bundle, "--paste", "other.mp4")
    assert "is not the film" in refuse(*start, f"{name}=1", *paste_it)
    assert "has 2 frames" in refuse(*start, f"{name}=1", *paste_it, "--force")
    write_film(Path("other.mp4"), [picture[::2, ::2] for picture in PICTURES], sound=None)
    said = refuse(*start, f"{name}=1", *paste_it, "--force")
    assert "has 48 x 36 pixels" in said and "with 96 x 72" in said
    for missing in ("missing.mp4", "."):
        paste_it = ("--bundle", edit_bundle, "--paste", missing)
        for more in ((), ("--force",)):
            said = refuse(*start, f"{name}=1", *paste_it, *more)
            assert said.startswith(f"cannot read the film {missing}: ")
    report = ("--report", "film.inversions/film.json", "--force")
    assert "would take the place of film.inversions/" in refuse(*start, f"{name}=1", *report)
    assert "leave it out" in refuse(*start, f"{name}=1", "--face", 1)
    assert "--rate is not for" in refuse(*start, f"{name}=1", "--rate", 50)
    Path("film.edited.mp4").mkdir()
    assert "film.edited.mp4 is a folder" in refuse(*start, f"{name}=1", "--force")
    assert ".mkv" in refuse(*start, f"{name}=1", "--out", "x.png")
    assert "of its own" in refuse("edit", "film.inversions", "film.mp4", f"{name}=1")
    Path("film.inversions/film.json").write_text('{"format": "hyperstyle-rt-film"}')
    assert "film.json is damaged" in refuse(*start, f"{name}=1")
    assert files() == before | {"other.mp4"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--coupled",), "--coupled is for pictures"),
        (("--save-steps",), "--save-steps is for pictures"),
        (("--face", "all"), "--face all is for pictures"),
        (("--face", "left"), "--face must be largest or a number"),
        (("--face", "\u0661"), "--face must be largest or a number"),
        (("--report", "film.mp4", "--force"), "would take the place of film.mp4"),
        (("--report", "film.inversions/film.json"), "would take the place of film.inversions/"),
        (("--method", "all"), "--method all is for pictures"),
        (("--out", "-"), "--out - is for pictures"),
        (("--paste", "--align", "never"), "--paste needs faces"),
        (("--paste",), "add --align always"),
        (("other.png",), "film.mp4 is a film and other.png is none"),
    ],
)
def test_what_is_not_for_films(options: tuple[str, ...], says: str, tiny_bundle: Path) -> None:
    before = files()
    assert says in refuse("invert", "film.mp4", *options, "--bundle", tiny_bundle)
    assert files() == before


def test_links_that_lead_nowhere_are_one_sentence(edit_bundle: Path) -> None:
    Path("loop.mp4").symlink_to("loop.mp4")
    text = refuse("invert", "loop.mp4", "--bundle", edit_bundle)
    assert text.startswith("cannot read the film loop.mp4: ")
    invert(edit_bundle)
    edit = ("edit", "film.inversions", "smile=1", "--bundle", edit_bundle, "--force")
    text = refuse(*edit, "--paste", "loop.mp4", "--out", "x.mp4")
    assert text.startswith("cannot read the film loop.mp4: ")
    text = refuse(*edit, "--paste", "loop.mp4", "--out", "loop.mp4")
    assert text == "loop.mp4 is the film itself; give another --out"


def test_inversions_that_are_damaged_are_made_again(tiny_bundle: Path) -> None:
    invert(tiny_bundle)
    whole = inversions()
    damaged, missing = Path("film.inversions/000001.safetensors"), "000003.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    Path("film.inversions", missing).unlink()
    assert "done by an earlier run" not in invert(tiny_bundle, "--resume")
    assert inversions() == whole
    assert "done by an earlier run" in invert(tiny_bundle, "--resume")


def test_one_bad_film_does_not_stop_the_others(tiny_bundle: Path) -> None:
    Path("bad.mp4").write_bytes(b"no film")
    write_film(Path("empty.mp4"), [frame_with()] * 2, sound=None)
    arguments = ("bad.mp4", "empty.mp4", "film.mp4", "--bundle", tiny_bundle)
    result = run("invert", *arguments, "--align", "always", "-n", 1, "--report", "report.json")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("error: cannot read the film bad.mp4: ")
    assert second.startswith("error: empty.mp4: no face was found in any frame")
    assert {path for path in files() if path.startswith(("bad", "empty"))} == {
        "bad.mp4",
        "empty.mp4",
    }
    report = json.loads(Path("report.json").read_text())
    assert [film["input"] for film in report["films"]] == ["film.mp4"]
    assert [error["input"] for error in report["errors"]] == ["bad.mp4", "empty.mp4"]


def test_films_are_named_as_pictures_are(tiny_bundle: Path) -> None:
    """By patterns, each once, and with longer names where these would collide."""
    for name in ("a/x.mp4", "b/x.mov", "b/y.mkv"):
        Path(name).parent.mkdir(exist_ok=True)
        write_film(Path(name), [frame_with()] * 2, sound=None)
    arguments = ("?/*.mov", "**/y.mkv", "a/*.mp4", "a/x.mp4", "-o", "out", "--bundle", tiny_bundle)
    document = json.loads(succeed("invert", *arguments, "-n", 1, "--json"))
    assert [(film["input"], film["output"]) for film in document["films"]] == [
        ("b/x.mov", "out/b/x.inverted.mov"),
        ("b/y.mkv", "out/y.inverted.mkv"),
        ("a/x.mp4", "out/a/x.inverted.mp4"),
    ]
    assert {path.parent.name for path in Path("out").rglob("film.json")} == {
        *("x.inversions", "y.inversions")
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none*.mp4",), "nothing fits none*.mp4"),
        (("film.mp4", "-o", "face.png"), "--out face.png must end in one of .mp4, .mov, .mkv"),
        (("film.mp4", "other.mp4", "-o", "x.mp4"), "--out x.mp4 names one file for 2 films"),
        (("film.mp4", "--force", "-o", "film.mp4"), "film.mp4 is one of the films and would be"),
        (("film.mp4", "film.mp4.mp4", "film.mkv"), "film.mp4 and film.mp4.mp4 would both be"),
    ],
)
def test_names_of_films_that_do_not_fit(
    arguments: tuple[str, ...], says: str, tiny_bundle: Path
) -> None:
    for name in ("other.mp4", "film.mp4.mp4", "film.mkv"):
        shutil.copy("film.mp4", name)
    before = files()
    assert says in refuse("invert", *arguments, "--bundle", tiny_bundle)
    assert files() == before and not Path("face.png").exists()


def test_frames_as_they_are(tiny_bundle: Path) -> None:
    document = json.loads(succeed("invert", "film.mp4", "--bundle", tiny_bundle, "--json", "-n", 1))
    assert document["films"][0]["frames_with_face"] == len(PICTURES)
    first = Inversion.load("film.inversions/000000.safetensors")
    assert first.data.transform is None
    result = run("edit", "film.inversions", "x=1", "--paste", "film.mp4", "--bundle", tiny_bundle)
    assert result.exit_code == 2


def test_without_pyav(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    text = refuse("invert", "film.mp4", "--bundle", tiny_bundle)
    assert text.startswith("films need PyAV; install hyperstyle-rt[films]")


def test_few_frames_are_held(tiny_bundle: Path) -> None:
    """Memory is bounded by the threads, not by the film."""
    seen = []

    def frames():
        for frame in read_frames(Path("film.mp4")):
            seen.append(frame.number)
            yield frame

    with Model.load(tiny_bundle) as model:
        document = json.loads(succeed("invert", "film.mp4", "--bundle", tiny_bundle, "--json"))
        folder = FilmFolder(Path(document["films"][0]["inversions"]))
        record = folder.read()
        assert record is not None
        settings = inverting.FilmSettings(frame=None)  # type: ignore[arg-type]
        inverter = inverting.FilmInverter.__new__(inverting.FilmInverter)
        inverter._model, inverter._settings = model, settings
        inverter._folder, inverter._track, inverter._before = folder, record.track, None
        for done in inverter.run(frames(), jobs=2):
            assert seen[-1] - done.frame.number <= 6


def test_courses() -> None:
    courses = parse_courses(["smile=2", "age=-1:1", "yaw=0@1,3@2,-3@4"], duration=10)
    assert amounts_at(courses, 0) == {"smile": 2, "age": -1, "yaw": 0}
    assert amounts_at(courses, 5) == {"smile": 2, "age": 0, "yaw": -3}
    assert amounts_at(courses, 1.5)["yaw"] == 1.5
    for bad in ("smile", "smile=", "smile=1:2:3", "smile=1@2,3@2", "smile=nan", "smile=1@", "=1",
        "smile=1e38", "smile=-1e308:1e308", "smile=0@0,1e7@1"):  # fmt: skip
        with pytest.raises(EditError, match=r"smile|edit"):
            parse_courses([bad], 10)
    with pytest.raises(EditError, match="twice"):
        parse_courses(["smile=1", "smile=2"], 10)


def test_a_folder_that_cannot_be_written(tiny_bundle: Path) -> None:
    Path("film.inversions").write_bytes(b"a file")
    text = refuse("invert", "film.mp4", "--bundle", tiny_bundle, "--force")
    assert "film.inversions" in text
    with pytest.raises(PictureError):
        FilmFolder(Path("film.inversions/x")).begin(None, keep=True)  # type: ignore[arg-type]
