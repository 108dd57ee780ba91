"""What latents are like: their mean, deviation and principal directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Backend
from ..errors import BundleError
from ..formats.bundle import LATENT_SAMPLES_NAME, Bundle
from ..types import Array

MAPPING = "mapping"
SEED = 123  # StyleGAN2's projector draws its samples with it
BATCH = 500
AVERAGED_OVER = 10_000
WHITENED_OVER = 20_000  # latents: the least deviations are then within half a percent

LEAST_SAMPLED = 0.03
"""Least deviation of samples, of the largest. Those of `portraits` are of fewer factors than a
latent has numbers: even what the encoder finds would be 1e5 from them, by ways they never go."""

MAPPING_SLOPE = 5.0  # undoes the mapping's last leaky ReLU, of slope 0.2


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean [W] of mapped latents, and the root of their summed variance: one number."""

    mean: Array
    deviation: float


@dataclass(frozen=True, eq=False)
class Whitening:
    """Where latents lie before the mapping's last leaky ReLU (Zhu et al. 2020, II2S).

    Attributes
    ----------
    mean:
        float64 [W].
    components:
        float64 [W,W], unit principal directions as rows, by falling variance.
    deviations:
        float64 [W], along them.
    """

    mean: Array
    components: Array
    deviations: Array


def maps_to_one_latent(bundle: Bundle, backend: Backend) -> bool:
    """Whether a bundle says what a latent that all layers share is like."""
    if has_samples(bundle):
        return True
    if MAPPING not in bundle.manifest.graphs:
        return False
    return len(backend.signature(MAPPING).outputs["w"].shape) == 2


def has_samples(bundle: Bundle) -> bool:
    """Whether a bundle carries latents of its own kind, as its mapping takes no normal vectors."""
    return LATENT_SAMPLES_NAME in bundle.manifest.files


def draw_latents(bundle: Bundle, backend: Backend, count: int, seed: int = SEED) -> Array:
    """Latents w [count,W]: of normal random vectors, or of the bundle's own samples.

    Of the latter there may be fewer: none is drawn twice.

    Raises
    ------
    BundleError
        If the bundle has no samples, and no mapping network or one that gives a row for every
        style.
    """
    samples = bundle.latent_samples()
    if samples is not None:
        return samples[np.random.RandomState(seed).permutation(len(samples))[:count]]
    if MAPPING not in bundle.manifest.graphs:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} has no mapping network, which says what latents are "
            "like; build it again with the generator's whole checkpoint"
        )
    if not maps_to_one_latent(bundle, backend):
        raise BundleError(
            f"the mapping network of bundle {bundle.manifest.name!r} gives every layer a latent of "
            "its own, and this method is for one latent; choose another"
        )
    width = backend.signature(MAPPING).inputs["z"].shape[-1]
    z = np.random.RandomState(seed).standard_normal((count, width or 0)).astype(np.float32)
    rows = []
    for start in range(0, count, BATCH):
        outputs = backend.run(MAPPING, {"z": backend.upload(z[start : start + BATCH])})
        rows.append(backend.download(outputs["w"]))
    return np.concatenate(rows)


def average_latents(bundle: Bundle, backend: Backend) -> Array:
    """The average latent, float32 [L,W]: the bundle's own, or the mean of mapped ones.

    Raises
    ------
    BundleError
        If the bundle has neither.
    """
    average = bundle.latent_average()
    if average is not None:
        return average
    mean = spread_of(draw_latents(bundle, backend, AVERAGED_OVER)).mean
    return np.tile(mean, (bundle.manifest.num_latents, 1))


def spread_of(latents: Array) -> Spread:
    """Mean and deviation of latents [n,W] as the projector takes them."""
    exact = latents.astype(np.float64)
    mean = exact.mean(0)
    deviation = float(np.sqrt(np.square(exact - mean).sum() / len(exact)))
    return Spread(mean.astype(np.float32), deviation)


def draw_whitening(bundle: Bundle, backend: Backend) -> Whitening:
    """Principal directions of a bundle's latents; raises as :func:`draw_latents`."""
    latents = draw_latents(bundle, backend, WHITENED_OVER)
    return whitening_of(latents, LEAST_SAMPLED if has_samples(bundle) else 0.0)


def whitening_of(latents: Array, least: float = 0.0) -> Whitening:
    """Principal directions of latents [n,W] before the mapping's last leaky ReLU.

    Parameters
    ----------
    least:
        Share of the largest deviation that every one is taken to be at least.
    """
    before = before_activation(latents.astype(np.float64))
    mean = before.mean(0)
    variances, columns = np.linalg.eigh(np.cov(before, rowvar=False))
    order = np.argsort(variances)[::-1]
    deviations = np.sqrt(np.maximum(variances[order], np.finfo(np.float32).tiny))
    return Whitening(mean, columns[:, order].T, np.maximum(deviations, least * deviations[0]))


def before_activation(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Undo the mapping's last leaky ReLU; its gain stays inside."""
    return np.where(latents >= 0, latents, MAPPING_SLOPE * latents)


def prior(latents: Array, whitening: Whitening) -> tuple[float, Array]:
    """Mean square of whitened latents (II2S's P_N), and its gradient.

    Parameters
    ----------
    latents:
        float32 [L,W].

    Returns
    -------
    loss, gradient:
        The gradient is float32 [L,W].
    """
    exact = latents.astype(np.float64)
    white = (before_activation(exact) - whitening.mean) @ whitening.components.T
    white /= whitening.deviations
    by_white = 2 * white / white.size / whitening.deviations
    gradient = by_white @ whitening.components * np.where(exact >= 0, 1.0, MAPPING_SLOPE)
    return float(np.square(white).mean()), gradient.astype(np.float32)
