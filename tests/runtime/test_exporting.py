"""Tuned generators as bundles of their own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import files, refuse, run, succeed
from hyperstyle_rt import Bundle, BundleError, Inversion, InversionError, Model
from hyperstyle_rt.exporting import tuned as tuned_module
from hyperstyle_rt.exporting.directories import appearing, check_destination
from hyperstyle_rt.formats.protobuf import fields
from hyperstyle_rt.imaging.pictures import read_picture, write_picture

MAX_ERROR = 2e-5
EVERYTHING = ("weights", "features", "noise", "channel_offsets", "codes", "latents")


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def tuned(model: Model, picture: np.ndarray) -> Inversion:
    """An inversion that has everything an inversion can have."""
    inversion = model.invert(picture, 1)
    found = model.optimise(inversion, picture, steps=3, variables=EVERYTHING)
    assert {"weights", "features", "noise", "channel_offsets", "codes"} <= {
        name for name in EVERYTHING if getattr(found.data, name) is not None
    }
    return found


@pytest.fixture(scope="module")
def exported(
    model: Model, tuned: Inversion, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Inversion]:
    directory = tmp_path_factory.mktemp("exported") / "engines" / "mine"
    return directory, model.export_bundle(tuned, directory)


def test_the_exported_bundle_renders_the_tuned_picture(
    model: Model, tuned: Inversion, exported: tuple[Path, Inversion], picture: np.ndarray
) -> None:
    directory, inversion = exported
    bundle = Bundle.open(directory)
    bundle.verify()
    manifest = bundle.manifest
    assert {path.name for path in directory.iterdir()} == {"manifest.json", *manifest.files}
    assert manifest.name == "mine" and manifest.space != model.bundle.manifest.space
    assert (inversion.data.space, inversion.data.bundle_digest) == (manifest.space, bundle.digest)
    assert (manifest.base, manifest.codes, manifest.tuned_layers) == (None, None, ())
    assert manifest.accuracy["rendering_max_abs"] < MAX_ERROR
    assert manifest.provenance["tuned_from"].startswith("tiny space:")
    steps = json.loads(manifest.provenance["tuned_settings"])["optimise"][0]
    assert steps["variables"] == list(EVERYTHING) and steps["steps"] == 3
    expected = model.synthesise(tuned)
    assert np.abs(expected - model.synthesise(model.invert(picture, 1))).max() > 0.01
    with Model.load(directory, "cpu", threads=1) as mine:
        assert np.abs(mine.synthesise(inversion) - expected).max() < MAX_ERROR
        shifted = np.stack([tuned.latents + 0.1, tuned.latents - 0.1])
        rows = np.random.default_rng(0).standard_normal(
            (1, manifest.optional_inputs.style_channels), np.float32
        )
        styled = mine.synthesise(inversion, shifted, rows)
        assert np.abs(styled - model.synthesise(tuned, shifted, rows)).max() < 5 * MAX_ERROR
        again = mine.invert(picture)
        np.testing.assert_array_equal(again.latents, model.invert(picture, 0).latents)
        with pytest.raises(InversionError, match="space"):
            mine.render(tuned)
        with pytest.raises(BundleError, match="exported from an inversion itself"):
            mine.export_bundle(inversion, directory.parent / "again")


def test_the_graphs_are_sound_to_onnx(exported: tuple[Path, Inversion]) -> None:
    directory, _ = exported
    graphs = Bundle.open(directory).manifest.graphs
    for role in ("generator", "styled_generator", "noise"):
        onnx.checker.check_model(str(directory / graphs[role].file), full_check=True)
        graph = onnx.load(directory / graphs[role].file, load_external_data=False).graph
        assert not {i.name for i in graph.input} & {t.name for t in graph.initializer}
        assert not any(i.name.startswith("parameter.") for i in graph.input)


def test_what_is_in_the_way_is_kept(
    model: Model, tuned: Inversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="holds other files"):
        model.export_bundle(tuned, out, overwrite=True)
    with pytest.raises(BundleError, match="is a file"):
        check_destination(out / "letter.txt", True)
    shutil.rmtree(out)
    shutil.copytree(model.bundle.directory, out)
    before = Bundle.open(out).digest
    with pytest.raises(BundleError, match="--force"):
        model.export_bundle(tuned, out)
    monkeypatch.setattr(tuned_module, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(BundleError, match="differs by"):
        model.export_bundle(tuned, out, overwrite=True)
    assert Bundle.open(out).digest == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]  # nothing half-written
    monkeypatch.undo()
    model.export_bundle(tuned, out, overwrite=True, name="other")
    assert Bundle.open(out).manifest.name == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(BundleError, match="cannot be named"):
        model.export_bundle(tuned, tmp_path / "new", name="a/b")
    styled = replace(tuned, styles=np.zeros(1, np.float32))
    with pytest.raises(InversionError, match="styles are edited"):
        model.export_bundle(styled, tmp_path / "new")


def test_nothing_but_the_old_bundle_is_replaced(
    model: Model, tuned: Inversion, tmp_path: Path
) -> None:
    out, link = tmp_path / "mine", tmp_path / "link"
    model.export_bundle(tuned, out)
    (out / "face.safetensors").write_text("mine")
    with pytest.raises(BundleError, match=r"mine.face\.safetensors would be lost"):
        model.export_bundle(tuned, out, overwrite=True)
    assert (out / "face.safetensors").read_text() == "mine"
    (out / "face.safetensors").unlink()
    (out / "README.md").write_text("of the bundle")
    link.symlink_to(out)
    model.export_bundle(tuned, link, overwrite=True, name="again")
    assert link.is_symlink() and Bundle.open(out).manifest.name == "again"
    assert (out / "README.md").read_text() == "of the bundle"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "mine"]
    (out / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="would be lost"):
        check_destination(out, True)
    link.unlink()
    link.symlink_to(model.bundle.directory)
    for own in (link, model.bundle.directory):
        with pytest.raises(BundleError, match="to export from"):
            model.export_bundle(tuned, own, overwrite=True)


def test_what_appears_during_an_export_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    with pytest.raises(BundleError, match="holds other files"), appearing(out, True):
        (out / "thesis.txt").write_text("years of work")
    assert (out / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_damaged_graphs_are_refused() -> None:
    for message in (b"\x08", b"\x12\x05ab", b"\x0b", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError):
            list(fields(message))


def test_the_command(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "face.png", picture)
    words = ("invert", "face.png", "--bundle", tiny_bundle, "--method", "pti", "--steps", 2)
    export = ("--export-bundle", "engines/me")
    result = run(*words, *export)
    assert result.exit_code == 0, result.output
    assert "exported the tuned generator to engines/me" in result.output.replace("\n", " ")
    assert "inversion of" in result.output and "kB" in result.output
    assert "picture sha256:" in Bundle.open("engines/me").manifest.provenance["tuned_to"]
    inversion = Inversion.load("face.tuned.safetensors")
    with Model.load("engines/me", "cpu", threads=1) as me:
        shown = me.render(inversion).astype(int)
    assert np.abs(shown - read_picture(Path("face.inverted.png"))).max() <= 1
    succeed("info", "engines/me")
    for more, message in (
        (("--then", "refine"), "takes no gradient steps, as it was exported from an inversion"),
        (("--export-bundle", "engines/again"), "was exported from an inversion itself"),
    ):
        assert message in refuse("invert", "face.png", "--bundle", "engines/me", *more, "-o", "x")
    succeed("check", "face.png", "--bundle", "engines/me", "--candidate", "cpu")
    assert "engines/me" in refuse(*words, *export, "--out", "again")
    assert not Path("again").exists()
    shutil.copytree(tiny_bundle, "own/tiny")
    for directory in ("own/tiny", "own"):
        replaced = ("--bundle", "own/tiny", "--export-bundle", directory, "--force")
        said = refuse("invert", "face.png", "--method", "pti", *replaced)
        assert "would replace the bundle that the picture is inverted with" in said
    write_picture(tmp_path / "other.png", picture)
    assert "one picture" in refuse(*words, *export, "--force", "other.png")


def test_the_command_exports_what_an_earlier_run_has_found(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "face.png", picture)
    words = ("invert", "face.png", "-n", 1, "--bundle", tiny_bundle, "-o", "out", "--resume")
    succeed(*words, "--save-inversion", "-q")
    report = ("--report", "out/report.json")
    said = json.loads(succeed(*words, "--export-bundle", "out/me", "--json", *report))
    assert (said["inversions"], len(said["skipped"])) == ([], 1)
    assert said["exported_bundle"] == "out/me"
    assert json.loads(Path("out/report.json").read_text())["exported_bundle"] == "out/me"
    assert Inversion.load("out/face.tuned.safetensors").data.bundle_name == "me"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "me"), "me/face.inverted.png would be in the way of --export-bundle me"),
        (("-o", "me/in/it"), "me/in/it/face.inverted.png would be in the way"),
        (("-o", "out", "--report", "me/r.json"), "me/r.json would be in the way"),
        (("-o", "out", "--report", "me"), "me would be in the way"),
        (("-o", "out", "--export-bundle", "face.png/me"), "face.png is not a directory"),
    ],
)
def test_exports_that_could_not_be_written_are_refused_before_the_work(
    options: tuple[str, ...],
    message: str,
    tiny_bundle: Path,
    picture: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "face.png", picture)
    export = () if "--export-bundle" in options else ("--export-bundle", "me")
    assert message in refuse("invert", "face.png", "--bundle", tiny_bundle, *export, *options)
    assert files() == {"face.png"}
