"""How well pictures of a bundle's own kind fit, measured and written into its manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import typer
from evaluation import fit as tool
from evaluation.errors import EvaluationError
from evaluation.fit import QUANTILES, fit_of, measure, measure_steps, read_measured
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_rt import Bundle, Model
from hyperstyle_rt.imaging.pictures import write_picture
from mobile_models import SIDE
from models import narrow_lpips
from typer.testing import CliRunner


def test_figures_of_every_iteration_are_those_of_the_reconstruction(
    tiny_faces_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "face.png"
    write_picture(path, picture)
    done: list[int] = []
    with Model.load(tiny_faces_bundle, "cpu", threads=1) as model:
        l2, lpips = measure(model, [path, path], narrow_lpips(ALEXNET), done.append)
        assert done == [1, 2]
        count = model.bundle.manifest.method().iterations
        assert l2.shape == lpips.shape == (count + 1, 2)
        assert np.array_equal(l2[:, 0], l2[:, 1])
        steps = model.invert(picture, align="never", effort="best").settings["effort"]
        assert l2[-1, 0] == pytest.approx(steps["before"]["l2"], rel=1e-3)
        (after,) = measure_steps(model, [path])
        assert after == (steps["after"]["l2"], steps["after"]["perceptual"])
    fit = fit_of(l2, lpips, [after])
    assert fit.pictures == 2 and fit.quantiles == QUANTILES
    assert fit.after_iterations(count, 0.5).l2 == pytest.approx(l2[-1, 0], abs=1e-5)
    assert fit.then is not None and fit_of(l2, lpips).then is None
    assert model.bundle.manifest.input_size == (SIDE, SIDE)


def test_figures_of_before_are_written_into_the_manifest(
    tiny_faces_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "tinyfaces"
    shutil.copytree(tiny_faces_bundle, bundle)
    random = np.random.default_rng(0)
    l2, lpips = random.uniform(0, 0.5, (2, 6, 40))
    np.savez(tmp_path / "figures.npz", l2=l2, lpips=lpips)
    app = typer.Typer()
    app.command()(tool.main)
    command = ["--bundle", str(bundle), "--threads", "1"]
    run = CliRunner().invoke(app, [*command, "--measured", str(tmp_path / "figures.npz")])
    assert run.exit_code == 0, run.output
    fit = Bundle.open(bundle).manifest.fit
    assert fit is not None and fit.pictures == 40 and fit.then is None
    level = fit.after_iterations(5, 0.9)
    assert level.l2 == pytest.approx(np.quantile(l2[5], 0.9), abs=1e-5)
    assert level.perceptual == pytest.approx(np.quantile(lpips[5], 0.9), abs=1e-5)
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 2 and "--measured" in run.output
    np.savez(tmp_path / "bad.npz", l2=l2, lpips=lpips[:2])
    with pytest.raises(EvaluationError, match="of one shape"):
        read_measured(tmp_path / "bad.npz")
