"""Commands on a bundle of several methods: one by name, all side by side, latents of another."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fakeweights
import numpy as np
import pytest
from command_line import refuse, run, succeed
from hyperstyle_rt import Inversion, InversionError, Model
from hyperstyle_rt.adaptation import LATENTS_ITERATIONS, Adaptation
from hyperstyle_rt.formats.bundle import MANIFEST_NAME
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from test_directions import DIRECTIONS
from test_editing import ganspace, interfacegan

METHODS = (
    "hyperstyle",
    "psp",
    "hyperstyle+psp",
    "e4e",
    "hyperstyle+e4e",
    "restyle-e4e",
    "hyperstyle+restyle-e4e",
)
SIDE, GAP = 32, 2  # of the pictures in a row


@pytest.fixture(scope="module")
def model(family_bundle: Path) -> Model:
    return Model.load(family_bundle, "cpu", threads=1)


@pytest.fixture
def face(tmp_path: Path) -> Path:
    write_picture(tmp_path / "face.png", fakeweights.image_u8(1, 64, 64))
    return tmp_path / "face.png"


@pytest.fixture(scope="module")
def child(family_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator fine-tuned from that of the bundle, beside it."""
    from hyperstyle_export.bundles.adapted import load_adapted, write_adapted
    from hyperstyle_export.bundles.writer import BundleFacts
    from hyperstyle_rt.formats.bundle import Bundle
    from models import finetuned_generator

    folder = tmp_path_factory.mktemp("child")
    base = Bundle.open(family_bundle)
    adapted = load_adapted(finetuned_generator(folder / "child.pt"), base)
    (folder / "child").mkdir()
    write_adapted(adapted, base, folder / "child", BundleFacts("child"), lambda _step: None)
    return folder / "child"


def test_a_method_by_name(face: Path, family_bundle: Path, model: Model, tmp_path: Path) -> None:
    words = ("--bundle", family_bundle, "--method", "e4e", "--out", tmp_path / "o")
    said = succeed("invert", face, *words)
    assert "face.inverted.png  (0." in said
    assert "iterations" not in said  # it has none
    expected = model.invert(face, method="e4e").image
    assert np.array_equal(read_picture(tmp_path / "o" / "face.inverted.png"), expected)


def test_all_methods_side_by_side(
    face: Path, family_bundle: Path, model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--method", "all", "--coupled", "--save-inversion", "--json")
    document = json.loads(succeed("invert", face, "--bundle", family_bundle, "-o", out, *options))
    results = {name: out / f"face.{name}.inverted.png" for name in METHODS}
    assert [each["outputs"]["result"] for each in document["inversions"]] == [
        str(path) for path in results.values()
    ]
    shown = read_picture(out / "face.coupled.png")
    assert shown.shape == (SIDE, SIDE + (SIDE + GAP) * len(METHODS), 3)
    for column, (name, path) in enumerate(results.items(), 1):
        expected = model.invert(face, method=name).image
        assert np.array_equal(read_picture(path), expected)
        left = column * (SIDE + GAP)
        assert np.array_equal(shown[:, left : left + SIDE], expected)
        saved = Inversion.load(out / f"face.{name}.safetensors")
        assert saved.method == name
    assert len(list(out.iterdir())) == 2 * len(METHODS) + 1


def test_all_methods_of_a_bundle_that_has_one(
    face: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Files have the method's name as they would beside others."""
    out = tmp_path / "out"
    succeed("invert", face, "--bundle", tiny_bundle, "-o", out, "--method", "all", "--coupled")
    written = sorted(path.name for path in out.iterdir())
    assert written == ["face.coupled.png", "face.hyperstyle.inverted.png"]
    assert read_picture(out / "face.coupled.png").shape == (SIDE, 2 * SIDE + GAP, 3)


def test_iterations_of_all_are_those_of_the_methods_that_iterate(
    face: Path, family_bundle: Path, tmp_path: Path
) -> None:
    options = ("--method", "all", "--iterations", "2", "--json")
    text = succeed("invert", face, "--bundle", family_bundle, "--out", tmp_path / "o", *options)
    done = {
        Path(each["outputs"]["result"]).name.split(".")[1]: each["iterations"]
        for each in json.loads(text)["inversions"]
    }
    assert done == {name: 0 if name in ("psp", "e4e") else 2 for name in METHODS}


def test_all_methods_of_a_folder_can_be_resumed(
    face: Path, family_bundle: Path, tmp_path: Path
) -> None:
    pictures, out = tmp_path / "in", tmp_path / "out"
    pictures.mkdir()
    shutil.copy(face, pictures / "a.png")
    write_picture(pictures / "b.png", fakeweights.image_u8(2, 64, 64))
    command = (
        "invert",
        pictures,
        "--bundle",
        family_bundle,
        "--out",
        out,
        "--method",
        "all",
        "--coupled",
        "--resume",
        "--json",
    )
    assert len(json.loads(succeed(*command))["inversions"]) == 2 * len(METHODS)
    (out / "a.e4e.inverted.png").unlink()
    again = json.loads(succeed(*command))
    assert [Path(each["outputs"]["result"]).name for each in again["inversions"]] == [
        "a.e4e.inverted.png"
    ]
    assert len(again["skipped"]) == 2 * len(METHODS) - 1


def test_all_methods_of_a_renamed_picture_are_copied(
    face: Path, family_bundle: Path, tmp_path: Path
) -> None:
    """Each method's results by its own settings, and what is side by side with them."""
    pictures, out = tmp_path / "in", tmp_path / "out"
    pictures.mkdir()
    shutil.copy(face, pictures / "a.png")
    options = ("--bundle", family_bundle, "--out", out, "--resume", "--json")
    command = ("invert", pictures, *options, "--method", "all", "--coupled", "-n", 1)
    assert len(json.loads(succeed(*command))["inversions"]) == len(METHODS)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (pictures / "a.png").rename(pictures / "b.png")
    assert json.loads(succeed(*command))["inversions"] == []
    now = {path.name: path.read_bytes() for path in out.iterdir()}
    assert now == before | {f"b{name[1:]}": content for name, content in before.items()}


def test_what_is_side_by_side_is_what_was_found_last(
    face: Path, family_bundle: Path, tmp_path: Path
) -> None:
    """The method that writes it is done again where others were, or where it is gone."""
    pictures = tmp_path / "in"
    pictures.mkdir()
    shutil.copy(face, pictures / "a.png")
    document = json.loads(
        (shutil.copytree(family_bundle, tmp_path / "b") / MANIFEST_NAME).read_text()
    )
    last = "e4e"  # which does not iterate, so that other numbers of iterations are nothing to it
    document["methods"] = {name: document["methods"][name] for name in ("restyle-e4e", last)}
    document["default_method"] = last
    (tmp_path / "b" / MANIFEST_NAME).write_text(json.dumps(document))
    sheet = tmp_path / "out" / "a.coupled.png"

    def done(iterations: int, out: Path = sheet.parent) -> list[str]:
        options = ("--bundle", tmp_path / "b", "--out", out, "--resume", "--json", "-n", iterations)
        said = json.loads(succeed("invert", pictures, "--method", "all", "--coupled", *options))
        return [Path(entry["outputs"]["result"]).name.split(".")[1] for entry in said["inversions"]]

    assert done(1) == ["restyle-e4e", last]
    assert done(2) == ["restyle-e4e", last]
    assert done(2) == []
    done(2, tmp_path / "anew")
    assert sheet.read_bytes() == (tmp_path / "anew" / sheet.name).read_bytes()
    sheet.unlink()
    assert done(2) == [last]
    assert sheet.read_bytes() == (tmp_path / "anew" / sheet.name).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--save-steps",), "--save-steps goes with one method"),
        (("--out", "-"), "takes the one result of one picture"),
    ],
)
def test_what_does_not_go_with_all_is_refused(
    options: tuple[str, ...], message: str, face: Path, family_bundle: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    given = ("--out", tmp_path / "o") if "--out" not in options else ()
    line = refuse("invert", face, "--bundle", family_bundle, "--method", "all", *given, *options)
    assert message in line
    assert sorted(tmp_path.iterdir()) == before


def test_files_of_any_method_are_not_replaced(
    face: Path, family_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "face.psp.inverted.png").write_bytes(b"mine")
    line = refuse("invert", face, "--bundle", family_bundle, "--method", "all", "-o", tmp_path)
    assert "face.psp.inverted.png exists" in line


def test_bench_times_the_graphs_of_a_method(family_bundle: Path) -> None:
    options = ("--rounds", 1, "--edits", 1, "--threads", 1, "--quiet", "--json")
    method = ("--method", "hyperstyle+restyle-e4e")
    document = json.loads(succeed("bench", "--bundle", family_bundle, *method, *options))
    graphs = document["results"][0]["graphs"]
    assert document["method"] == "hyperstyle+restyle-e4e"
    assert {"restyle_e4e", "hypernet", "weights", "generator"} <= graphs.keys()
    assert not {"encoder", "psp", "e4e"} & graphs.keys()
    assert graphs["restyle_e4e"]["macs"] > 0


def test_info_tells_methods_their_graphs_and_costs(family_bundle: Path, model: Model) -> None:
    text = succeed("info", family_bundle)
    document = json.loads(succeed("info", family_bundle, "--json"))
    graphs = document["manifest"]["graphs"]
    assert set(document["costs"]) == set(METHODS)
    rendering = graphs["generator"]["macs"] + graphs["weights"]["macs"]
    assert document["costs"]["psp"] == graphs["psp"]["macs"] + rendering
    assert document["costs"]["hyperstyle+restyle-e4e"] == (
        5 * graphs["restyle_e4e"]["macs"] + 5 * graphs["hypernet"]["macs"] + 10 * rendering
    )
    for name in METHODS:
        assert name in text
    assert "restyle_e4e_average, restyle_e4e x 5, hypernet x 5" in " ".join(text.split())


def test_latents_of_an_encoder_are_edited_as_any(model: Model, face: Path) -> None:
    """InterFaceGAN's boundary and GANSpace's component, on a pSp inversion."""
    inversion = model.invert(face, method="psp")
    for name in ("smile", "pose", "cube", "blond"):
        edited = model.edit(inversion, {name: 2.0})
        assert np.abs(edited.output - inversion.output).max() > 0
        assert edited.codes is None
    # What the authors' scripts add to the latents, in float64 and in these rows.
    latents = inversion.latents.astype(np.float64)
    smile = DIRECTIONS["smile"]
    boundary = 0.5 * smile.vector[None]
    found = model.edit(inversion, {"smile": 3.0})
    assert np.abs(found.latents - interfacegan(latents, boundary, 3.0)).max() < 1e-5
    cube = DIRECTIONS["cube"]
    file = {
        "comp": cube.component[None, None],
        "mean": cube.mean[None],
        "std": np.array([cube.deviation]),
    }
    found = model.edit(inversion, {"cube": 1.0})
    expected = ganspace(latents, file, 0, range(3, 6), cube.target)
    assert np.abs(found.latents - expected).max() < 1e-4
    # What is between it and HyperStyle's result has half of the codes.
    other = model.invert(face)
    (half,) = model.interpolate(inversion, other, [0.5])
    between = replace(
        other.data, latents=(inversion.latents + other.latents) / 2, codes=other.codes / 2
    )
    assert np.abs(half.astype(int) - model.render(Inversion(between))).max() <= 1


def test_adaptation_as_published(
    face: Path, family_bundle: Path, child: Path, model: Model, tmp_path: Path
) -> None:
    """Latents of ReStyle-e4e, HyperStyle's offsets of the fine layers."""
    options = ("--bundle", child, "--base", family_bundle, "--offsets-from", "5")
    succeed("adapt", face, *options, "--out", tmp_path / "default.png")
    hyperstyle = model.invert(face)
    restyle = model.invert(face, LATENTS_ITERATIONS, method="restyle-e4e")
    with Adaptation.load(child, "cpu") as adaptation:
        expected = adaptation.render(hyperstyle.with_latents(restyle), 5)
        alone = adaptation.render(hyperstyle, 5)
    assert np.array_equal(read_picture(tmp_path / "default.png"), expected)
    assert (expected != alone).any()
    # The same from files, and HyperStyle's own latents where a method is named.
    hyperstyle.save(tmp_path / "h.safetensors")
    restyle.save(tmp_path / "r.safetensors")
    latents = ("--latents", tmp_path / "r.safetensors", "--out", tmp_path / "files.png")
    succeed("adapt", tmp_path / "h.safetensors", *options, *latents)
    assert np.array_equal(read_picture(tmp_path / "files.png"), expected)
    named = ("--method", "hyperstyle", "--out", tmp_path / "own.png")
    succeed("adapt", face, *options, *named)
    assert np.array_equal(read_picture(tmp_path / "own.png"), alone)


def test_adaptation_without_offsets_is_stylealigns(
    face: Path, family_bundle: Path, child: Path, model: Model, tmp_path: Path
) -> None:
    options = ("--bundle", child, "--base", family_bundle, "--offsets", "none")
    document = json.loads(
        succeed("adapt", face, *options, "--out", tmp_path / "none.png", "--json")
    )
    assert document["layers_with_offsets"] == 0
    restyle = model.invert(face, LATENTS_ITERATIONS, method="restyle-e4e")
    with Adaptation.load(child, "cpu") as adaptation:
        expected = adaptation.render(restyle)
        assert np.array_equal(
            adaptation.render(model.invert(face), None),
            adaptation.render(
                Inversion(replace(model.invert(face).data, codes=None, code_space=None))
            ),
        )
    assert np.array_equal(read_picture(tmp_path / "none.png"), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--offsets", "none", "--offsets-from", "3"), "leave out --offsets-from"),
        (("--latents", "magic"), "no method 'magic'"),
        (("--latents", "nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_adaptations_that_cannot_be_are_refused(
    options: tuple[str, ...],
    message: str,
    face: Path,
    family_bundle: Path,
    child: Path,
    tmp_path: Path,
) -> None:
    command = ("adapt", face, "--bundle", child, "--base", family_bundle)
    assert message in refuse(*command, "--out", tmp_path / "x.png", *options)
    assert not (tmp_path / "x.png").exists()


def test_latents_of_a_method_need_a_picture(
    face: Path, family_bundle: Path, child: Path, model: Model, tmp_path: Path
) -> None:
    model.invert(face).save(tmp_path / "x.safetensors")
    command = ("adapt", tmp_path / "x.safetensors", "--bundle", child, "--base", family_bundle)
    assert "inverts a picture" in refuse(*command, "--latents", "psp")


def test_latents_of_another_generator_are_refused(model: Model, face: Path) -> None:
    inversion = model.invert(face)
    other = Inversion(replace(inversion.data, space="0" * 64))
    with pytest.raises(InversionError, match="of two generators"):
        inversion.with_latents(other)


def test_no_method_of_that_name(face: Path, family_bundle: Path, tmp_path: Path) -> None:
    result = run("invert", face, "--bundle", family_bundle, "--method", "ransac", "-o", tmp_path)
    assert result.exit_code == 2
    assert "hyperstyle+restyle-e4e" in result.stderr
