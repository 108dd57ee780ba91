"""Descent on a bundle's draft: corrected, it is the generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from hyperstyle_rt import Model
from hyperstyle_rt.cli.invert_descent import follow_up
from hyperstyle_rt.cli.invert_options import Descent
from hyperstyle_rt.cli.options import Effort
from hyperstyle_rt.imaging.pictures import to_input, to_picture
from hyperstyle_rt.optimising.draft import DRAFT_OBJECTIVE, DraftObjective, serves
from hyperstyle_rt.optimising.objective import pooled
from hyperstyle_rt.optimising.point import Point
from mobile_models import SIDE


@pytest.fixture(scope="module")
def model(tiny_faces_bundle: Path) -> Iterator[Model]:
    with Model.load(tiny_faces_bundle, "cpu", threads=1) as opened:
        yield opened


class Counted:
    """A renderer that counts how often it renders."""

    def __init__(self, renderer: object) -> None:
        self._renderer, self.renders = renderer, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._renderer, name)

    def render(self, *arguments: object) -> object:
        self.renders += 1
        return self._renderer.render(*arguments)  # type: ignore[attr-defined]


def test_the_loss_is_that_of_the_whole_generator_where_it_is_renewed(
    model: Model, picture: np.ndarray
) -> None:
    work = model.open_work()
    renderer = Counted(work.renderer)
    manifest = model.bundle.manifest
    objective = DraftObjective(manifest, renderer, work.backend, renew=3)  # type: ignore[arg-type]
    point = Point.of(model.invert(picture, align="never", effort="fast").data)
    small = to_input(picture, (SIDE, SIDE))
    target = objective.target(lambda size: work.backend.upload(to_input(picture, size)))
    weights = np.array([1, 0, 0], np.float32)
    settings = objective.settings(weights)
    whole = renderer.render(work.backend.upload(point.latents[None]), objective.kernels(point))
    expected = work.backend.download(whole["reconstruction"])
    first = objective(point, target, settings)
    assert first.loss == pytest.approx(float(np.square(expected - small).mean()), rel=1e-4)
    assert np.abs(first.rendering() - expected[0]).max() < 1e-5
    moved = Point(point.latents + np.float32(0.5))
    for _ in range(2):
        drifted = objective(moved, target, settings)
    assert renderer.renders == 2  # one of them is the test's
    renewed = objective(moved, target, settings)
    assert renderer.renders == 3
    whole = work.renderer.render(work.backend.upload(moved.latents[None]), objective.kernels(moved))
    truth = np.square(work.backend.download(whole["reconstruction"]) - small).mean()
    assert renewed.loss == pytest.approx(float(truth), rel=1e-4)
    assert abs(drifted.loss - float(truth)) > 1e-3 * float(truth)
    objective.forget()
    back = objective(point, target, settings)
    assert renderer.renders == 4
    assert back.loss == pytest.approx(first.loss, rel=1e-4)
    work.close()


def test_a_photograph_is_followed_by_draft_and_generator(model: Model) -> None:
    """The preset goes from the encoder's latents to a closer picture; the result renders alike."""
    blank = np.zeros((64, 64, 3), np.uint8)
    inversion = model.invert(blank, align="never", effort="fast")
    shape = inversion.latents.shape
    other = np.float32(0.7) * np.random.default_rng(5).standard_normal(shape, dtype=np.float32)
    wanted = to_picture(model.synthesise(inversion, other)[0])
    start = model.invert(wanted, align="never", effort="fast")
    losses: list[float] = []
    found = model.optimise(
        None,
        wanted,
        "photo",
        steps=36,
        align="never",
        on_step=lambda _done, loss, _rendering: losses.append(loss),
    )
    target = to_input(wanted, (64, 64))[0]

    def error(output: np.ndarray | None) -> float:
        assert output is not None
        return float(np.square(output - target).mean())

    assert error(found.output) < 0.5 * error(start.output)
    assert len(losses) == 37
    assert found.data.channel_offsets is not None
    again = model.synthesise(found)[0]
    assert np.abs(again - found.output).max() < 1e-5


def test_a_draft_serves_latents_and_kernels_of_the_stored_generator(model: Model) -> None:
    manifest = model.bundle.manifest
    assert DRAFT_OBJECTIVE in manifest.graphs
    latents = np.zeros((manifest.num_latents, manifest.latent_width), np.float32)
    assert serves(manifest, {"latents", "kernels"}, Point(latents))
    assert not serves(manifest, {"latents", "noise"}, Point(latents))
    assert not serves(manifest, {"latents"}, Point(latents, noise=np.zeros(4, np.float32)))


def test_a_mask_of_the_rendering_is_averaged_to_the_drafts_size() -> None:
    mask = np.zeros((8, 8), np.float32)
    mask[:3] = 1
    assert pooled(mask, (4, 4))[:, 0].tolist() == [1, 0.5, 0, 0]
    assert np.array_equal(pooled(mask, (8, 8)), mask)


@pytest.mark.parametrize(
    ("method", "iterations", "descent", "expected"),
    [
        (None, None, {}, ("auto", "refine")),
        ("restyle", None, {}, ("fast", None)),
        (None, 3, {}, ("fast", None)),
        (None, None, {"effort": Effort.FAST}, ("fast", None)),
        ("encoder", None, {"effort": Effort.BEST}, ("best", "refine")),
        (None, None, {"then": "photo"}, (None, "photo")),
    ],
)
def test_a_bundle_says_which_gradient_steps_follow_where_a_user_says_nothing(
    model: Model,
    method: str | None,
    iterations: int | None,
    descent: dict[str, Any],
    expected: tuple[str | None, str | None],
) -> None:
    assert model.bundle.manifest.then == "refine"
    search = SimpleNamespace(method=method, iterations=iterations, until=None)
    request: Any = SimpleNamespace(search=search, descent=Descent(**descent))
    assert follow_up(request, model, method or "restyle") == expected
