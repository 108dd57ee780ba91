"""The commands that render faces anew: edit, interpolate, adapt."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import fakeweights
import numpy as np
import pytest
from command_line import files, refuse, run, sentence, succeed, write_face
from hyperstyle_rt import BackendError, Inversion, Model
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.cli import adapt, edit, interpolate
from hyperstyle_rt.editing.blending import spherical_about
from hyperstyle_rt.editing.expressions import evenly
from hyperstyle_rt.imaging.films import contact_sheet
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from hyperstyle_rt.inverting.preparing import Crop
from hyperstyle_rt.photos.portraits import paste

COMMANDS = {"edit": edit, "interpolate": interpolate, "adapt": adapt}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, on a terminal of known width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def model(edit_bundle: Path) -> Model:
    return Model.load(edit_bundle, "cpu", threads=1)


@pytest.fixture
def faces(folder: Path, model: Model) -> tuple[Path, Path]:
    """Two inversion files."""
    picture = read_picture(write_face())
    model.invert(picture, 2).save("anna.safetensors")
    model.invert(picture[:, ::-1].copy(), 3).save("bert.safetensors")
    Path("face.png").unlink()
    return Path("anna.safetensors"), Path("bert.safetensors")


@pytest.fixture(scope="module")
def toon(edit_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle adapted from the tiny one, in the same folder of engines."""
    pytest.importorskip("torch")
    from hyperstyle_export.bundles.adapted import load_adapted, write_adapted
    from hyperstyle_export.bundles.writer import BundleFacts
    from hyperstyle_rt.formats.bundle import Bundle
    from models import finetuned_generator

    engines = tmp_path_factory.mktemp("engines")
    shutil.copytree(edit_bundle, engines / "tiny")
    base, path = Bundle.open(engines / "tiny"), engines / "toon"
    path.mkdir()
    generator = finetuned_generator(engines / "finetuned.pt")
    facts = BundleFacts("toon")
    write_adapted(load_adapted(generator, base), base, path, facts, lambda _step: None)
    return path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples(name: str) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", succeed(name, "--help"))
    lines = COMMANDS[name].EXAMPLES.splitlines()
    examples = [line for line in lines if line.startswith("hyperstyle-rt")]
    assert len(examples) >= 3
    assert all(example in text for example in examples)


# edit


def test_an_edit_is_a_picture(faces: tuple[Path, Path], model: Model, edit_bundle: Path) -> None:
    said = succeed("edit", faces[0], "smile=2", "blond=-1", "--bundle", edit_bundle)
    assert re.fullmatch(r"anna\.safetensors -> anna\.edited\.png  \(1 picture, .*\)\n", said)
    face = Inversion.load(faces[0])
    expected = model.edit(face, {"smile": 2.0, "blond": -1.0})
    assert np.array_equal(read_picture("anna.edited.png"), expected.image)


def test_a_picture_is_inverted_first(edit_bundle: Path, model: Model) -> None:
    face = write_face()
    document = json.loads(succeed("edit", face, "smile=1", "--bundle", edit_bundle, "--json"))
    assert document["edits"] == [{"smile": 1.0}]
    assert document["output"] == "face.edited.png"
    expected = model.edit(model.invert(face), {"smile": 1.0})
    assert np.array_equal(read_picture("face.edited.png"), expected.image)


def test_a_sweep_is_a_sheet_a_film_or_a_folder(
    faces: tuple[Path, Path], model: Model, edit_bundle: Path
) -> None:
    steps = [{"smile": a, "pose": 1.0} for a in evenly(-3, 3, 9)]
    pictures = list(model.sweep(Inversion.load(faces[0]), steps))
    arguments = ("edit", faces[0], "smile=-3:3:9", "pose=1", "--bundle", edit_bundle, "-q", "-o")
    assert succeed(*arguments, "sheet.png") == ""
    assert np.array_equal(read_picture("sheet.png"), contact_sheet(pictures))
    succeed(*arguments, "frames")
    for number, picture in enumerate(pictures):
        assert np.array_equal(read_picture(f"frames/frame_{number:05d}.png"), picture)
    succeed(*arguments, "film.mp4", "--rate", "12")
    film = cv2.VideoCapture("film.mp4")
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 9
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    found = files()
    assert found == {str(f) for f in faces} | {"sheet.png", "film.mp4"} | {
        f"frames/frame_{n:05d}.png" for n in range(9)
    }


def test_a_sheet_that_is_too_large_is_refused_before_the_work(
    faces: tuple[Path, Path], edit_bundle: Path
) -> None:
    before = files()
    arguments = ("edit", faces[0], "smile=-3:3:16000", "--bundle", edit_bundle, "-q", "-o")
    for out in ("sheet.png", "-"):
        said = refuse(*arguments, out)
        assert said.startswith("16000 pictures of 32 x 32 make a sheet of 270 x 67998 pixels")
    assert files() == before


def test_existing_files_are_replaced_only_if_asked(
    faces: tuple[Path, Path], edit_bundle: Path
) -> None:
    Path("out.png").write_bytes(b"mine")
    Path("frames").mkdir()
    Path("frames/mine").touch()
    arguments = ("edit", faces[0], "smile=1", "--bundle", edit_bundle, "--quiet", "--out")
    for out in ("out.png", "frames"):
        assert f"{out} exists; give another --out" in refuse(*arguments, out)
    assert Path("out.png").read_bytes() == b"mine"
    succeed(*arguments, "out.png", "--force")
    assert read_picture("out.png").shape == (32, 32, 3)
    succeed(*arguments, "frames", "--force")
    assert sorted(p.name for p in Path("frames").iterdir()) == ["frame_00000.png", "mine"]


def test_nothing_replaces_what_it_is_made_of(
    faces: tuple[Path, Path], edit_bundle: Path, toon: Path
) -> None:
    face = write_face()
    Path("frames").mkdir()
    shutil.copy(face, "frames/frame_00000.png")
    Path("link.png").symlink_to(face)
    content = face.read_bytes()
    for out, command in {
        "face.png": ["edit", face, "smile=1"],
        "link.png": ["edit", face, "smile=1"],
        "frames": ["edit", "frames/frame_00000.png", "smile=1:2:2"],
        "./face.png": ["edit", faces[0], "smile=1", "--paste", face],
        "frames/../face.png": ["interpolate", faces[0], face],
    }.items():
        said = refuse(*command, "--bundle", edit_bundle, "--force", "--out", out)
        assert said.endswith("would be overwritten; give another --out")
    assert "would be overwritten" in refuse("adapt", face, "--bundle", toon, "-o", face, "--force")
    assert face.read_bytes() == Path("frames/frame_00000.png").read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["smlie=1"], "no direction 'smlie'; its directions are blond, cube, pose, smile"),
        (["smile"], "'smile' is no edit"),
        (["smile=1", "--out", "x.bmp"], "--out x.bmp must end in one of .png"),
        (["smile=1", "--out", "here.png"], "--out here.png is a folder; give another name"),
        (["smile=1", "--out", "anna.safetensors/x.png"], "anna.safetensors is not a directory"),
        (["smile=1", "--out", "anna.safetensors/x/frames"], "is not a directory"),
    ],
)
def test_what_cannot_be_edited_is_one_sentence(
    arguments: list[str], says: str, faces: tuple[Path, Path], edit_bundle: Path
) -> None:
    Path("here.png").mkdir()
    before = files()
    assert says in refuse("edit", faces[0], *arguments, "--bundle", edit_bundle)
    assert files() == before


def test_results_are_set_back_into_the_photo(
    faces: tuple[Path, Path], model: Model, edit_bundle: Path, toon: Path
) -> None:
    photo = fakeweights.image_u8(2, 100, 120)
    write_picture("photo.png", photo)
    transform = np.array([[0.5, 0, -10], [0, 0.5, -15], [0, 0, 1]], np.float32)
    face = model.invert(Crop(photo[30:94, 20:84].copy(), transform), 1)
    face.save("cut.safetensors")
    more = ("--paste", "photo.png", "-q", "--out")
    succeed("edit", "cut.safetensors", "smile=2", "--bundle", edit_bundle, *more, "edited.png")
    expected = paste(photo, transform, model.edit(face, {"smile": 2.0}).image)
    assert np.array_equal(read_picture("edited.png"), expected)
    assert np.array_equal(expected[:30], photo[:30])
    assert (expected[50:70, 40:60] != photo[50:70, 40:60]).any()
    succeed("adapt", "cut.safetensors", "--bundle", toon, *more, "adapted.png")
    expected = paste(photo, transform, Adaptation.load(toon, "cpu").render(face))
    assert np.array_equal(read_picture("adapted.png"), expected)
    said = refuse("edit", faces[0], "smile=2", "--bundle", edit_bundle, *more, "x.png")
    assert "--paste needs a face that was cut out of a photo" in said


def test_missing_and_damaged_files_are_one_sentence(edit_bundle: Path) -> None:
    assert "cannot read" in refuse("edit", "no.png", "smile=1", "--bundle", edit_bundle)
    Path("bad.safetensors").write_bytes(b"bad")
    assert "not a safetensors file" in refuse("edit", "bad.safetensors", "smile=1")


# interpolate


def test_interpolation_runs_from_a_to_b(
    faces: tuple[Path, Path], model: Model, edit_bundle: Path
) -> None:
    ends = [Inversion.load(face) for face in faces]
    arguments = ("interpolate", *faces, "--frames", 4, "--bundle", edit_bundle, "-q", "--out")
    succeed(*arguments, "straight")
    succeed(*arguments, "arcs", "--spherical")
    fractions = evenly(0, 1, 4)
    for folder, pictures in {
        "straight": model.interpolate(*ends, fractions),
        "arcs": model.interpolate(*ends, fractions, spherical_about(model.bundle.latent_average())),
    }.items():
        paths = sorted(Path(folder).iterdir())
        for path, picture in zip(paths, pictures, strict=True):
            assert np.array_equal(read_picture(path), picture)
    assert np.array_equal(read_picture("straight/frame_00000.png"), model.render(ends[0]))
    assert np.array_equal(read_picture("straight/frame_00003.png"), model.render(ends[1]))


def test_interpolation_writes_a_film_of_pictures_and_inversions(
    faces: tuple[Path, Path], edit_bundle: Path
) -> None:
    face = write_face()
    said = succeed("interpolate", face, faces[0], "--frames", 3, "--bundle", edit_bundle, "--json")
    document = json.loads(said)
    assert document["inputs"] == ["face.png", "anna.safetensors"]
    assert (document["frames"], document["output"]) == (3, "face-anna.mp4")
    assert cv2.VideoCapture("face-anna.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_faces_of_two_bundles_leave_no_folder(
    faces: tuple[Path, Path], model: Model, edit_bundle: Path
) -> None:
    data = replace(Inversion.load(faces[0]).data, space="0" * 64)
    Inversion(data).save("stranger.safetensors")
    arguments = (faces[0], "stranger.safetensors", "--bundle", edit_bundle, "--out", "new/frames")
    assert "does not fit bundle 'tiny'" in refuse("interpolate", *arguments)
    assert not Path("new").exists()


def test_nothing_is_inverted_in_vain(
    faces: tuple[Path, Path], edit_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **_named: object) -> None:
        raise AssertionError("this is work")

    face, more = write_face(), ("--bundle", edit_bundle, "--out")
    data = replace(Inversion.load(faces[0]).data, space="0" * 64)
    Inversion(data).save("stranger.safetensors")
    monkeypatch.setattr(Model, "invert", work)
    said = refuse("interpolate", face, "stranger.safetensors", *more, "new")
    assert "does not fit bundle 'tiny'" in said
    for out in ("face.png/x.png", "face.png/x/frames", "face.png/x.mp4"):
        for command in (["edit", face, "smile=1"], ["interpolate", face, face]):
            assert "face.png is not a directory" in refuse(*command, *more, out)


# adapt


def test_an_adapted_face_keeps_fine_offsets(
    faces: tuple[Path, Path], model: Model, toon: Path
) -> None:
    adaptation = Adaptation.load(toon, "cpu", threads=1)
    face = Inversion.load(faces[0])
    said = succeed("adapt", faces[0], "--bundle", toon)
    assert "anna.safetensors -> anna.adapted.png  (offsets of 0 layers" in said
    assert np.array_equal(read_picture("anna.adapted.png"), adaptation.render(face))
    arguments = ("adapt", faces[0], "--bundle", toon, "--offsets-from", 5, "--json", "--out")
    document = json.loads(succeed(*arguments, "five.png"))
    assert (document["bundle"], document["base"]) == ("toon", "tiny")
    assert document["layers_with_offsets"] == 4
    assert np.array_equal(read_picture("five.png"), adaptation.render(face, first=5))
    assert (read_picture("five.png") != read_picture("anna.adapted.png")).any()


def test_an_adapted_generator_renders_every_inversion_of_its_base(
    faces: tuple[Path, Path], model: Model, toon: Path
) -> None:
    """Without codes as with zero codes; channel offsets count in the layers that are kept."""
    coded = Inversion.load(faces[0])
    plain = Inversion(replace(coded.data, codes=None, code_space=None))
    zero = Inversion(replace(coded.data, codes=np.zeros_like(coded.codes)))
    refined = model.optimise(coded, np.zeros((32, 32, 3), np.uint8), steps=4)
    with Adaptation.load(toon, "cpu", threads=1) as adaptation:
        shown = adaptation.synthesise(plain, first=0)
        assert np.array_equal(shown, adaptation.synthesise(zero, first=0))
        assert np.abs(shown - adaptation.synthesise(coded, first=0)).max() > 1e-3
        kept = adaptation.synthesise(refined, first=5)
        assert np.abs(kept - adaptation.synthesise(coded, first=5)).max() > 1e-3
        last = model.bundle.manifest.tuned_layers[-1].index
        assert np.array_equal(
            adaptation.synthesise(refined, first=last + 1), adaptation.synthesise(plain)
        )
    with pytest.raises(BackendError, match="closed"):
        adaptation.render(plain)


def test_noise_is_the_stored_one_or_drawn_from_a_seed(faces: tuple[Path, Path], toon: Path) -> None:
    for name, more in {
        "stored": [], "again": [], "one": ["--noise-seed", 1], "one_again": ["--noise-seed", 1],
        "two": ["--noise-seed", 2],
    }.items():  # fmt: skip
        succeed("adapt", faces[0], "--bundle", toon, "-q", "-o", f"{name}.png", *more)
    pictures = {path.stem: read_picture(path) for path in Path().glob("*.png")}
    assert np.array_equal(pictures["stored"], pictures["again"])
    assert np.array_equal(pictures["one"], pictures["one_again"])
    assert (pictures["stored"] != pictures["one"]).any()
    assert (pictures["one"] != pictures["two"]).any()


def test_a_picture_is_inverted_with_the_base(toon: Path, model: Model) -> None:
    face = write_face()
    succeed("adapt", face, "--bundle", toon, "--offsets-from", 0)
    expected = Adaptation.load(toon, "cpu").render(model.invert(face), first=0)
    assert np.array_equal(read_picture("face.adapted.png"), expected)


def test_other_commands_refuse_an_adapted_bundle(
    faces: tuple[Path, Path], toon: Path, edit_bundle: Path
) -> None:
    face = write_face()
    says = "bundle 'toon' only renders what bundle 'tiny' has inverted; use it with hyperstyle-rt"
    for command in (
        ["invert", face, "--bundle", toon],
        ["edit", face, "smile=1", "--bundle", toon],
        ["interpolate", face, face, "--bundle", toon, "--out", "x.png"],
        ["check", "--candidate", "cuda", "--bundle", toon],
    ):
        result = run(*command)
        assert result.exit_code == 2
        assert says in sentence(result.stderr), command
    assert "no adapted one; give one" in refuse("adapt", faces[0], "--bundle", edit_bundle)


def test_another_base_is_refused(
    faces: tuple[Path, Path], toon: Path, edit_bundle: Path, folder: Path
) -> None:
    shutil.copytree(edit_bundle, "other")
    document = json.loads(Path("other/manifest.json").read_text())
    Path("other/manifest.json").write_text(json.dumps(document | {"space": "0" * 64}))
    arguments = ("adapt", faces[0], "--bundle", toon, "--base", "other")
    assert "was adapted from the generator of bundle 'tiny'" in refuse(*arguments)
    shutil.copytree(toon, "alone/toon")
    assert "no bundle 'tiny'" in refuse("adapt", faces[0], "--bundle", "alone/toon")
