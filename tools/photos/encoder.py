"""Training the encoder: what it sees is disturbed, what it must say is not."""

from __future__ import annotations

import copy
import csv
import logging
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.readers.torch_files import read_torch_file
from hyperstyle_rt.files import make_directory, write_atomically
from hyperstyle_rt.formats.tensors import serialize
from hyperstyle_rt.temporaries import remove_leftovers
from torch import Tensor
from training.checkpoint import save_atomically
from training.losses import Perceptual
from training.randomisation import PHOTOGRAPHS, Randomisation, disturbed

from .errors import PhotosError
from .renders import RenderSet, read_set
from .ridge import relative_error
from .small import SmallGenerator

logger = logging.getLogger(__name__)

CHECKPOINT, CURVE, WEIGHTS = "checkpoint.pt", "curve.csv", "encoder.safetensors"
CURVE_COLUMNS = (
    "seen", "seconds",
    *(f"{view}_{name}" for view in ("clean", "disturbed") for name in ("w", "l2", "lpips")),
    *(f"train_{name}" for name in ("latent", "l2", "lpips")),
)  # fmt: skip
VALIDATION_VIEW = 1_000_003  # names the disturbances of held-out pictures, the same every time


@dataclass(frozen=True)
class EncoderRun:
    """What defines a run; a run that is resumed may be given a larger number of pictures.

    Attributes
    ----------
    pictures:
        Seen until the end, along half a cosine of the learning rate.
    batch:
        Pictures a step.
    trunk_rate, linear_rate:
        Peak learning rates of Adam.
    warmup:
        Pictures over which the rate rises.
    average:
        Decay of the weights' moving average, a step.
    painted:
        Pictures of every batch whose latents are painted by the small generator, for the losses
        between pictures; 0 for none.
    l2, lpips:
        Weights of those losses, beside 1 for the latents'.
    randomisation:
        Of what the encoder sees.
    checkpoint_minutes, validation_minutes:
        Between checkpoints, and between lines of the curve.
    """

    pictures: int = 100_000
    batch: int = 32
    trunk_rate: float = 2e-5
    linear_rate: float = 3e-6
    warmup: int = 1000
    average: float = 0.995
    painted: int = 0
    l2: float = 1.0
    lpips: float = 0.8
    randomisation: Randomisation = field(default=PHOTOGRAPHS)
    checkpoint_minutes: float = 3.0
    validation_minutes: float = 6.0
    seed: int = 0

    def rate(self, seen: int) -> float:
        """Factor of the learning rates after so many pictures."""
        rise = min(1.0, (seen + self.batch) / max(self.warmup, self.batch))
        done = min(seen / self.pictures, 1.0)
        return rise * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))


@dataclass(frozen=True)
class EncoderData:
    """What a run reads.

    Attributes
    ----------
    train:
        Folders of shards; those that come while training runs are taken up at the next epoch.
    held_out:
        Renders of the whole generator by other seeds.
    average:
        Of w, [W].
    to:
        w - average times this is compared, [W,W]: see `latent_units`.
    """

    train: tuple[Path, ...]
    held_out: RenderSet
    average: Tensor
    to: Tensor


def latent_units(latents: Tensor, average: Tensor, floor: float = 0.1) -> Tensor:
    """A matrix that brings deviations of w to comparable sizes: [W,W].

    Along a principal axis of deviation s the difference is divided by sqrt(s + floor * largest):
    half way between w itself, where few directions count, and a full whitening, where noise does.
    The mean square of what comes out is 1.
    """
    values, vectors = torch.linalg.eigh(torch.cov((latents - average).T))
    deviations = values.clamp(min=0).sqrt()
    to = vectors / (deviations + floor * deviations.max()).sqrt()
    power = ((latents - average) @ to).square().mean()
    return to / power.sqrt()


class EncoderTrainer:
    """One run of training, resumable at every checkpoint.

    Parameters
    ----------
    encoder:
        Where it begins; a checkpoint in ``out`` takes its place.
    small:
        Paints latents for the losses between pictures, and for validation.
    lpips:
        The perceptual network.
    """

    def __init__(
        self,
        run: EncoderRun,
        data: EncoderData,
        encoder: LatentEncoder,
        small: SmallGenerator,
        lpips: Lpips,
        out: Path,
    ) -> None:
        self.run_config, self.data, self.out = run, data, out
        self.encoder, self.small = encoder, small
        self.average = copy.deepcopy(encoder).eval().requires_grad_(False)
        self._perceptual = Perceptual(lpips, torch.float32)
        linear = list(encoder.latent.parameters())
        self.optimiser = torch.optim.Adam(
            [
                {"params": list(encoder.features.parameters())},
                {"params": linear},
            ],
            betas=(0.9, 0.99),
        )
        self.seen, self.steps, self.seconds = 0, 0, 0.0
        self._stop = False
        make_directory(out, PhotosError)
        remove_leftovers(out)
        self._resume()

    def train(self, minutes: float | None = None) -> None:
        """Train to the end, or until the minutes or a signal end it; then checkpoint."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        begun, before = time.monotonic(), self.seconds
        checkpointed = validated = begun
        if not self.seen:
            self._validate()
        window: list[dict[str, float]] = []
        for pictures, latents in self._batches():
            window.append(self._step(pictures, latents))
            now = time.monotonic()
            self.seconds = before + now - begun
            if now - checkpointed > 60 * self.run_config.checkpoint_minutes:
                self._checkpoint()
                checkpointed = now
            if now - validated > 60 * self.run_config.validation_minutes:
                self._validate(window)
                window, validated = [], now
            late = minutes is not None and now - begun > 60 * minutes
            if self._stop or late or self.seen >= self.run_config.pictures:
                break
        self._checkpoint()
        self._validate(window)

    def _step(self, pictures: Tensor, latents: Tensor) -> dict[str, float]:
        run, data = self.run_config, self.data
        target = latents - data.average
        seen = randomised(pictures, run.randomisation, (run.seed, self.steps))
        predicted = self.encoder(seen.float() / 127.5 - 1)
        loss = ((predicted - target) @ data.to).square().mean()
        figures = {"latent": float(loss.detach())}
        if run.painted:
            made = self.small(predicted[: run.painted] + data.average)
            truth = pictures[: run.painted].float() / 127.5 - 1
            l2 = (made - truth).square().mean()
            lpips = self._perceptual(made, truth).mean()
            loss = loss + run.l2 * l2 + run.lpips * lpips
            figures |= {"l2": float(l2.detach()), "lpips": float(lpips.detach())}
        peaks = (run.trunk_rate, run.linear_rate)  # of this run, not of the one resumed
        for group, peak in zip(self.optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * run.rate(self.seen)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimiser.step()
        self.seen += len(pictures)
        self.steps += 1
        share = 1 - min(run.average, self.steps / (self.steps + 10))
        with torch.no_grad():
            for average, source in zip(
                self.average.parameters(), self.encoder.parameters(), strict=True
            ):
                average.lerp_(source, share)
        return figures

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches without end; the folders are listed again at every epoch."""
        size = self.run_config.batch
        while True:
            parts = [read_set(folder) for folder in self.data.train]
            w = torch.from_numpy(np.concatenate([p.w for p in parts]))
            pictures = torch.from_numpy(np.concatenate([p.pictures for p in parts]))
            if len(w) < size:
                raise PhotosError(
                    f"{len(w)} pictures are fewer than the batch of {size}; render more, or give a "
                    "smaller `batch` in --config"
                )
            random = torch.Generator().manual_seed(self.run_config.seed * 1_000_003 + self.seen)
            order = torch.randperm(len(w), generator=random)
            logger.info("an epoch of %d pictures", len(w))
            for start in range(0, len(w) - size + 1, size):
                chosen = order[start : start + size]
                yield pictures[chosen], w[chosen]

    # Validation

    def _validate(self, window: list[dict[str, float]] | None = None) -> None:
        """Append a line to the curve and write the weights."""
        figures = validation(self.average, self.small, self.data, self._perceptual)
        for name in window[0] if window else ():
            assert window is not None
            figures[f"train_{name}"] = float(np.mean([f[name] for f in window]))
        line = {"seen": self.seen, "seconds": round(self.seconds), **figures}
        logger.info("%s", " ".join(f"{k} {v:.4g}" for k, v in line.items()))
        path = self.out / CURVE
        is_new = not path.exists()
        with path.open("a", newline="", encoding="ascii") as file:
            writer = csv.DictWriter(file, CURVE_COLUMNS)
            if is_new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" for k, v in line.items()})
        save_encoder(self.average, self.data.average, self.out / WEIGHTS)

    # Checkpoints

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stop = True

    def _checkpoint(self) -> None:
        contents: dict[str, Any] = {
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "seen": self.seen,
            "steps": self.steps,
            "seconds": self.seconds,
        }
        save_atomically(self.out / CHECKPOINT, contents)

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        stored = read_torch_file(path)
        self.encoder.load_state_dict(stored["encoder"])
        self.average.load_state_dict(stored["average"])
        self.optimiser.load_state_dict(stored["optimiser"])
        self.seen, self.steps = stored["seen"], stored["steps"]
        self.seconds = stored["seconds"]
        logger.info("resumed %s after %d pictures", path, self.seen)


def randomised(pictures: Tensor, random: Randomisation, seed: tuple[int, ...]) -> Tensor:
    """Pictures uint8 [N,3,h,h] with what may happen to them, equal ones for equal seeds."""
    seen = np.ascontiguousarray(pictures.permute(0, 2, 3, 1).numpy())
    made = [disturbed(picture, random, (*seed, number)) for number, picture in enumerate(seen)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def validation(
    encoder: LatentEncoder,
    small: SmallGenerator,
    data: EncoderData,
    perceptual: Perceptual,
    painted: int = 24,
) -> dict[str, float]:
    """Figures on held-out renders, clean and disturbed.

    ``w`` is the squared error of latents relative to always saying the average; ``l2`` and
    ``lpips`` compare what the small generator makes of predicted and true latents.
    """
    pictures = torch.from_numpy(data.held_out.pictures)
    truth = torch.from_numpy(data.held_out.w) - data.average
    views = {
        "clean": pictures,
        "disturbed": randomised(pictures, PHOTOGRAPHS, (VALIDATION_VIEW,)),
    }
    figures = {}
    with torch.no_grad():
        known = small(truth[:painted] + data.average)
        for name, view in views.items():
            predicted = encoder(view.float() / 127.5 - 1)
            made = small(predicted[:painted] + data.average)
            figures[f"{name}_w"] = relative_error(predicted, truth)
            figures[f"{name}_l2"] = float((made - known).square().mean())
            figures[f"{name}_lpips"] = float(perceptual(made, known).mean())
    return figures


def save_encoder(encoder: LatentEncoder, average: Tensor, path: Path) -> None:
    """Write an encoder as float16 safetensors, with the average latent it is relative to."""
    state = {f"encoder.{k}": v.half().numpy() for k, v in encoder.state_dict().items()}
    state["latent_avg"] = average.float().numpy()
    config = {k: str(v) for k, v in asdict(encoder.features.config).items()}
    write_atomically(path, serialize(state, config), PhotosError)


def new_encoder(style_width: int) -> LatentEncoder:
    """An encoder of the default sizes."""
    return LatentEncoder(FeaturesConfig(), style_width)
