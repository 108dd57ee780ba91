"""The tool that measures refinement, on the tiny bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.measure import Judges
from hyperstyle_export.checkpoints import load_model
from hyperstyle_rt import HyperStyle
from hyperstyle_rt.imaging import to_input, write_picture
from measure_refine import app, parse_marks
from refinement.baselines import pivotal_tuning, torch_steps
from refinement.cost import CLOCKS, step_against_generator
from refinement.quality import Methods, measure_quality, summary
from typer.testing import CliRunner


def test_quality_writes_a_report(tiny_bundle: Path, picture: np.ndarray, tmp_path: Path) -> None:
    write_picture(tmp_path / "face.png", picture)
    words = ["quality", tmp_path / "face.png", "--bundle", tiny_bundle, "--steps", "2,8"]
    words += ["--iterations", 1, "--out", tmp_path / "report", "--json"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    means = json.loads(result.stdout)["means"]
    refined = [f"{space} {steps}" for space in ("channels", "codes") for steps in (2, 8)]
    assert list(means) == ["encoder", "iteration 1", *refined]
    assert means["channels 8"]["psnr"] > means["channels 2"]["psnr"] > means["iteration 1"]["psnr"]
    assert all(figures["seconds"] > 0 for figures in means.values())
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"figures.json", "quality.png", "sheet.png"}
    again = CliRunner().invoke(app, [str(word) for word in words])
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_cost_compares_with_the_generator(tiny_bundle: Path, picture: np.ndarray) -> None:
    model = HyperStyle.load(tiny_bundle, "cpu", threads=1)
    found = step_against_generator(model, picture, "codes", 3, CLOCKS["cpu"])
    assert found["forward_passes"] == found["step"] / found["generator"] > 1


def test_torch_takes_the_same_first_step(
    tiny_bundle: Path, tiny_checkpoints: tuple[Path, Path], picture: np.ndarray
) -> None:
    """Adam's first step is the gradient's sign: it must be the runtime's, offset by offset."""
    model = HyperStyle.load(tiny_bundle, "cpu", threads=1)
    inversion = model.invert(picture, 1)
    size = model.bundle.manifest.input_size
    arrays = (
        inversion.latents[None],
        inversion.codes[None],
        to_input(picture, model.bundle.manifest.image_size),
        to_input(picture, size),
    )
    channels = torch_steps(load_model(*tiny_checkpoints), *map(torch.from_numpy, arrays), 1)
    ours = model.refine(inversion, picture, 1).channels
    assert np.mean(np.sign(ours) == np.sign(channels.numpy())) > 0.995


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
    model = HyperStyle.load(tiny_bundle, "cpu", threads=1)
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
