"""Latents of faces whose factors are known, for bundles whose generator was trained on factors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.model import Model
from numpy.typing import NDArray
from training.factors import Factors, read_factors

BATCH = 64


def factors_taken(
    names: tuple[str, ...], table: Path, generator: Path, error: type[HyperStyleError]
) -> Factors:
    """How a generator that tools/training wrote takes the factors of a table.

    Raises
    ------
    HyperStyleError
        Of the kind given, if it takes none, or others.
    """
    factors = read_factors(generator)
    if factors is None:
        raise error(f"{generator} has no factors; give a generator that was trained on renders")
    if factors.names != names:
        raise error(f"{table} and {generator} have different factors")
    return factors


def mapped_latents(
    model: Model, factors: Factors, values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Factors [N,F] through the bundle's mapping network: latents [N,W]."""
    z = factors.to_z(torch.from_numpy(values), model.bundle.manifest.latent_width).numpy()
    return np.concatenate([model.map(z[n : n + BATCH]) for n in range(0, len(z), BATCH)])
