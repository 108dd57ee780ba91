"""Descent itself, on a quadratic that is worked out in numpy: no graphs, no torch."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from attacks import inversions
from descent_stand_in import (
    CODES,
    LEAVES,
    OBJECTIVES,
    PARAMETERS,
    PICTURE,
    ROWS,
    WIDTH,
    QuadraticBackend,
    aim,
    quadratic_bundle,
)
from hyperstyle_rt.errors import InversionError
from hyperstyle_rt.formats.inversion_file import InversionData, parse_inversion
from hyperstyle_rt.optimising.adam import PUBLISHED
from hyperstyle_rt.optimising.descent import Moving, Pace, Problem, descend
from hyperstyle_rt.optimising.limits import Limits
from hyperstyle_rt.optimising.objective import Objective, choose_role
from hyperstyle_rt.optimising.point import Point
from hyperstyle_rt.optimising.running import Optimiser, Request
from hyperstyle_rt.optimising.schedules import constant
from hyperstyle_rt.optimising.terms import EncoderTerm, LatentPrior, NoiseRegulariser, TermResult
from hyperstyle_rt.optimising.variables import VARIABLES, Place
from hyperstyle_rt.rendering import Renderer

ONE = np.array([1, 0, 0], np.float32)
FAST = Pace(0.1, constant, PUBLISHED)


def test_features_move_where_the_mask_counts() -> None:
    """The mask is of the rendering, which may be a crop; the map is of the whole square."""
    bundle = quadratic_bundle()
    side = bundle.manifest.resolution
    cropped = replace(
        bundle.manifest, crop_rows=(side // 4, side), image_size=(side - side // 4, side)
    )
    free = Renderer(bundle.manifest, QuadraticBackend()).free
    mask = np.zeros(cropped.image_size, np.float32)
    mask[: side // 4, side // 2 :] = 1
    place = Place(cropped, free, Point(np.zeros((ROWS, WIDTH), np.float32)), "test", mask)
    rates = VARIABLES["features"](place).rates
    assert np.allclose(rates, 0.02 * np.array([[0, 1], [0, 0]]))


class Bench:
    """Problems on the quadratic."""

    def __init__(self, point: Point, *variables: str, pace: Pace = FAST) -> None:
        self.bundle, self.backend = quadratic_bundle(), QuadraticBackend()
        manifest = self.bundle.manifest
        self.renderer = Renderer(manifest, self.backend)
        place = Place(manifest, self.renderer.free, point, "test")
        self.moving = [Moving(VARIABLES[name](place), pace) for name in variables]
        for each in self.moving:
            each.variable.place(point, each.value)
        kinds = {each.variable.kind for each in self.moving}
        self.role = choose_role(manifest, kinds, point)
        self.objective = Objective(self.role, manifest, self.renderer, self.backend)
        picture = np.zeros(PICTURE, np.float32)
        self.problem = Problem(
            point,
            self.moving,
            self.objective,
            self.objective.target(lambda _size: picture),
            self.objective.settings(ONE),
        )

    def descend(self, steps: int, **more: Any) -> Point:
        return descend(replace(self.problem, **more), Limits(steps))


def start() -> Point:
    return Point(np.zeros((ROWS, WIDTH), np.float32), np.zeros(CODES, np.float32))


@pytest.mark.parametrize(
    ("variable", "leaf", "role"),
    [
        ("latents", "latents", "latents_objective"),
        ("noise", "noise.conv1", "latents_objective"),
        ("features", "feature_offset", "synthesis_objective"),
    ],
)
def test_a_variable_reaches_the_bottom(variable: str, leaf: str, role: str) -> None:
    bench = Bench(start(), variable)
    assert bench.role == role
    point = bench.descend(300)
    assert (
        np.abs(getattr(point, bench.moving[0].variable.part).ravel() - aim(leaf).ravel()).max()
        < 0.01
    )


@pytest.mark.parametrize("variables", [("latents",), ("latents", "noise")])
def test_a_descent_that_goes_astray_is_taken_back(variables: tuple[str, ...]) -> None:
    """To the best that it had, and on with smaller steps; by itself it is slow to come back."""
    seen: dict[float | None, list[float]] = {None: [], 2.5: []}
    for astray, losses in seen.items():
        bench = Bench(start(), *variables, pace=replace(FAST, rate=10.0))
        problem = replace(bench.problem, astray=astray)
        descend(problem, Limits(20), lambda _n, loss, _i, losses=losses: losses.append(loss))
    kept, lost = seen[2.5], seen[None]
    assert kept[:2] == lost[:2] and kept[1] > 2.5 * kept[0]
    for number, loss in enumerate(kept[:-1]):
        if loss > 2.5 * kept[0]:
            assert kept[number + 1] == pytest.approx(min(kept[: number + 1]))
    assert kept[-1] < kept[0] < lost[-1]


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(2), [0, 1, 2, 2]),
        (Limits(5, seconds=2.5), [0, 1, 2, 3]),
        (Limits(11, until=0.01), [*range(11), 11]),
    ],
)
def test_a_descent_does_not_end_where_it_went_astray(
    limits: Limits, told: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends it; what is told and asked last is what is returned."""
    clock, bench = itertools.count(-1.0), Bench(start(), "latents")
    time = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("hyperstyle_rt.optimising.descent.time", time)
    falling = np.linspace(9, 8, len(told) - 2)
    broken, original, points = iter([*falling, 90.0, 8.0]), bench.backend.run, []

    def run(role: str, inputs: dict[str, Any]) -> dict[str, Any]:
        if role not in OBJECTIVES:
            return original(role, inputs)
        points.append(inputs["latents"][0])
        return {**original(role, inputs), "loss": np.array([next(broken)], np.float32)}

    monkeypatch.setattr(bench.backend, "run", run)
    seen: list[float] = []
    steps: list[tuple[int, float]] = []
    problem = replace(
        bench.problem, astray=2.5, enough=lambda result: bool(seen.append(result.loss))
    )
    found = descend(problem, limits, lambda done, loss, _i: steps.append((done, loss)))
    assert [done for done, _ in steps] == told
    assert (steps[-2][1], steps[-1][1], seen[-1], max(seen)) == (90, 8, 8, 9)
    assert np.array_equal(found.latents, points[-1]) and np.array_equal(points[-1], points[-3])


def test_a_start_that_is_no_number_is_refused() -> None:
    latents = np.full((ROWS, WIDTH), np.nan, np.float32)
    for astray in (None, 2.5):
        bench = Bench(Point(latents, np.zeros(CODES, np.float32)), "latents")
        with pytest.raises(InversionError, match="not finite"):
            bench.descend(2, astray=astray)


def test_what_is_no_number_is_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, broken = Bench(start(), "latents"), iter([8.0, 4.0, np.nan, np.inf])
    original, points = bench.backend.run, []

    def run(role: str, inputs: dict[str, Any]) -> dict[str, Any]:
        if role not in OBJECTIVES:
            return original(role, inputs)
        points.append(inputs["latents"])
        return {**original(role, inputs), "loss": np.array([next(broken, 2.0)], np.float32)}

    monkeypatch.setattr(bench.backend, "run", run)
    bench.descend(6, astray=2.5)
    assert not np.array_equal(points[2], points[1])
    assert np.array_equal(points[3], points[1]) and np.array_equal(points[4], points[1])
    assert np.isfinite(points[-1]).all()


def test_one_latent_for_all_layers_reaches_their_mean() -> None:
    point = Bench(start(), "w").descend(300)
    assert np.abs(point.latents - aim("latents")[0].mean(0)).max() < 0.01


def test_weights_are_what_is_added_to_the_stored_ones() -> None:
    point = Bench(start(), "weights").descend(300)
    stored = np.concatenate([np.full(4, 2.0), np.zeros(2)])  # kernels of ones over the scale
    wanted = np.concatenate([aim(f"parameter.{name}").ravel() for name in PARAMETERS])
    assert np.abs(point.weights + stored - wanted).max() < 0.01


def test_kernels_follow_channel_offsets_and_codes() -> None:
    """The base kernel is one, so a channel offset is the kernel's own change."""
    point = Bench(start(), "channel_offsets").descend(300)
    assert np.abs(point.channel_offsets + 1 - aim("weight.conv1").ravel()).max() < 0.01
    point = Bench(start(), "codes", pace=replace(FAST, rate=None)).descend(400)
    assert abs(point.codes[0, 0] + 1 - aim("weight.conv1").mean()) < 0.05
    assert point.codes[0, -1] == 0


def test_all_at_once_is_each_alone() -> None:
    """What the quadratic does not couple: Adam keeps a state for each."""
    names = ("latents", "noise", "features")
    together = Bench(start(), *names).descend(7)
    for name in names:
        alone = Bench(start(), name).descend(7)
        assert np.array_equal(getattr(alone, name), getattr(together, name)), name


def test_codes_beside_weights_get_the_gradient_of_their_kernels() -> None:
    """By a graph that knows parameters only: half of it, as the kernel is half a parameter."""
    kernels = Bench(start(), "codes", pace=replace(FAST, rate=None))
    both = Bench(start(), "codes", "weights", pace=replace(FAST, rate=None))
    assert (kernels.role, both.role) == ("objective", "synthesis_objective")
    result = both.objective(both.problem.point(), both.problem.target, both.problem.settings)
    found = both.objective.kernel_gradients(result.gradients)["gradient.conv1"]
    parameter = result.gradients["gradient.conv1.conv.weight"][0]
    assert np.allclose(found, parameter / 0.5)


def test_what_does_not_change_is_made_once() -> None:
    bench = Bench(start(), "latents")
    bench.descend(5)
    assert bench.backend.calls.count("latents_objective") == 6
    assert bench.backend.calls.count("weights") <= 2
    assert bench.backend.calls.count("noise") <= 2


def test_terms_add_their_gradients_and_pulls() -> None:
    class Both:
        def __call__(self, point: Point) -> TermResult:
            by = {"gradient.latents": np.full(LEAVES["latents"], 2.0, np.float32)}
            return TermResult(1.0, by, np.full(PICTURE, 1.0, np.float32))

    seen: list[float] = []
    bench = Bench(start(), "latents")
    point = descend(
        replace(bench.problem, terms=[Both(), Both()]),
        Limits(400),
        lambda _done, loss, _rendering: seen.append(loss),
    )
    # The bottom moves by the gradient of 2 * 2, and by the pull of 2 * 48 spread over the latents.
    expected = aim("latents")[0] - 4 - 2 * 48 / (ROWS * WIDTH)
    assert np.abs(point.latents - expected).max() < 0.05
    plain = Bench(start(), "latents")
    result = plain.objective(start(), plain.problem.target, plain.problem.settings)
    assert seen[0] == result.loss  # the picture's loss alone


def test_a_penalty_pulls_back() -> None:
    free = Bench(start(), "latents").descend(300)
    held = Bench(start(), "latents", pace=replace(FAST, penalty=1.0)).descend(300)
    assert np.abs(held.latents).max() < 0.5 * np.abs(free.latents).max()


def test_noise_settles_map_by_map_and_is_regularised() -> None:
    bench = Bench(start(), "noise", pace=replace(FAST, settle=lambda each: each - each.mean()))
    layers = bench.bundle.manifest.optional_inputs.noise
    point = bench.descend(20, terms=[NoiseRegulariser(layers, 1e3)])
    assert abs(point.noise.mean()) < 1e-6
    assert point.noise.any()


def test_the_encoder_term_goes_both_ways() -> None:
    """Its graph gives the gradient by the latents and by the reconstruction, which is pulled."""
    bench = Bench(start(), "latents")

    class Backend(QuadraticBackend):
        def run(self, role: str, inputs: Any) -> dict[str, np.ndarray]:
            assert role == "encoder_term"
            assert inputs["reconstruction"].shape == PICTURE
            return {
                "loss": np.array([3.0], np.float32),
                "gradient.target_latents": inputs["target_latents"] + 1,
                "gradient.reconstruction": inputs["reconstruction"] * 2,
            }

    rendered = {"reconstruction": np.ones(PICTURE, np.float32)}
    term = EncoderTerm(Backend(), lambda _point: rendered, 2.0)
    result = term(bench.problem.point())
    assert result.loss == 6.0
    assert np.array_equal(result.gradients["gradient.latents"], np.full(LEAVES["latents"], 2.0))
    assert np.array_equal(result.pull, np.full(PICTURE, 4.0))


def test_a_prior_comes_as_a_term() -> None:
    from hyperstyle_rt.optimising.latent_statistics import Whitening

    whitening = Whitening(np.zeros(WIDTH), np.eye(WIDTH), np.ones(WIDTH))
    result = LatentPrior(whitening, 3.0)(Point(np.ones((ROWS, WIDTH), np.float32)))
    assert result.loss == 3.0
    expected = 3 * 2 / (ROWS * WIDTH)
    assert np.allclose(result.gradients["gradient.latents"], expected)


def test_descent_stops_early() -> None:
    bench = Bench(start(), "latents")
    first = bench.objective(start(), bench.problem.target, bench.problem.settings).loss
    losses: list[float] = []
    descend(
        replace(bench.problem, enough=lambda result: result.loss < 0.95 * first),
        Limits(1000),
        lambda _done, loss, _rendering: losses.append(loss),
    )
    assert 1 < len(losses) < 100
    assert losses[-1] < 0.95 * first <= losses[-2]


@pytest.fixture
def data() -> InversionData:
    base = parse_inversion(inversions.GOOD)
    point = start()
    return replace(base, latents=point.latents, codes=point.codes)


def run(data: InversionData, has_latents: bool, **asked: Any) -> tuple[InversionData, list[str]]:
    bundle, backend = quadratic_bundle(), QuadraticBackend()
    picture = np.zeros((4, 4, 3), np.uint8)
    optimiser = Optimiser(
        bundle, Renderer(bundle.manifest, backend), backend, picture, Request(**asked)
    )
    return optimiser.run(data, has_latents), backend.calls


def test_pivotal_tuning_projects_then_tunes(data: InversionData) -> None:
    found, calls = run(data, False, preset="pti", steps=80)
    assert found.needs == ("codes", "weights")  # the noise that projecting found is forgotten
    assert calls.index("mapping") < calls.index("latents_objective")
    assert calls.index("latents_objective") < calls.index("synthesis_objective")
    assert (found.latents == found.latents[0]).all()


def test_an_lpips_that_is_low_ends_tuning(data: InversionData) -> None:
    """The stand-in's perceptual term is zero, and its network LPIPS' AlexNet."""
    seen: list[int] = []
    run(data, True, preset="pti", steps=50, on_step=lambda n, _l, _r: seen.append(n))
    assert seen == [0]


def test_an_inversion_says_which_steps_were_run(data: InversionData) -> None:
    """Of the stages that were: with latents, the one that finds them is left out."""
    found, _ = run(data, True, preset="pti")
    assert found.settings["optimise"] == [{"preset": "pti", "steps": 350}]
    many = {"steps": np.int64(2), "seconds": np.float32(9.5), "until": np.float32(0.25)}
    found, _ = run(data, True, preset="image2stylegan", **many)
    (said,) = found.settings["optimise"]
    assert said == {"preset": "image2stylegan", "steps": 2, "seconds": 9.5, "until": 0.25}
    assert [type(said[name]) for name in many] == [int, float, float]


def test_the_projector_keeps_its_noise(data: InversionData) -> None:
    found, _ = run(data, False, preset="projector", steps=30)
    assert found.needs == ("codes", "noise")
    assert abs(found.noise.astype(np.float32).mean()) < 1e-3
    assert np.square(found.noise.astype(np.float32)).mean() == pytest.approx(1, abs=1e-2)
