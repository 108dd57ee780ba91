"""The graphs `approach` and `restyle` of the photographic generator against their torch twins."""

from __future__ import annotations

import itertools
from pathlib import Path

import fakeweights
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.draft_step import build_approach, build_restyle
from hyperstyle_export.networks.draft_step import (
    Curvature,
    DraftGradient,
    DraftSearch,
    DraftStep,
    DraftStepConfig,
)
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.mobile_draft import Draft
from hyperstyle_export.networks.mobilestylegan import PictureHead
from mobile_models import filled
from mobilestylegan_files import TINY, tiny_model
from models import narrow_lpips

BLOCKS = 2
SIDE = 32  # of the draft's pictures
ROWS = 3 * BLOCKS + 1


@pytest.fixture(scope="module")
def gradient() -> DraftGradient:
    head = filled(PictureHead(TINY.channels[BLOCKS], TINY.style_width, 6), "head")
    return DraftGradient(tiny_model(), Draft(head, BLOCKS), narrow_lpips(ALEXNET), 0.25)


def small_step(limit: float, share: float = 1e6, size: float = 30.0) -> DraftStep:
    config = DraftStepConfig(TINY.style_width, ROWS, limit=limit, share=share, spread=1e-4)
    step = DraftStep(config).requires_grad_(False)
    filled(step, "step")
    step.deviations.copy_(torch.eye(TINY.style_width) + 0.2 * step.deviations.tril())
    for matrix in (step.shared, step.own):  # as trained ones: never against the gradient
        matrix.copy_(matrix @ matrix.mT * size)
    return step


def pictures(name: str, side: int) -> torch.Tensor:
    coarse = torch.from_numpy(np.float32(fakeweights.normal(name, (1, 3, 8, 8)) * 0.5))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def whole(gradient: DraftGradient, latents: torch.Tensor, name: str, side: int) -> torch.Tensor:
    """A picture that differs from the draft's as a whole generator's would."""
    sketch = gradient.sketch(latents)
    grown = torch.nn.functional.interpolate(sketch, (side, side), mode="bilinear")
    return grown + 0.02 * pictures(name, side)


def some_latents() -> torch.Tensor:
    shape = (1, TINY.num_latents, TINY.style_width)
    return torch.from_numpy(np.float32(fakeweights.normal("latents", shape)))


def search_of(gradient: DraftGradient, limit: float = 0.3) -> DraftSearch:
    return DraftSearch(small_step(limit, 0.4), gradient)


def run(folder: Path, graph: ir.Model, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    save_model(graph, folder / "graph.onnx")
    session = ort.InferenceSession(folder / "graph.onnx")
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    largest = max(1e-3, float(expected.abs().max()))
    return float((found - expected).abs().max()) < 1e-3 * largest


@pytest.mark.parametrize("side", [SIDE, 2 * SIDE])
def test_the_graphs_are_the_networks(gradient: DraftGradient, tmp_path: Path, side: int) -> None:
    """Three steps from the encoder's latents, then two iterations that remember them."""
    search, latents = search_of(gradient), some_latents()
    target, size = pictures("target", side), (side, side)
    found = run(tmp_path, build_approach(search, size), {"target": target, "latents": latents})
    expected, known = search.approach(target, latents)
    steps = [float((expected - latents).abs().max())]
    restyle = build_restyle(search, size)
    for name in ("made", "made later"):
        assert close(found["latents_next"], expected)
        assert close(found["moved"], known.moved)
        assert close(found["turned"], known.turned)
        latents, made = expected, whole(gradient, expected, name, side)
        inputs = {"target": target, "reconstruction": made, "latents": latents}
        state = {"moved": known.moved, "turned": known.turned}
        found = run(tmp_path, restyle, inputs | state)
        found = {name.removesuffix("_next"): value for name, value in found.items()}
        found["latents_next"] = found.pop("latents")
        expected, known = search.iterate(target, made, latents, known)
        steps.append(float((expected - latents).abs().max()))
    assert close(found["latents_next"], expected)
    assert min(steps[:2]) > 1e-3  # the last may be one that is not kept


def test_a_step_is_no_larger_than_its_limits(gradient: DraftGradient) -> None:
    latents = some_latents()
    found, loss = gradient(pictures("target", SIDE), pictures("made", SIDE), latents)
    for limit, share in ((0.01, 1e6), (1e3, 1e6), (1e3, 0.1)):
        step = small_step(limit, share)
        change = (latents - step(latents, found, loss))[:, :ROWS]
        size = (change @ torch.linalg.inv(step.deviations.T)).square().mean().sqrt()
        assert (abs(float(size) - limit) < 1e-3 * limit) == (limit < 1)  # it binds, or does not
        promised, most = float((found * change).sum()), share * float(loss)
        assert (abs(promised - most) < 1e-3 * most) == (share < 1)


def test_the_curvature_seen_last_is_believed() -> None:
    """The secant condition; and what does not curve upwards changes nothing."""
    step = small_step(1e3)
    shape = (1, ROWS, TINY.style_width)
    moved, other, units = (
        torch.from_numpy(np.float32(fakeweights.normal(n, shape))) for n in ("a", "b", "c")
    )
    turned = moved + 0.3 * other
    unknown = Curvature.unknown(step.config, 1)
    known = unknown.followed_by(other, other).followed_by(moved, turned)
    assert torch.allclose(step.direction(turned, known), moved, rtol=1e-3, atol=1e-3)
    assert torch.equal(step.direction(units, unknown), step.mapped(units))
    assert not torch.allclose(step.direction(units, known), step.mapped(units), rtol=1e-2)
    downwards = unknown.followed_by(moved, -turned)
    assert torch.equal(step.direction(units, downwards), step.mapped(units))
    assert known.moved.shape == unknown.moved.shape


def test_rows_apart_cost_their_squares() -> None:
    """In units of deviation 1, where a common change of all rows costs nothing."""
    step = small_step(1e3)
    units = torch.from_numpy(np.float32(fakeweights.normal("u", (1, ROWS, TINY.style_width))))
    units.requires_grad_(True)
    more, steeper = step.apart(units @ step.deviations.T)
    (expected,) = torch.autograd.grad(more.sum(), units)
    assert torch.allclose(steeper, expected, atol=1e-6)
    expected_cost = step.config.spread / 2 * (units - units.mean(1, keepdim=True)).square().sum()
    assert torch.allclose(more, expected_cost, rtol=1e-4)
    together, _ = step.apart(units.detach()[:, :1].expand_as(units))
    assert float(together) < 1e-6 * float(more.detach())


def test_no_step_that_makes_the_loss_larger_is_kept(gradient: DraftGradient) -> None:
    latents, target = some_latents(), pictures("target", SIDE)
    uphill = search_of(gradient)
    for matrix in (uphill.step.shared, uphill.step.own):
        matrix.neg_()
    same, _ = uphill.approach(target, latents)
    assert torch.equal(same, latents)
    made = gradient.sketch(latents)
    same, _ = uphill.iterate(target, made, latents, Curvature.unknown(uphill.step.config, 1))
    assert torch.equal(same, latents)


def test_iterations_approach_the_picture(gradient: DraftGradient) -> None:
    search, latents = search_of(gradient), some_latents()
    target = gradient.sketch(latents + 0.3)
    losses = [gradient.loss(gradient.sketch(latents), target)]
    latents, known = search.approach(target, latents)
    for _ in range(3):
        made = gradient.sketch(latents)
        losses.append(gradient.loss(made, target))
        latents, known = search.iterate(target, made, latents, known)
    losses.append(gradient.loss(gradient.sketch(latents), target))
    assert all(after <= 1.0001 * before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.7 * losses[0]


def test_rows_the_draft_does_not_read_go_with_its_last(gradient: DraftGradient) -> None:
    step, latents = small_step(1e3), some_latents()
    found, loss = gradient(pictures("target", SIDE), pictures("made", SIDE), latents)
    assert found.shape == (1, ROWS, TINY.style_width)
    change = step(latents, found, loss) - latents
    assert torch.allclose(change[:, ROWS:], change[:, ROWS - 1 : ROWS], atol=1e-6)
    assert not torch.allclose(change[:, 0], change[:, ROWS - 1])


def test_a_reconstruction_that_is_the_picture_changes_nothing(gradient: DraftGradient) -> None:
    same, latents = pictures("target", SIDE), some_latents()
    found, loss = gradient(same, same.clone(), latents)
    assert float(found.abs().max()) < 1e-6
    assert torch.equal(small_step(1e3, 0.5)(latents, torch.zeros_like(found), loss), latents)
