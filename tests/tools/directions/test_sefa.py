"""Directions in closed form from the weights of a generator."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import typer
from directions import sefa as tool
from directions.sefa import DEVIATIONS, affine_maps, closed_form, scaled
from hyperstyle_rt import Bundle, Model
from hyperstyle_rt.formats.directions_file import bundle_directions
from typer.testing import CliRunner


def test_what_most_styles_read_comes_first() -> None:
    maps = np.array([[0, 5, 0], [0, -2, 0], [0, 1, 0], [3, 0, 0], [-1, 0, 0], [0, 0, 9]])
    found = closed_form(maps.astype(np.float32), 2)
    np.testing.assert_allclose(found, [[0, 1, 0], [1, 0, 0]], atol=1e-12)
    latents = np.array([[0, 1, 0], [4, 3, 0], [0, -1, 0], [-4, -3, 0]], np.float32)
    steps = scaled(found, latents)
    np.testing.assert_allclose(steps, DEVIATIONS * np.sqrt([[0, 5, 0], [8, 0, 0]]), rtol=1e-6)


def test_directions_are_put_into_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    opened = Bundle.open(bundle)
    maps = affine_maps(opened)
    assert maps.shape[1] == opened.manifest.latent_width
    app = typer.Typer()
    app.command()(tool.main)
    run = CliRunner().invoke(app, ["--bundle", str(bundle), "--count", "3"])
    assert run.exit_code == 0, run.output
    found = bundle_directions(Bundle.open(bundle))
    assert list(found) == ["sefa_1", "sefa_2", "sefa_3"]
    with Model.load(bundle, "cpu") as model:
        assert "deviations" in model.directions["sefa_1"].unit
    run = CliRunner().invoke(app, ["--bundle", str(tmp_path / "nowhere")])
    assert run.exit_code == 2 and "Traceback" not in run.output
