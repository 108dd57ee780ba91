"""How much is done for a picture: the method alone, or gradient steps until it fits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from hyperstyle_export.bundles.mobile_writer import add_mobile_half_graphs
from hyperstyle_export.bundles.writer import write_manifest
from hyperstyle_rt import Bundle, Model
from hyperstyle_rt.cli.app import app
from hyperstyle_rt.errors import BundleError, HyperStyleError
from hyperstyle_rt.formats.fit import Closeness, Fit, Quantiles
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.imaging.pictures import to_input, write_picture
from hyperstyle_rt.optimising.effort import effort_of, plan_of
from mobile_models import SIDE
from mobilestylegan_files import tiny_model
from typer.testing import CliRunner

STEPS = 60  # of the preset


def fit_of(iterations: float, then: float) -> Fit:
    """All pictures fit as well as this, after the method and after the steps."""
    after, end = (Quantiles((0.0, x, x), (0.0, x, x)) for x in (iterations, then))
    return Fit(8, (0.1, 0.5, 0.9), (Quantiles((9.0,) * 3, (9.0,) * 3), after), end)


@pytest.fixture(scope="module")
def model(tiny_faces_bundle: Path) -> Iterator[Model]:
    with Model.load(tiny_faces_bundle, "cpu", threads=1) as opened:
        yield opened


def fitted(model: Model, fit: Fit | None) -> Model:
    """The model, of a bundle that says this of its kind."""
    manifest = replace(model.bundle.manifest, fit=fit)
    return Model(replace(model.bundle, manifest=manifest), model.backend)


def l2(output: Any, picture: np.ndarray) -> float:
    """In the size of a reconstruction."""
    small = output.reshape(3, SIDE, output.shape[1] // SIDE, SIDE, -1).mean((2, 4))
    return float(np.square(small - to_input(picture, (SIDE, SIDE))[0]).mean())


def test_a_picture_that_fits_as_its_kind_does_is_left_as_the_method_found_it(
    model: Model, picture: np.ndarray
) -> None:
    alone = model.invert(picture, align="never", effort="fast")
    found = fitted(model, fit_of(9.0, 0.0)).invert(picture, align="never")
    said = found.settings["effort"]
    assert said["name"] == "auto" and said["steps"] == 0
    assert said["fits_from"] == {"l2": 9.0, "perceptual": 9.0}
    assert said["before"] == said["after"]
    assert said["before"]["l2"] == pytest.approx(l2(alone.output, picture), rel=1e-3)
    assert np.array_equal(found.latents, alone.latents)
    assert found.channel_offsets is None and "effort" not in alone.settings


def test_another_picture_is_followed_until_it_fits(model: Model, picture: np.ndarray) -> None:
    whole = model.invert(picture, align="never", effort="best").settings["effort"]
    assert whole["name"] == "best" and whole["steps"] == STEPS
    assert "fits_from" not in whole
    between = 0.9 * whole["before"]["l2"] + 0.1 * whole["after"]["l2"]
    near = Fit(8, (0.5,), (Quantiles((0.0,), (0.0,)),), Quantiles((between,), (1e3,)))
    found = fitted(model, near).invert(picture, align="never")
    said = found.settings["effort"]
    assert 0 < said["steps"] < STEPS
    assert said["before"] == whole["before"]
    assert said["after"]["l2"] <= between < said["before"]["l2"]
    assert found.data.channel_offsets is not None


def test_a_rendering_that_is_smaller_than_what_the_networks_see(
    tiny_bundle: Path, picture: np.ndarray
) -> None:
    with Model.load(tiny_bundle, "cpu", threads=1) as tiny:
        manifest = tiny.bundle.manifest
        assert manifest.image_size == (32, 32) and manifest.input_size == (64, 64)
        alone = tiny.invert(picture, align="never", effort="fast").output
        said = tiny.invert(picture, align="never", effort="best").settings["effort"]
    assert said["steps"] > 0 and said["after"]["l2"] < said["before"]["l2"]
    repeated = np.kron(alone, np.ones((2, 2), np.float32))
    error = np.square(repeated - to_input(picture, (64, 64))[0]).mean()
    assert said["before"]["l2"] == pytest.approx(float(error), rel=1e-3)


def test_graphs_in_halves_invert_without_steps(
    tiny_faces_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    directory = shutil.copytree(tiny_faces_bundle, tmp_path / "half")
    add_mobile_half_graphs(tiny_model(), Bundle.open(directory), lambda _step: None)
    with Model.load(directory, "cpu", threads=1, precision="fp16") as half:
        with pytest.raises(HyperStyleError, match=r"gradients need fp32 graphs.*--effort fast"):
            half.invert(picture, align="never")
        assert half.invert(picture, align="never", effort="fast").output is not None


def test_the_plan_of_an_effort(model: Model) -> None:
    manifest = replace(model.bundle.manifest, fit=fit_of(0.3, 0.1))
    plan = plan_of(manifest, "auto")
    assert plan is not None and plan.preset == "refine"
    assert plan.none == Closeness(0.3, 0.3) and plan.enough == Closeness(0.1, 0.1)
    unmeasured = replace(manifest, fit=replace(fit_of(0.3, 0.1), then=None))
    whole = plan_of(unmeasured, "auto")
    assert whole is not None and whole.none == Closeness(0.3, 0.3) and whole.enough is None
    assert Manifest.from_json(unmeasured.to_json()) == unmeasured
    early = plan_of(manifest, "auto", iterations=0)
    assert early is not None and early.none == Closeness(9.0, 9.0)
    other = plan_of(manifest, "auto", method="encoder")
    assert other is not None and other.none is None, "the fit is the default method's"
    assert plan_of(manifest, "fast") is None
    published = replace(manifest, then=None, fit=None)
    assert plan_of(published, "auto") is None, "a published bundle does as published"
    best = plan_of(published, "best")
    assert best is not None and best.preset == "refine" and best.none is None
    with pytest.raises(HyperStyleError, match="fast, auto, best"):
        plan_of(manifest, "most")
    assert effort_of(None, None, None) == "auto"
    assert effort_of(None, "restyle", None) == effort_of(None, None, 3) == "fast"
    assert effort_of("best", "restyle") == "best"


def test_the_command_says_what_was_done_and_why(
    tiny_faces_bundle: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    """Its steps are cut short: what is told of them is tested, not how good they are."""
    manifest = replace(Bundle.open(tiny_faces_bundle).manifest, fit=fit_of(0.001, 0.0))
    bundle = tmp_path / "engines" / "tinyfaces"
    bundle.mkdir(parents=True)
    for file in tiny_faces_bundle.iterdir():
        (bundle / file.name).hardlink_to(file)
    (bundle / "manifest.json").unlink()
    write_manifest(bundle, manifest)
    write_picture(tmp_path / "face.png", picture)
    common = ["invert", str(tmp_path / "face.png"), "--bundle", str(bundle), "--threads", "1"]
    out = ["--out", str(tmp_path / "out"), "--align", "never"]
    run = CliRunner().invoke(app, [*common, *out, "--steps", "2"])
    assert run.exit_code == 0, run.output
    assert "1 iterations" not in run.output
    assert ", 2 gradient steps, as L2 0." in run.output
    assert "is not within L2 0.001 and perceptual 0.001" in run.output
    run = CliRunner().invoke(app, [*common, *out, "--effort", "fast", "--force", "--json"])
    (done,) = json.loads(run.stdout)["inversions"]
    assert done["effort"] is None
    run = CliRunner().invoke(app, [*common, *out, "--steps", "1", "--force", "--json"])
    (done,) = json.loads(run.stdout)["inversions"]
    assert done["effort"]["name"] == "auto" and done["effort"]["steps"] == 1
    run = CliRunner().invoke(app, [*common, "--effort", "best", "--then", "refine"])
    assert run.exit_code == 2 and "leave one of them out" in run.output


def test_a_fit_survives_the_manifest_and_must_make_sense(model: Model) -> None:
    manifest = replace(model.bundle.manifest, fit=fit_of(0.3, 0.1))
    document = manifest.to_json()
    assert Manifest.from_json(document) == manifest
    descending = {**document, "fit": {**document["fit"], "quantiles": [0.5, 0.1, 0.9]}}
    with pytest.raises(BundleError, match="ascend"):
        Manifest.from_json(descending)
    short = {**document, "fit": {**document["fit"], "then": {"l2": [0.1], "perceptual": [0.1]}}}
    with pytest.raises(BundleError, match="list of 3 numbers"):
        Manifest.from_json(short)
    alone = {name: value for name, value in document.items() if name != "then"}
    with pytest.raises(BundleError, match="fit with the fields then"):
        Manifest.from_json(alone)
