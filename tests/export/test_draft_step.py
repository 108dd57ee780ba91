"""The graph `restyle` of the photographic generator against its torch twin."""

from __future__ import annotations

from pathlib import Path

import fakeweights
import numpy as np
import onnxruntime as ort
import pytest
import torch
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.draft_step import build_draft_step
from hyperstyle_export.networks.draft_step import DraftGradient, DraftStep, DraftStepConfig
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.mobile_draft import Draft
from hyperstyle_export.networks.mobilestylegan import PictureHead
from mobile_models import filled
from mobilestylegan_files import TINY, tiny_model
from models import narrow_lpips

BLOCKS = 3
SIDE = 64  # of the draft's pictures
ROWS = 3 * BLOCKS + 1


@pytest.fixture(scope="module")
def gradient() -> DraftGradient:
    head = filled(PictureHead(TINY.channels[BLOCKS], TINY.style_width, 6), "head")
    return DraftGradient(tiny_model(), Draft(head, BLOCKS), narrow_lpips(ALEXNET), 0.25)


def small_step(limit: float, share: float = 1e6, size: float = 30.0) -> DraftStep:
    config = DraftStepConfig(TINY.style_width, ROWS, limit=limit, share=share)
    step = DraftStep(config).requires_grad_(False)
    filled(step, "step")
    for matrix in (step.shared, step.own):  # as trained ones: never against the gradient
        matrix.copy_(matrix @ matrix.mT * size)
    return step


def pictures(name: str, side: int) -> torch.Tensor:
    coarse = torch.from_numpy(np.float32(fakeweights.normal(name, (1, 3, 8, 8)) * 0.5))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def some_latents() -> torch.Tensor:
    shape = (1, TINY.num_latents, TINY.style_width)
    return torch.from_numpy(np.float32(fakeweights.normal("latents", shape)))


@pytest.mark.parametrize(("limit", "share"), [(0.01, 1e6), (1e3, 1e6), (1e3, 0.1)])
@pytest.mark.parametrize("side", [SIDE, 2 * SIDE])
def test_the_graph_is_the_network(
    gradient: DraftGradient, tmp_path: Path, limit: float, share: float, side: int
) -> None:
    step, latents = small_step(limit, share), some_latents()
    target, made = pictures("target", side), pictures("made", side)
    save_model(build_draft_step(step, gradient, (side, side)), tmp_path / "restyle.onnx")
    inputs = {"target": target, "reconstruction": made, "latents": latents}
    session = ort.InferenceSession(tmp_path / "restyle.onnx")
    (following,) = session.run(["latents_next"], {k: v.numpy() for k, v in inputs.items()})
    found, loss = gradient(target, made, latents)
    expected = step(latents, found, loss)
    change = (expected - latents).abs().max()
    assert np.abs(following - expected.numpy()).max() < 1e-4 * max(1.0, float(change))
    units = (latents - expected) @ torch.linalg.inv(step.deviations.T)
    size = float(units[:, :ROWS].square().mean().sqrt())
    assert (abs(size - limit) < 1e-3 * limit) == (limit < 1)  # the limit binds, or does not
    promised = float((found * (latents - expected)[:, :ROWS]).sum())
    assert (abs(promised - share * float(loss)) < 1e-3 * share * float(loss)) == (share < 1)
    assert change > 1e-3


def test_rows_the_draft_does_not_read_go_with_its_last(gradient: DraftGradient) -> None:
    step, latents = small_step(1e3), some_latents()
    found, loss = gradient(pictures("target", SIDE), pictures("made", SIDE), latents)
    assert found.shape == (1, ROWS, TINY.style_width)
    change = step(latents, found, loss) - latents
    assert torch.allclose(change[:, ROWS:], change[:, ROWS - 1 : ROWS], atol=1e-6)
    assert not torch.allclose(change[:, 0], change[:, ROWS - 1])


def test_steps_against_the_gradient_approach_the_picture(gradient: DraftGradient) -> None:
    """With the plain gradient's own direction the draft's picture comes nearer to its aim."""
    step = DraftStep(DraftStepConfig(TINY.style_width, ROWS, limit=0.05)).requires_grad_(False)
    step.own.copy_(torch.eye(TINY.style_width).expand_as(step.own))
    latents = some_latents()
    target = gradient.draft.picture(gradient.generator, latents + 0.3).detach()
    losses = []
    for _ in range(6):
        made = gradient.draft.picture(gradient.generator, latents).detach()
        losses.append(float(gradient.loss(made, target)))
        latents = step(latents, *gradient(target, made, latents))
    assert losses[-1] < 0.8 * losses[0]


def test_a_reconstruction_that_is_the_picture_changes_nothing(gradient: DraftGradient) -> None:
    same, latents = pictures("target", SIDE), some_latents()
    found, loss = gradient(same, same.clone(), latents)
    assert float(found.abs().max()) < 1e-6
    assert torch.equal(small_step(1e3, 0.5)(latents, torch.zeros_like(found), loss), latents)
