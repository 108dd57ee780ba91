"""Ridge regression from features to latents, in the space of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RidgeFit:
    """A linear map, and what it leaves unexplained.

    Attributes
    ----------
    damping:
        Of the ridge, where each kind of feature has a mean square norm of 1.
    held_out:
        Squared error on samples held out of the fit, relative to always saying zero.
    weight, bias:
        [O,F] and [O].
    """

    damping: float
    held_out: float
    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Features [N,F] of any type -> [N,O]."""
        return features.float() @ self.weight.T + self.bias


def fit_ridge(
    features: Tensor,
    truth: Tensor,
    kinds: Sequence[int],
    held_out: tuple[Tensor, Tensor],
    dampings: Sequence[float],
) -> RidgeFit:
    """Fit a linear map with the damping that is best on samples held out.

    Parameters
    ----------
    features, truth:
        [N,F] of any type, and [N,O]. Solved with a matrix [N,N]: there are fewer samples than
        features.
    kinds:
        How many features are of each kind; kinds are given equal power first.
    held_out:
        The same of other samples.
    dampings:
        To try.
    """
    mean, centre = features.float().mean(0), truth.mean(0)
    x = features.float() - mean
    scale = torch.cat([_equal_power(part) for part in torch.split(x, list(kinds), 1)])
    x /= scale
    gram, fits = x @ x.T, []
    for damping in dampings:
        factor = torch.linalg.cholesky(gram + damping * torch.eye(len(gram)))
        dual = torch.cholesky_solve(truth - centre, factor)
        weight = (dual.T @ x) / scale
        fits.append(_measured(damping, weight, centre - weight @ mean, held_out))
    return min(fits, key=lambda fit: fit.held_out)


def relative_error(predicted: Tensor, truth: Tensor) -> float:
    """Squared error relative to always saying zero."""
    return float((predicted - truth).square().sum() / truth.square().sum())


def _equal_power(part: Tensor) -> Tensor:
    size = part.square().mean().sqrt() * part.shape[1] ** 0.5
    return size.expand(part.shape[1])


def _measured(
    damping: float, weight: Tensor, bias: Tensor, held_out: tuple[Tensor, Tensor]
) -> RidgeFit:
    fit = RidgeFit(damping, 0.0, weight, bias)
    return RidgeFit(damping, relative_error(fit(held_out[0]), held_out[1]), weight, bias)
