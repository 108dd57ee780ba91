"""Latents of random portraits in a bundle whose generator takes their factors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_export.bundles.writer import add_file
from hyperstyle_rt import BundleError
from hyperstyle_rt.formats.bundle import LATENT_AVERAGE_NAME, Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from portraits.latents import add_samples
from safetensors.numpy import save

PORTRAITS = find_bundle("portraits")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PORTRAITS, tmp_path / "portraits"))


def test_samples_are_portraits(copied: Path) -> None:
    """Those that ship are of this seed, told in the spread of more portraits."""
    document = (copied / "manifest.json").read_bytes()
    assert add_samples(str(copied), 400, 1, 2000) < 0.15
    bundle = Bundle.open(copied)
    bundle.verify()
    samples = bundle.latent_samples()
    assert samples is not None and samples.shape == (400, 256)
    assert document != (copied / "manifest.json").read_bytes()
    assert bundle.manifest.space == Bundle.open(PORTRAITS).manifest.space

    shipped = Bundle.open(PORTRAITS).latent_samples()
    assert shipped is not None and len(shipped) == 1024
    assert np.abs(shipped[:400] - samples).mean() < 0.1 * samples.std()


def contents(bundle: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def test_bundles_of_other_latents_are_refused(tiny_bundle: Path, copied: Path) -> None:
    """Too narrow a mapping, or an average elsewhere; nothing is written."""
    bundle = Bundle.open(copied)
    average = bundle.latent_average()
    assert average is not None
    add_file(bundle, LATENT_AVERAGE_NAME, save({"latent_average": average + np.float32(5)}))
    for path in (tiny_bundle, copied):
        before = contents(path)
        with pytest.raises(BundleError, match="give a bundle that was trained on portraits"):
            add_samples(str(path), 4, 1, 10)
        assert contents(path) == before
