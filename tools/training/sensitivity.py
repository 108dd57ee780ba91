"""The units in which latents are compared: how much a picture changes with them.

Equal steps of w in different directions change a picture by amounts that differ a thousandfold.
With the mean metric M = E[J^T J] of the generator's Jacobian J, v = M^(1/2) (w - average) is a
latent whose squared error predicts the squared error of the picture. The encoder learns v; the
change of basis is folded into its last layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .frozen import FrozenGenerator

BATCHES = 40
BATCH = 32
POOLING = (1, 4)  # pixels and blocks of 4x4 count alike: fine and coarse changes
DAMPING = 0.1  # of an even metric over the latents' own deviations


@dataclass(frozen=True)
class Units:
    """The change of basis, [W,W] each: v = (w - average) @ to, w = v @ back + average."""

    to: Tensor
    back: Tensor


def sensitivity_units(
    generator: FrozenGenerator, latents: Tensor, source: torch.Generator
) -> Units:
    """Estimate the units around latents [N,W] that occur; v has a mean square of about 1."""
    width = latents.shape[1]
    metric = torch.zeros(width, width, device=latents.device)
    for _ in range(BATCHES):
        chosen = torch.randint(len(latents), (BATCH,), generator=source)
        w = latents[chosen.to(latents.device)].clone().requires_grad_()
        picture = generator(w)
        for block in POOLING:
            pooled = F.avg_pool2d(picture, block)
            noise = torch.randn(pooled.shape, generator=source).to(pooled.device)
            projected = (pooled * noise).sum() / pooled[0].numel() ** 0.5
            (cotangent,) = torch.autograd.grad(projected, w, retain_graph=True)
            metric += cotangent.T @ cotangent / BATCH
    covariance = torch.cov(latents.T)
    metric = metric / torch.trace(metric @ covariance)  # mean of |M^(1/2) (w - average)|^2 is 1
    metric = metric + DAMPING * torch.diag(1 / latents.var(0).clamp(min=1e-8)) / width
    values, vectors = torch.linalg.eigh(metric)
    values = values.clamp(min=float(values.max()) * 1e-9) * width
    to = vectors @ torch.diag(values.sqrt()) @ vectors.T
    return Units(to, vectors @ torch.diag(values.rsqrt()) @ vectors.T)
