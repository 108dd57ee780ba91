"""Where the hypernetwork's heads begin: directions in which offsets lower the loss.

An affine head with random columns makes the trunk search a space of 10^5 dimensions from noise, and
for the first hour nothing comes of it. The gradients of the loss with respect to a layer's offsets,
over a thousand pictures, lie mostly in a few dozen directions. With these as columns, evened out by
how much a picture changes along each, the trunk only has to learn coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import Start

Generate = Callable[[Tensor, dict[int, Tensor]], Tensor]
Samples = dict[int, Tensor]
"""Offset index -> gradients with respect to the layer's offsets, [N,O*I]."""

POOLING = (1, 4)  # as in sensitivity.py
SENSITIVITY_PICTURES = 360


def head_columns(losses: Samples, changes: Samples, code_width: int, start: Start) -> Samples:
    """Columns of the heads of the layers, [O*I,code_width] each.

    Parameters
    ----------
    losses:
        Gradients of the loss, a row a picture.
    changes:
        Gradients of random projections of the pictures: how much they change.
    """
    columns = {}
    for index, gradients in losses.items():
        directions = _main_directions(gradients, code_width)  # [K,O*I]
        projected = changes[index] @ directions.T
        sensitivity = projected.T @ projected / len(projected)  # [K,K]
        values, vectors = torch.linalg.eigh(sensitivity)
        values = values.clamp(min=0) + start.damping * values.mean()
        whitening = (vectors * values.rsqrt()) @ vectors.T
        columns[index] = start.unit * directions.T @ whitening
    return columns


def _main_directions(gradients: Tensor, count: int) -> Tensor:
    """Right singular vectors of rows of unit length, [count,O*I]; all pictures count alike."""
    rows = gradients / (gradients.norm(dim=1, keepdim=True) + 1e-12)
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    values, vectors = values[-count:].flip(0).clamp(min=1e-12), vectors[:, -count:].flip(1)
    return (vectors / values.sqrt()).T @ rows


def loss_gradients(
    generate: Generate,
    batches: Iterable[tuple[Tensor, Tensor]],
    shapes: dict[int, tuple[int, int]],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Samples:
    """Gradients of minus the loss at offsets of zero.

    Parameters
    ----------
    batches:
        Latents [B,W] and pictures [B,3,h,w].
    shapes:
        Offset index -> (O, I).
    loss:
        (reconstruction, picture) -> [B].
    """
    samples: dict[int, list[Tensor]] = {index: [] for index in shapes}
    for latents, target in batches:
        offsets = _zeros(shapes, latents)
        rendering = generate(latents, offsets)
        _append(samples, -loss(rendering, target).sum(), offsets)
    return {index: torch.cat(rows) for index, rows in samples.items()}


def change_gradients(
    generate: Generate,
    batches: Iterable[tuple[Tensor, Tensor]],
    shapes: dict[int, tuple[int, int]],
    source: torch.Generator,
) -> Samples:
    """Gradients of random projections of the pictures, whose mean square is that of a pixel."""
    samples: dict[int, list[Tensor]] = {index: [] for index in shapes}
    for latents, _ in batches:
        offsets = _zeros(shapes, latents)
        rendering = generate(latents, offsets)
        projected = rendering.new_zeros(())
        for block in POOLING:
            pooled = F.avg_pool2d(rendering, block)
            noise = torch.randn(pooled.shape, generator=source).to(rendering.device)
            scale = (len(POOLING) * pooled[0].numel()) ** 0.5
            projected = projected + (pooled * noise).sum() / scale
        _append(samples, projected, offsets)
    return {index: torch.cat(rows) for index, rows in samples.items()}


def _zeros(shapes: dict[int, tuple[int, int]], latents: Tensor) -> dict[int, Tensor]:
    count = len(latents)
    return {
        index: latents.new_zeros(count, *shape, 1, 1).requires_grad_()
        for index, shape in shapes.items()
    }


def _append(samples: dict[int, list[Tensor]], value: Tensor, offsets: dict[int, Tensor]) -> None:
    gradients: Sequence[Tensor] = torch.autograd.grad(value, list(offsets.values()))
    for rows, gradient in zip(samples.values(), gradients, strict=True):
        rows.append(gradient.flatten(1).cpu())
