"""Descent on all weights of MobileStyleGAN, as a user has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_export.bundles.mobile_writer import write_mobile_bundle
from hyperstyle_export.bundles.writer import BundleFacts, write_manifest
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.fit import Fit, Quantiles
from hyperstyle_rt.imaging.pictures import to_input
from mobile_models import tiny_mobile_model

MAX_ERROR = 2e-5
VARIABLES = ("weights", "features", "noise", "latents")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that says how well pictures of its own kind fit, as the shipped one does."""
    directory = tmp_path_factory.mktemp("engines") / "tinyfaces"
    directory.mkdir()
    facts = BundleFacts("tinyfaces", "noise")
    manifest = write_mobile_bundle(
        tiny_mobile_model(), directory, facts, "fp32", lambda _role: None
    ).manifest
    fit = Fit(1, (0.5,), (Quantiles((0.1,), (0.1,)),) * 6)
    write_manifest(directory, replace(manifest, fit=fit))
    return Bundle.open(directory)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    return Model.load(bundle.directory, "cpu", threads=1)


@pytest.fixture(scope="module")
def tuned(model: Model, picture: np.ndarray) -> Inversion:
    inversion = model.invert(picture, align="never", effort="fast")
    return model.optimise(inversion, picture, steps=4, variables=VARIABLES, align="never")


def test_all_weights_and_a_feature_map_are_free(
    model: Model, tuned: Inversion, picture: np.ndarray
) -> None:
    inputs = model.bundle.manifest.parametric_inputs
    assert inputs is not None and tuned.data.weights is not None
    assert tuned.data.weights.shape == (inputs.num_weights,)
    assert np.count_nonzero(tuned.data.weights) > 0.9 * inputs.num_weights
    target = to_input(picture, model.bundle.manifest.image_size)[0]
    before = model.invert(picture, align="never", effort="fast")
    losses = [np.square(model.synthesise(found)[0] - target).mean() for found in (before, tuned)]
    assert losses[1] < losses[0]


def test_kernels_and_offsets_of_them_change_together(model: Model, picture: np.ndarray) -> None:
    """Offsets' gradients are those of the kernels among the weights, in another scale."""
    inversion = model.invert(picture, align="never", effort="fast")
    names = ("channel_offsets", "weights")
    both = model.optimise(inversion, picture, steps=1, variables=names, align="never")
    alone = model.optimise(inversion, picture, steps=1, variables=names[:1], align="never")
    assert np.count_nonzero(both.data.channel_offsets) > 0.9 * both.data.channel_offsets.size
    np.testing.assert_allclose(both.data.channel_offsets, alone.data.channel_offsets, atol=1e-3)


def test_a_tuned_generator_becomes_a_bundle(
    model: Model, tuned: Inversion, picture: np.ndarray, tmp_path: Path
) -> None:
    """It inverts by the methods of the old one, and says nothing of how well they fit."""
    inversion = model.export_bundle(tuned, tmp_path / "mine")
    manifest = Bundle.open(tmp_path / "mine").manifest
    assert (manifest.fit, manifest.then, manifest.parametric_inputs) == (None, None, None)
    assert manifest.accuracy["rendering_max_abs"] < MAX_ERROR
    with Model.load(tmp_path / "mine", "cpu", threads=1) as mine:
        difference = np.abs(mine.synthesise(inversion) - model.synthesise(tuned)).max()
        assert difference < MAX_ERROR
        assert mine.invert(picture, align="never").settings["iterations"] == 5
        again = mine.invert(picture, method="encoder", align="never")
    expected = model.invert(picture, method="encoder", align="never")
    np.testing.assert_array_equal(again.latents, expected.latents)
