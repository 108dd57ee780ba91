"""What the commands do, apart from their options."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from hyperstyle_export.networks.draft_step import (
    DraftGradient,
    DraftSearch,
    DraftStep,
    DraftStepConfig,
    StepRules,
)
from hyperstyle_export.networks.latent_encoder import LatentEncoder
from hyperstyle_export.networks.mobile_draft import Draft
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan
from hyperstyle_export.readers.mobile_parts import read_draft_step, read_latent_encoder
from hyperstyle_rt.cli.outputs import check_writable
from hyperstyle_rt.files import make_directory
from hyperstyle_rt.imaging.pictures import to_picture, write_picture
from mistakes import check_picture_place, check_place
from picture_sets.folders import pictures_in
from training.config_files import read_config

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
from .evaluation import Inverter, Judges, compared, read_photographs, reconstructed
from .heads import HeadSamples, fit_head, sample_heads
from .renders import draw_latents, read_set
from .ridge import fit_ridge
from .small import (
    SmallGenerator,
    average_latent,
    picture_side,
    read_generator,
    read_head,
    save_head,
)
from .steps import StepData, StepRun, StepTrainer, curvature_samples, newton_step, save_step
from .trunks import features_of, load_trunks

logger = logging.getLogger(__name__)

SHOWN = 10  # photographs on a sheet
HEAD_BATCH, HEAD_CROP = 4, 32
HELD_OUT_RENDERS = 60
DAMPINGS = (0.3, 1.0, 3.0, 10.0)
RIDGE_CLEAN = 0.4  # of the pictures that ridge regression sees are as they are
UNIT_LATENTS = 20_000
UNIT_SEED = 7
REPORTED = 8  # batches between lines, and between writing the step


def fit_heads(
    wheel: Path, out: Path, blocks: Sequence[int], renders: int, steps: int, seed: int
) -> Iterator[str]:
    """Fit heads after the numbers of blocks and write them; a line about each."""
    check_writable(out)
    model = read_generator(wheel)
    average = average_latent(model)
    random = torch.Generator().manual_seed(seed)
    latents = (
        draw_latents(model, average, seed, number, HEAD_BATCH)
        for number in range(-(-renders // HEAD_BATCH))
    )
    samples = HeadSamples.joined(list(sample_heads(model, latents, blocks, HEAD_CROP, random)))
    make_directory(out, PhotosError)
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
        judges: Judges,
        views: int,
        minutes: float | None,
    ) -> None:
        """Begin with ridge regression, or resume, and train."""
        check_writable(self.out)
        run = EncoderRun() if config is None else read_config(config, EncoderRun)
        model = read_generator(self.wheel)
        small = SmallGenerator(model, read_head(self.head, model, self.blocks), self.blocks)
        data = self._data(model)
        encoder = new_encoder(model.config.style_width)
        if not (self.out / CHECKPOINT).exists():
            if judges.identity is None:
                raise PhotosError(
                    "an encoder begins with dlib's network; give its file (--identity)"
                )
            load_trunks(encoder.features, judges.lpips, judges.identity)
            self._ridge(encoder, data, run, views)
        trainer = EncoderTrainer(run, data, encoder, small, judges.lpips, self.out)
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
                features.append(features_of(encoder.features, seen))
                latents.append(torch.from_numpy(known.w) - data.average)
        held_out = (
            features_of(encoder.features, torch.from_numpy(data.held_out.pictures)),
            torch.from_numpy(data.held_out.w) - data.average,
        )
        kinds = encoder.features.config.feature_widths
        fit = fit_ridge(torch.cat(features), torch.cat(latents), kinds, held_out, DAMPINGS)
        with torch.no_grad():
            encoder.latent.weight.copy_(fit.weight)
            encoder.latent.bias.copy_(fit.bias)
        logger.info("ridge of %g: held-out error of w %.4f", fit.damping, fit.held_out)


def evaluate_encoder(
    wheel: Path,
    encoder_file: Path,
    step_file: Path | None,
    folder: Path,
    judges: Judges,
    iterations: int,
    sheet: Path | None,
    limit: int | None,
) -> Iterator[str]:
    """Measure an encoder and its step on aligned photographs.

    Writes a sheet, the photographs above, and gives a line of figures for the encoder, for what the
    iterations begin with (0), and for every iteration.
    """
    if sheet is not None:
        check_picture_place(sheet, "--sheet")
    model = read_generator(wheel)
    encoder, average = read_latent_encoder(encoder_file, model)
    inverter = Inverter(model, encoder, average)
    if step_file is not None:
        step, draft = read_draft_step(step_file, model)
        gradient = DraftGradient(model, draft, judges.lpips, step.config.perceptual)
        inverter = Inverter(model, encoder, average, DraftSearch(step, gradient))
    truth = read_photographs(pictures_in(folder, PhotosError)[:limit])
    made = reconstructed(inverter, truth, 0 if step_file is None else iterations)
    if sheet is not None:
        rows = [
            np.concatenate([to_picture(p) for p in row[:SHOWN].numpy()], axis=1)
            for row in (truth, *made)
        ]
        write_picture(sheet, np.concatenate(rows))
    names = ["encoder", *(f"iteration {number}" for number in range(len(made) - 1))]
    for name, pictures in zip(names, made, strict=True):
        figures = compared(pictures, truth, judges).summary()
        said = ", ".join(f"{k} {v:.4f}" for k, v in figures.items())
        yield f"{len(truth)} photographs, {name}: {said}"


@dataclass(frozen=True)
class StepCommand:
    """Paths of a run of the step."""

    wheel: Path
    encoder: Path
    head: Path
    blocks: int
    train: tuple[Path, ...]
    out: Path

    def run(self, config: Path | None, judges: Judges, minutes: float) -> Iterator[str]:
        """Begin with the mean curvature, or with the file that is there; a line now and then."""
        check_place(self.out)
        run = StepRun() if config is None else read_config(config, StepRun)
        model = read_generator(self.wheel)
        encoder, average = read_latent_encoder(self.encoder, model)
        draft = Draft(read_head(self.head, model, self.blocks), self.blocks)
        if self.out.exists():
            step, draft = read_draft_step(self.out, model)
        else:
            step = self._newton(model, draft, average, run)
            save_step(step, draft, self.out)
        gradient = DraftGradient(model, draft, judges.lpips, run.perceptual)
        trainer = StepTrainer(run, step, gradient)
        data = StepData(self.train, encoder, average, model.config.num_latents)
        began, window = time.monotonic(), []
        for number, (pictures, latents) in enumerate(data.batches(run), start=1):
            if time.monotonic() - began > 60 * minutes:
                break
            window.append(trainer.train_batch(pictures, latents))
            if number % REPORTED == 0:
                save_step(trainer.trained(), draft, self.out)
                means = np.mean(window, axis=0)
                yield f"{number} batches: L2 " + " ".join(f"{l2:.4f}" for l2, _ in means)
                window = []
        save_step(trainer.trained(), draft, self.out)

    def _newton(
        self, model: MobileStyleGan, draft: Draft, average: torch.Tensor, run: StepRun
    ) -> DraftStep:
        random = torch.Generator().manual_seed(run.seed)
        latents = draw_latents(model, average, UNIT_SEED, 0, UNIT_LATENTS)
        samples = curvature_samples(model, draft, latents[: run.curvature], random)
        rules = {rule.name: getattr(run, rule.name) for rule in fields(StepRules)}
        config = DraftStepConfig(model.config.style_width, draft.row + 1, **rules)
        return newton_step(config, samples, torch.cov(latents.T), 3 * draft.side**2, run)
