"""A small network that reads factors off pictures: the judge of edits, independent of any bundle.

It never sees a latent. What it makes of the factors that identity consists of serves as an
embedding: a factor that cannot be seen hardly varies there and so hardly counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from hyperstyle_rt.types import Array
from numpy.typing import NDArray
from picture_sets.folders import known_pictures
from torch import Tensor, nn

Pictures = NDArray[np.uint8]

SIDE = 64  # of the pictures it reads
WIDTHS = (32, 64, 128, 256)
BATCH = 64
LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class Renders:
    """Pictures with known factors.

    Attributes
    ----------
    pictures:
        uint8 [N,64,64,3].
    names:
        F names.
    factors:
        float32 [N,F].
    """

    pictures: Pictures
    names: list[str]
    factors: Array


def read_renders(folder: Path, count: int) -> Renders:
    """Read the first pictures of a folder with a table of factors (:mod:`picture_sets.folders`).

    Raises
    ------
    EditError
        If the folder has no such table or no pictures.
    """
    known = known_pictures(folder, EditError)
    paths = known.paths[:count]
    pictures = np.stack([resize_bilinear(read_picture(path), (SIDE, SIDE)) for path in paths])
    return Renders(pictures, list(known.names), known.values[:count])


class FactorRegressor(nn.Module):
    """Pictures float32 [B,3,64,64] in [-1,1] -> standardised targets [B,T]."""

    def __init__(self, targets: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU()]
        side = SIDE >> len(WIDTHS)
        layers += [nn.Flatten(), nn.Linear(WIDTHS[-1] * side * side, 256), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(256, targets))
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(targets))
        self.register_buffer("std", torch.ones(targets))

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return self.layers(pictures)

    @torch.no_grad()
    def read(self, pictures: Pictures) -> Array:
        """Targets [N,T] of pictures uint8 [N,h,w,3], in their own units."""
        small = [p if p.shape[0] == SIDE else resize_bilinear(p, (SIDE, SIDE)) for p in pictures]
        parts = [self(to_tensor(np.stack(small[n : n + 256]))) for n in range(0, len(small), 256)]
        return (torch.cat(parts) * self.std + self.mean).numpy()


def to_tensor(pictures: Pictures) -> Tensor:
    """uint8 [B,h,w,3] -> float32 [B,3,h,w] in [-1,1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(
    pictures: Pictures,
    targets: Array,
    weights: Array,
    epochs: int,
    on_epoch: Callable[[int, float], None],
) -> FactorRegressor:
    """Train a regressor by least squares; the same pictures always give the same one.

    Parameters
    ----------
    pictures, targets:
        uint8 [N,64,64,3] and float32 [N,T].
    weights:
        float32 [T], how much each target counts.
    on_epoch:
        Called with the number of the epoch and its weighted mean square error.
    """
    torch.manual_seed(0)
    order = torch.Generator().manual_seed(0)
    model = FactorRegressor(targets.shape[1])
    mean, std = torch.from_numpy(targets.mean(0)), torch.from_numpy(targets.std(0) + 1e-6)
    model.mean.copy_(mean)
    model.std.copy_(std)
    wanted = (torch.from_numpy(targets) - mean) / std
    counts = torch.from_numpy(weights / weights.sum())
    steps = epochs * (len(pictures) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for epoch in range(epochs):
        losses = []
        shuffled = torch.randperm(len(pictures), generator=order)
        for rows in shuffled[: len(pictures) // BATCH * BATCH].split(BATCH):
            predicted = model(to_tensor(pictures[rows.numpy()]))
            loss = ((predicted - wanted[rows]).square() * counts).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        on_epoch(epoch, float(np.mean(losses)))
    return model.eval()


def explained(model: FactorRegressor, pictures: Pictures, targets: Array) -> Array:
    """Share of each target's variance that the regressor explains on these pictures: [T]."""
    left = targets - model.read(pictures)
    return 1 - left.var(0) / (targets.var(0) + 1e-12)


def columns(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where these names stand.

    Raises
    ------
    EditError
        If one does not.
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        raise EditError(f"the table has no factor {missing[0]!r}; it has {', '.join(names)}")
    return [list(names).index(name) for name in wanted]
