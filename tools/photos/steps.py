"""Training the step of latents: first the draft's mean curvature, then what helps on trajectories.

Where the loss is nearly quadratic, Newton's step is the inverse of the curvature times the
gradient. The mean of J^T J over faces (J the draft's Jacobian), damped by how far latents spread,
gives matrices that work at once. From there they are trained on trajectories: the derivative of the
loss after a step by that step is the next gradient, which the next step needs anyhow, so nothing is
computed for training alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from hyperstyle_export.networks.draft_step import (
    DraftGradient,
    DraftStep,
    DraftStepConfig,
    StepRules,
)
from hyperstyle_export.networks.latent_encoder import LatentEncoder
from hyperstyle_export.networks.mobile_draft import Draft
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan
from hyperstyle_export.readers.mobile_parts import STEP_COUNTS, STEP_LIMITS
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.formats.tensors import serialize
from torch import Tensor, nn
from torch.func import functional_call
from training.randomisation import PHOTOGRAPHS, Randomisation

from .encoder import randomised
from .errors import PhotosError
from .renders import read_set

logger = logging.getLogger(__name__)

COVARIANCE_FLOOR = 1e-4  # of the mean variance
CURVATURE_BATCH = 8
# Of a row by itself: rows move together, so each sees more curvature than its own; and they are
# damped less than what all share, as they have less of it.
OWN_CURVATURE, OWN_DAMPING = 4.0, 1 / 30


@dataclass(frozen=True)
class StepRun(StepRules):
    """What defines a run, beside the step's rules.

    Attributes
    ----------
    batch, iterations:
        Pictures at a time, and steps that are made for each.
    curvature:
        Random pictures' gradients of which the mean curvature is taken.
    damping, reach:
        Of the inverse of the curvature, relative to its mean, and the factor of Newton's step.
    spread:
        See `StepRules`.
    matrix_rate, gain_rate:
        Of Adam, relative to the size of what is trained.
    outlier:
        Loss above which a picture weighs less, so that its derivative is that of one at this loss.
    clean:
        Probability that a picture is not disturbed.
    """

    batch: int = 6
    iterations: int = 5
    curvature: int = 384
    damping: float = 0.7
    reach: float = 0.5
    spread: float = 1.5e-4
    matrix_rate: float = 5e-3
    gain_rate: float = 2e-2
    outlier: float = 0.3
    randomisation: Randomisation = field(default=PHOTOGRAPHS)
    seed: int = 0


def curvature_samples(
    generator: MobileStyleGan, draft: Draft, latents: Tensor, random: torch.Generator
) -> Tensor:
    """White noise pulled back through the draft's picture: [N,R,W] at latents [N,W].

    The mean of a sample's outer product is J^T J, which is the curvature of the sum of squares over
    pixels and channels, halved.
    """
    found = []
    for w in torch.split(latents, CURVATURE_BATCH):
        rows = w[:, None].repeat(1, generator.config.num_latents, 1).requires_grad_(True)
        picture = draft.picture(generator, rows)
        noise = torch.randn(picture.shape, generator=random)
        (gradient,) = torch.autograd.grad(picture, rows, noise)
        found.append(gradient[:, : draft.row + 1])
    return torch.cat(found)


def newton_step(
    config: DraftStepConfig, samples: Tensor, covariance: Tensor, pixels: int, run: StepRun
) -> DraftStep:
    """A step by the mean curvature.

    Parameters
    ----------
    samples:
        Of `curvature_samples`.
    covariance:
        Of w, [W,W]: directions in which latents vary little are followed little.
    pixels:
        Numbers of the draft's picture: the loss is a mean, the curvature of a sum.
    """
    width, count = config.style_width, len(samples)
    floor = COVARIANCE_FLOOR * covariance.diagonal().mean() * torch.eye(width)
    deviations = torch.linalg.cholesky(covariance + floor)
    units = samples @ deviations
    together = units.sum(1)
    shared = together.T @ together / count
    own = OWN_CURVATURE * torch.einsum("nri,nro->rio", units, units) / count
    damping = run.damping * together.square().sum(1).mean() / count
    eye, scale = torch.eye(width), run.reach * pixels / 2
    step = DraftStep(config).requires_grad_(False)
    step.deviations.copy_(deviations)
    step.shared.copy_(scale * torch.linalg.inv(shared + damping * eye))
    step.own.copy_(scale * torch.linalg.inv(own + damping * OWN_DAMPING * eye))
    return step


class StepTrainer:
    """Trains a step's matrices on trajectories from an encoder's latents.

    Parameters
    ----------
    step:
        Where it begins, of `newton_step` or of an earlier run; it is not changed.
    gradient:
        Whose draft also makes the reconstructions: it stands for the generator.
    """

    def __init__(self, run: StepRun, step: DraftStep, gradient: DraftGradient) -> None:
        self.run, self.gradient, self._start = run, gradient, step
        self._moved = nn.ParameterDict(
            {
                "shared": torch.zeros_like(step.shared),
                "own": torch.zeros_like(step.own),
                "rows": torch.zeros(len(step.own), 1, 1),
                "all": torch.zeros(1),
            }
        )
        self._sizes = (
            step.shared.square().mean().sqrt(),
            step.own.square().mean((1, 2), keepdim=True).sqrt(),
        )
        matrices = [self._moved["shared"], self._moved["own"]]
        gains = [self._moved["rows"], self._moved["all"]]
        self.optimiser = torch.optim.Adam(
            [{"params": matrices, "lr": run.matrix_rate}, {"params": gains, "lr": run.gain_rate}],
            betas=(0.8, 0.98),
        )

    def trained(self) -> DraftStep:
        """The step as it is now."""
        step = DraftStep(self._start.config).requires_grad_(False)
        step.load_state_dict({**self._start.state_dict(), **self._parameters()})
        return step

    def train_batch(self, target: Tensor, latents: Tensor) -> list[tuple[float, float]]:
        """Make all steps for pictures [N,3,s,s] in [-1,1] from latents [N,L,W], learning from each.

        Returns
        -------
        Mean square and whole loss before the first step and after every one.
        """
        figures, before = [], None
        for _ in range(self.run.iterations + 1):
            with torch.no_grad():
                made = self.gradient.draft.picture(self.gradient.generator, latents)
            found, loss = self.gradient(target, made, latents)
            figures.append((float((made - target).square().mean()), float(loss.mean())))
            if before is not None:
                self._learn(before, found, loss)
            before = (latents, found, loss)
            with torch.no_grad():
                latents = self._step(*before)
        return figures

    def _learn(self, before: tuple[Tensor, ...], found: Tensor, loss: Tensor) -> None:
        """Follow the derivative of the loss after a step by the step."""
        after = self._step(*before)[:, : found.shape[1]]
        weight = (self.run.outlier / loss).clamp(max=1)[:, None, None]
        self.optimiser.zero_grad()
        torch.autograd.backward((after * found * weight).sum() / len(loss))
        self.optimiser.step()

    def _step(self, latents: Tensor, found: Tensor, loss: Tensor) -> Tensor:
        made: Tensor = functional_call(self._start, self._parameters(), (latents, found, loss))
        return made

    def _parameters(self) -> dict[str, Tensor]:
        start, moved = self._start, self._moved
        return {
            "shared": (start.shared + self._sizes[0] * moved["shared"]) * moved["all"].exp(),
            "own": (start.own + self._sizes[1] * moved["own"]) * moved["rows"].exp(),
        }


@dataclass(frozen=True)
class StepData:
    """What a run reads.

    Attributes
    ----------
    train:
        Folders of shards.
    encoder, average:
        Where the trajectories start.
    rows:
        Of the generator's latents.
    """

    train: tuple[Path, ...]
    encoder: LatentEncoder
    average: Tensor
    rows: int

    def batches(self, run: StepRun) -> Iterator[tuple[Tensor, Tensor]]:
        """Disturbed pictures [N,3,s,s] in [-1,1] and the encoder's latents [N,L,W], without end."""
        parts = [read_set(folder).pictures for folder in self.train]
        random = np.random.default_rng(run.seed)
        number = 0
        while True:
            folders = random.integers(len(parts), size=run.batch)
            chosen = [parts[f][random.integers(len(parts[f]))] for f in folders]
            pictures = torch.from_numpy(np.stack(chosen))
            seen = randomised(pictures, run.randomisation, (run.seed, number)).float() / 127.5 - 1
            with torch.no_grad():
                w = self.encoder(seen) + self.average
            yield seen, w[:, None].repeat(1, self.rows, 1)
            number += 1


def save_step(step: DraftStep, draft: Draft, path: Path) -> None:
    """Write a step with the draft it was trained with, as `readers.mobile_parts` reads it."""
    state = {f"step.{key}": value for key, value in step.state_dict().items()}
    state |= {f"head.{key}": value for key, value in draft.head.state_dict().items()}
    config = step.config
    facts = {name: str(getattr(config, name)) for name in (*STEP_LIMITS, *STEP_COUNTS)}
    facts["blocks"] = str(draft.blocks)
    arrays = {key: value.numpy() for key, value in state.items()}
    write_atomically(path, serialize(arrays, facts), PhotosError)
