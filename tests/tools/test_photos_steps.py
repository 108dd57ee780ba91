"""Training of the step that iterates after the encoder, on a generator of a few channels."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hyperstyle_export.networks.draft_step import (
    DraftGradient,
    DraftSearch,
    DraftStep,
    DraftStepConfig,
)
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.mobile_draft import Draft
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan, PictureHead
from hyperstyle_export.readers.mobile_parts import read_draft_step
from hyperstyle_export.readers.torch_files import CheckpointError
from mobile_models import filled
from mobilestylegan_files import TINY, tiny_model
from models import narrow_lpips
from photos import commands, evaluation
from photos.encoder import save_encoder
from photos.evaluation import Inverter, Judges, reconstructed
from photos.renders import draw_latents, render_set
from photos.small import average_latent, save_head
from photos.steps import (
    StepData,
    StepRun,
    StepTrainer,
    curvature_samples,
    newton_step,
    save_step,
)

BLOCKS = 3
RUN = StepRun(batch=4, curvature=64, matrix_rate=2e-2)


@pytest.fixture(scope="module")
def model() -> MobileStyleGan:
    return tiny_model()


@pytest.fixture(scope="module")
def draft() -> Draft:
    return Draft(filled(PictureHead(TINY.channels[BLOCKS], TINY.style_width, 6), "head"), BLOCKS)


@pytest.fixture(scope="module")
def average(model: MobileStyleGan) -> torch.Tensor:
    return average_latent(model)


@pytest.fixture(scope="module")
def first(model: MobileStyleGan, draft: Draft, average: torch.Tensor) -> DraftStep:
    latents = draw_latents(model, average, 1, 0, 2000)
    random = torch.Generator().manual_seed(0)
    samples = curvature_samples(model, draft, latents[: RUN.curvature], random)
    config = DraftStepConfig(TINY.style_width, draft.row + 1, share=RUN.share)
    return newton_step(config, samples, torch.cov(latents.T), 3 * draft.side**2, RUN)


def rows(w: torch.Tensor) -> torch.Tensor:
    return w[:, None].repeat(1, TINY.num_latents, 1)


def test_curvature_is_that_of_the_draft(model: MobileStyleGan, draft: Draft) -> None:
    """The mean outer product of the samples is J^T J, taken here by finite differences."""
    w = torch.randn(1, TINY.style_width).expand(4000, -1)
    samples = curvature_samples(model, draft, w, torch.Generator().manual_seed(1)).sum(1)
    found = samples.T @ samples / len(samples)
    with torch.no_grad():
        middle, size = draft.picture(model, rows(w[:1])), 1e-2
        ahead = draft.picture(model, rows(w[:1] + size * torch.eye(TINY.style_width)))
    jacobian = ((ahead - middle) / size).flatten(1)
    expected = jacobian @ jacobian.T
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_newton_steps_approach_pictures_the_generator_made(
    model: MobileStyleGan, draft: Draft, average: torch.Tensor, first: DraftStep
) -> None:
    gradient = DraftGradient(model, draft, narrow_lpips(ALEXNET), RUN.perceptual)
    truth = draw_latents(model, average, 2, 0, 8)
    target = draft.picture(model, rows(truth)).detach()
    figures = StepTrainer(RUN, first, gradient).train_batch(target, rows(average.expand(8, -1)))
    l2 = [square for square, _ in figures]
    assert all(after < 1.05 * before for before, after in itertools.pairwise(l2))
    assert l2[-1] < 0.9 * l2[0]


def test_training_makes_trajectories_better(
    model: MobileStyleGan, draft: Draft, average: torch.Tensor, first: DraftStep
) -> None:
    gradient = DraftGradient(model, draft, narrow_lpips(ALEXNET), RUN.perceptual)
    trainer = StepTrainer(RUN, first, gradient)
    lost = []
    for number in range(30):
        truth = draw_latents(model, average, 3, number % 3, 4)
        target = draft.picture(model, rows(truth)).detach()
        lost.append(trainer.train_batch(target, rows(average.expand(4, -1)))[-1][1])
    assert np.mean(lost[-3:]) < 0.9 * np.mean(lost[:3])
    assert not torch.equal(trainer.trained().shared, first.shared)


def test_a_stored_step_is_read_again(
    model: MobileStyleGan, draft: Draft, first: DraftStep, tmp_path: Path
) -> None:
    path = tmp_path / "restyle.safetensors"
    save_step(first, draft, path)
    step, own = read_draft_step(path, model)
    assert step.config == first.config
    assert (own.blocks, own.side) == (draft.blocks, draft.side)
    for key, value in first.state_dict().items():
        assert torch.equal(step.state_dict()[key], value)
    (tmp_path / "head.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read_draft_step(tmp_path / "head.safetensors", model)


def test_batches_are_disturbed_pictures_with_the_encoders_latents(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64)).astype(np.uint8)
    np.savez(tmp_path / "0000.npz", w=np.zeros((5, TINY.style_width), np.float32), x=pictures)
    features = FeaturesConfig(64, widths=(4, 6), face_widths=(3, 4), face_blocks=(1, 1))
    encoder = filled(LatentEncoder(features, TINY.style_width), "encoder")
    average = torch.randn(TINY.style_width)
    data = StepData((tmp_path,), encoder, average, TINY.num_latents)
    seen, latents = next(data.batches(RUN))
    again, _ = next(data.batches(RUN))
    assert seen.shape == (RUN.batch, 3, 64, 64)
    assert torch.equal(seen, again)
    assert torch.allclose(latents, rows(encoder(seen) + average), atol=1e-5)
    known = torch.from_numpy(pictures).float() / 127.5 - 1
    assert not all((known == picture).all((1, 2, 3)).any() for picture in seen)


def test_every_iteration_is_reconstructed(
    model: MobileStyleGan,
    draft: Draft,
    average: torch.Tensor,
    first: DraftStep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "SIDE", TINY.resolution)
    gradient = DraftGradient(model, draft, narrow_lpips(ALEXNET), RUN.perceptual)
    features = FeaturesConfig(
        TINY.resolution, widths=(4, 6), face_widths=(3, 4), face_blocks=(1, 1)
    )
    encoder = filled(LatentEncoder(features, TINY.style_width), "encoder")
    inverter = Inverter(model, encoder, average, DraftSearch(first, gradient))
    pictures = model.synthesis(draw_latents(model, average, 4, 0, 2)).clamp(-1, 1)
    made = reconstructed(inverter, pictures, 2)
    assert len(made) == 4  # the encoder, what begins, two iterations
    assert all(shown.shape == pictures.shape for shown in made)
    expected = model.synthesis(encoder(pictures) + average).clamp(-1, 1)
    assert torch.allclose(made[0], expected, atol=1e-5)
    assert not any(torch.equal(before, after) for before, after in itertools.pairwise(made[:3]))


def test_the_command_begins_with_the_curvature_and_goes_on(
    model: MobileStyleGan,
    draft: Draft,
    average: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "read_generator", lambda _: model)
    monkeypatch.setattr(commands, "UNIT_LATENTS", 400)
    monkeypatch.setattr(commands, "REPORTED", 1)
    features = FeaturesConfig(draft.side, (4, 6), face_widths=(3, 4), face_blocks=(1, 1))
    encoder = filled(LatentEncoder(features, TINY.style_width), "encoder")
    save_encoder(encoder, average, tmp_path / "encoder.safetensors")
    save_head(draft.head, draft.blocks, tmp_path / "head.safetensors")
    render_set(model, draft.head, BLOCKS, tmp_path / "train", 3, 8, lambda _: None)
    (tmp_path / "run.toml").write_text("batch = 2\niterations = 2\ncurvature = 32\n")
    command = commands.StepCommand(
        tmp_path / "wheel",
        tmp_path / "encoder.safetensors",
        tmp_path / "head.safetensors",
        BLOCKS,
        (tmp_path / "train",),
        tmp_path / "restyle.safetensors",
    )
    judges = Judges(narrow_lpips(ALEXNET), None)
    assert list(command.run(tmp_path / "run.toml", judges, minutes=0)) == []
    begun, _ = read_draft_step(tmp_path / "restyle.safetensors", model)
    assert float(begun.own.abs().max()) > 0
    lines = command.run(tmp_path / "run.toml", judges, minutes=5)
    said = next(lines)
    assert said.startswith("1 batches: L2 ")
    assert len(said.removeprefix("1 batches: L2 ").split()) == 3  # before, and after two steps
    trained, _ = read_draft_step(tmp_path / "restyle.safetensors", model)
    assert not torch.equal(trained.own, begun.own)
    assert torch.equal(trained.deviations, begun.deviations)
