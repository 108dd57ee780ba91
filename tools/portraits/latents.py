"""Latents of random portraits, for bundles whose mapping network takes their factors."""

from __future__ import annotations

import numpy as np
from hyperstyle_export.bundles.writer import add_file
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats.bundle import LATENT_SAMPLES_NAME, Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.formats.tensors import serialize
from hyperstyle_rt.model import Model
from numpy.typing import NDArray
from picture_sets.known_latents import mapped_latents
from training.factors import Factors

from .factors import NAMES, to_vector
from .population import person_at


def add_samples(bundle: str, count: int, seed: int, trained_on: int) -> float:
    """Add latents of the first portraits of a seed to a bundle, as float16.

    Parameters
    ----------
    bundle:
        Name or directory; ``latent_samples.safetensors`` and the manifest are written.
    trained_on:
        How many portraits of the seed the generator's training began with: factors are told in
        their standard deviations.

    Returns
    -------
    How far the samples' mean is from the bundle's average latent, in their spread: a generator of
    other factors shows here.

    Raises
    ------
    BundleError
        If the bundle's latents are no portraits': then nothing is written.
    """
    opened = Bundle.open(find_bundle(bundle))
    average, width = opened.latent_average(), opened.manifest.latent_width
    if average is None or width <= len(NAMES):
        raise BundleError(f"{bundle} takes no factors; give a bundle that was trained on portraits")
    values = np.stack([to_vector(person_at(seed, n)) for n in range(max(count, trained_on))])
    factors = Factors.of(NAMES, values[:trained_on], width)
    with Model.load(opened.directory, "cpu") as model:
        samples = mapped_latents(model, factors, values[:count])
    distance = _distance(samples, average[0])
    if distance > 0.2:
        raise BundleError(
            f"{bundle} maps portraits of seed {seed} to latents whose mean is {distance:.2f} of "
            "their spread from its average; give a bundle that was trained on portraits"
        )
    data = serialize({"latent_samples": samples.astype(np.float16)}, {})
    add_file(opened, LATENT_SAMPLES_NAME, data)
    return distance


def _distance(samples: NDArray[np.float32], average: NDArray[np.float32]) -> float:
    mean = samples.mean(0)
    spread = np.sqrt(np.square(samples - mean).sum(1).mean())
    return float(np.linalg.norm(mean - average) / spread)
