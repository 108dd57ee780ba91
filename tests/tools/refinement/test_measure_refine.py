"""The tool that measures refinement, on the tiny bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from directions.files import add_to_bundle
from evaluation.measure import Judges
from hyperstyle_export.readers.official import load_model
from hyperstyle_rt import Bundle, Model
from hyperstyle_rt.formats.directions_file import LinearDirection
from hyperstyle_rt.imaging.pictures import read_picture, to_input, write_picture
from refinement.baselines import pivotal_tuning, torch_steps
from refinement.cli import app, parse_marks
from refinement.cost import CLOCKS, step_against_generator
from refinement.edits import (
    EditJudges,
    Readings,
    Trial,
    measure_edits,
    run_trial,
    stranger_figures,
    summarise,
    tabulate,
)
from refinement.quality import Methods, measure_quality, summary
from typer.testing import CliRunner


def test_quality_writes_a_report(tiny_bundle: Path, picture: np.ndarray, tmp_path: Path) -> None:
    write_picture(tmp_path / "face.png", picture)
    words = ["quality", tmp_path / "face.png", "--bundle", tiny_bundle, "--steps", "2,8"]
    words += ["--iterations", 1, "--out", tmp_path / "report", "--json"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    means = json.loads(result.stdout)["means"]
    refined = [
        f"{variable} {steps}" for variable in ("channel_offsets", "codes") for steps in (2, 8)
    ]
    assert list(means) == ["encoder", "iteration 1", *refined]
    assert (
        means["channel_offsets 8"]["psnr"]
        > means["channel_offsets 2"]["psnr"]
        > means["iteration 1"]["psnr"]
    )
    assert all(figures["seconds"] > 0 for figures in means.values())
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"figures.json", "quality.png", "sheet.png"}
    again = CliRunner().invoke(app, [str(word) for word in words])
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_cost_compares_with_the_generator(tiny_bundle: Path, picture: np.ndarray) -> None:
    model = Model.load(tiny_bundle, "cpu", threads=1)
    found = step_against_generator(model, picture, "codes", 3, CLOCKS["cpu"])
    assert found["forward_passes"] == found["step"] / found["generator"] > 1


def test_torch_takes_the_same_first_step(
    tiny_bundle: Path, tiny_checkpoints: tuple[Path, Path], picture: np.ndarray
) -> None:
    """Adam's first step is the gradient's sign: it must be the runtime's, offset by offset."""
    model = Model.load(tiny_bundle, "cpu", threads=1)
    inversion = model.invert(picture, 1)
    size = model.bundle.manifest.input_size
    arrays = (
        inversion.latents[None],
        inversion.codes[None],
        to_input(picture, model.bundle.manifest.image_size),
        to_input(picture, size),
    )
    theirs = torch_steps(load_model(*tiny_checkpoints), *map(torch.from_numpy, arrays), 1)
    ours = model.optimise(inversion, picture, steps=1).channel_offsets
    assert np.mean(np.sign(ours) == np.sign(theirs.numpy())) > 0.995


def test_pivotal_tuning_follows_the_picture(
    tiny_checkpoints: tuple[Path, Path], picture: np.ndarray
) -> None:
    class Pixels(torch.nn.Module):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            return x

        def distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x - y).square().mean((1, 2, 3))

    networks = load_model(*tiny_checkpoints)
    target = torch.from_numpy(to_input(picture, networks.config.image_size))
    latents = networks.encode(torch.from_numpy(to_input(picture, networks.config.input_size)))
    errors: list[float] = []
    pivotal_tuning(
        networks,
        latents.detach(),
        target,
        Pixels(),
        20,
        lambda _done, image: errors.append(float((image - target).square().mean())),
    )
    assert len(errors) == 21
    assert errors[-1] < 0.99 * errors[0]


def test_means_and_medians(tiny_bundle: Path, picture: np.ndarray) -> None:
    model = Model.load(tiny_bundle, "cpu", threads=1)
    methods = Methods(1, (1,), ("codes",), None, 0)
    target = np.ascontiguousarray(picture[:32, :32])
    done: list[int] = []
    table, pictures = measure_quality(
        model, [target, target], methods, Judges(None, None), done.append
    )
    assert done == [1, 2]
    assert len(pictures) == 2
    of_encoder = summary(table)["encoder"]
    assert of_encoder["psnr"] == pytest.approx(np.mean(table["encoder"]["psnr"]))


@pytest.mark.parametrize("text", ["", "0", "a,b", "20,-1"])
def test_senseless_steps_are_refused(text: str) -> None:
    result = CliRunner().invoke(app, ["quality", "nobody.png", "--steps", text])
    assert result.exit_code == 2
    assert "--steps" in result.stderr
    assert parse_marks("60,20,20") == (20, 60)


# Edits after refinement

TRIAL = Trial(1, 4, "channel_offsets", {"smile": 2.0, "yaw": -1.5})
RECIPES = {name: {"factors": {name: 0.5}, "unit": "half"} for name in ("smile", "yaw")}


@pytest.fixture(scope="module")
def edited_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with two directions."""
    directory = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("edited") / "tiny")
    vectors = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    add_to_bundle(
        Bundle.open(directory),
        {
            name: LinearDirection(vector, (0, 8), 1.0, "half")
            for name, vector in zip(RECIPES, vectors, strict=True)
        },
    )
    return directory


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


class Colours(torch.nn.Module):
    """Mean colour and spread as an embedding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.cat([x.mean((2, 3)), x.std((2, 3))], 1))


def test_both_states_are_edited_alike(edited_bundle: Path, picture: np.ndarray) -> None:
    model = Model.load(edited_bundle, "cpu", threads=1)
    target = np.ascontiguousarray(picture[:32, :32])
    results = run_trial(model, target, TRIAL)
    assert results.shape == (2, 3, 32, 32, 3)
    inversion = model.invert(target, 1)
    refined = model.optimise(inversion, target, steps=4)
    for row, one in zip(results, (inversion, refined), strict=True):
        assert np.array_equal(row[0], one.image)
        assert np.array_equal(row[2], model.edit(one, {"yaw": -1.5}).image)
    errors = np.square(results[:, 0] - target.astype(float)).mean((1, 2, 3))
    assert errors[1] < errors[0]
    done: list[None] = []
    judges = EditJudges(None, Colours())
    (read,) = measure_edits(model, [target], TRIAL, judges, lambda: done.append(None))
    assert done == [None]
    change = results[:, 1:].astype(float) - results[:, :1]
    size = np.linalg.norm(change[1, 1]) / np.linalg.norm(change[0, 1])
    assert read.size[1] == pytest.approx(size, rel=1e-4)
    assert -1 <= read.cosine[0] <= 1
    assert read.faces is not None
    assert read.faces.shape == (2, 3, 6)


def readings(smile: float, face: tuple[float, float]) -> Readings:
    """What judges read off one picture whose edits turn the face by a right angle."""
    attributes = np.zeros((2, 3, 2), np.float32)
    attributes[0, :, 0] = 0.5, 0.5 + smile, 9
    attributes[1, :, 0] = 0.1, 0.1 + smile / 2, 9
    own = torch.tensor(face)
    faces = own.expand(2, 3, 2).clone()
    faces[1, 1] = torch.stack([-own[1], own[0]])
    return Readings(attributes, faces, own, [0.9, 0.8], [1.1, 1.2])


def test_figures_of_edits() -> None:
    both = [readings(1.0, (1.0, 0.0)), readings(-0.5, (0.0, 1.0))]
    mean = torch.tensor([0.5, 0.5])
    table = tabulate(both, TRIAL, mean)
    assert list(table) == ["no edit", "smile +2", "yaw -1.5"]
    assert table["smile +2"]["unrefined"]["own"] == [1.0, -0.5]
    assert table["smile +2"]["refined"]["identity"] == [0, 0]
    assert table["yaw -1.5"]["refined"]["likeness"] == [1, 1]
    # (1,0) -> (0,1) seen from between them: the other way; (0,1) -> (-1,0): from above to the left
    centred = table["smile +2"]["refined"]["identity_centred"]
    assert centred == pytest.approx([-1, (0.5 * 1.5 - 0.25) / (0.5**0.5 * 2.5**0.5)], abs=1e-5)
    assert "cosine" not in table["smile +2"]["unrefined"]
    means = summarise(table, TRIAL, {"smile": 0.5, "yaw": 1.0})
    smile = means["smile +2"]["unrefined"]
    assert (smile["own"], smile["own_sd"], smile["right_way"]) == (0.25, 0.5, 0.5)
    assert means["smile +2"]["refined"]["size"] == pytest.approx(1.1)
    assert stranger_figures(both, mean) == pytest.approx({"identity": 0, "identity_centred": -1})
    assert set(tabulate(both[:1], TRIAL, None)["no edit"]["refined"]) == {"likeness"}


def test_edits_write_a_report(edited_bundle: Path, tmp_path: Path, picture: np.ndarray) -> None:
    renders = tmp_path / "renders"
    renders.mkdir()
    values = np.random.default_rng(0).random((64, 2), np.float32)
    for number, value in enumerate(values):
        flat = np.full((16, 16, 3), [*(value * 255), 0], np.uint8)
        write_picture(renders / f"{number:02d}.png", flat)
    np.savez(renders / "factors.npz", names=["smile", "yaw"], values=values)
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPES))
    write_picture(tmp_path / "face.png", picture)
    words = ["edits", renders, "--bundle", edited_bundle, "--limit", 2, "--steps", 2]
    words += ["--iterations", 1, "--photo", tmp_path / "face.png", "--train", renders]
    words += ["--recipe", tmp_path / "recipe.json", "--epochs", 1, "--out", tmp_path / "report"]
    code, said, errors = call(*words)
    assert code == 0, errors
    assert "right way" in said
    assert "seen by the judge: smile" in said
    written = json.loads((tmp_path / "report" / "edits.json").read_text())
    assert written["names"] == ["00.png", "01.png"]
    figures = {"own", "own_sd", "right_way", "cosine", "size"}
    assert set(written["means"]["smile +2"]["refined"]) == figures
    assert set(written["photos"]["face.png"]["yaw +1.5"]["refined"]) == figures
    assert len(written["table"]["smile +2"]["unrefined"]["own"]) == 2
    page = (tmp_path / "report" / "edits.md").read_text()
    assert "## face.png" in page
    assert "|  | no edit | refined | smile +2 | refined | yaw +1.5 | refined |" in page
    size = written["means"]["yaw +1.5"]["refined"]["size"]
    assert (
        f"| change, size |  |  |  | {written['means']['smile +2']['refined']['size']:.2f}" in page
    )
    assert f"|  | {size:.2f} |" in page
    code, _, errors = call(*words)
    assert code == 2
    assert "--force" in errors


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--edits", "smile=2,laugh=1"), "no direction 'laugh'"),
        (("--edits", "smile=-1:1:3"), "single amounts"),
        (("--edits", "smile=0"), "single amounts"),
        (("--train", "."), "give --train and --recipe"),
    ],
)
def test_senseless_edits_are_refused(
    words: tuple[str, str], sentence: str, edited_bundle: Path, tmp_path: Path
) -> None:
    write_picture(tmp_path / "face.png", np.zeros((8, 8, 3), np.uint8))
    code, _, errors = call("edits", tmp_path / "face.png", "--bundle", edited_bundle, *words)
    assert code == 2
    assert sentence in errors


def test_the_sheet(edited_bundle: Path, tmp_path: Path, picture: np.ndarray) -> None:
    write_picture(tmp_path / "face.png", picture)
    out = tmp_path / "sheet.png"
    words = ["sheet", tmp_path / "face.png", "--bundle", edited_bundle, "--iterations", 1]
    words += ["--steps", "1,3", "--edited", 2, "-o", out]
    code, _, errors = call(*words)
    assert code == 0, errors
    drawn = read_picture(out)
    # input, encoder only, iterations, two refinements, two edits of either
    assert drawn.shape[1] == 32 * (3 + 2 + 2 * 2)
    row = drawn[-32:].reshape(32, 9, 32, 3).swapaxes(0, 1)
    model = Model.load(edited_bundle, "cpu", threads=1)
    inversion = model.invert(picture, 1)
    refined = model.optimise(inversion, picture, steps=2)
    assert np.array_equal(row[2], inversion.image)
    assert np.array_equal(row[6], model.edit(inversion, {"yaw": 1.5}).image)
    assert np.array_equal(row[7], model.edit(refined, {"smile": 2}).image)
    assert call(*words)[0] == 2
