"""How well pictures of a bundle's own kind fit, measured and written into its manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import typer
from evaluation import fit as tool
from evaluation.errors import EvaluationError
from evaluation.fit import QUANTILES, fit_of, measure, measure_steps, read_comparison
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


def test_figures_of_a_comparison_are_written_into_the_manifest(
    tiny_faces_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "tinyfaces"
    shutil.copytree(tiny_faces_bundle, bundle)
    random = np.random.default_rng(0)
    l2, lpips = random.uniform(0, 0.5, (2, 6, 40)).round(6)
    rows = {"restyle@0": slice(0, 1), "restyle": slice(1, 6), "restyle+refine": slice(5, 6)}
    records = [
        {
            "picture": str(number),
            "row": row,
            "figures": {"l2": l2[part, number].tolist(), "lpips": lpips[part, number].tolist()},
        }
        for row, part in rows.items()
        for number in range(2 if row == "restyle+refine" else 40)
    ]
    # One that was measured without LPIPS, when more pictures were compared.
    records += [{"picture": "more", "row": row, "figures": {"l2": [0.1] * 6}} for row in rows]
    log = tmp_path / "figures.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    app = typer.Typer()
    app.command()(tool.main)
    command = ["--bundle", str(bundle), "--threads", "1"]
    run = CliRunner().invoke(app, [*command, "--comparison", str(tmp_path)])
    assert run.exit_code == 0, run.output
    fit = Bundle.open(bundle).manifest.fit
    assert fit is not None and fit.pictures == 40
    for number in (0, 5):
        level = fit.after_iterations(number, 0.9)
        assert level.l2 == pytest.approx(np.quantile(l2[number], 0.9), abs=1e-5)
        assert level.perceptual == pytest.approx(np.quantile(lpips[number], 0.9), abs=1e-5)
    level = fit.after_steps(0.5)
    assert level is not None and level.l2 == pytest.approx(l2[5, :2].mean(), abs=1e-5)
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 2 and "--comparison" in run.output
    manifest = Bundle.open(bundle).manifest
    log.write_text("".join(json.dumps(record) + "\n" for record in records[:40]))
    with pytest.raises(EvaluationError, match="the rows restyle@0 and restyle and LPIPS"):
        read_comparison(tmp_path, manifest)
