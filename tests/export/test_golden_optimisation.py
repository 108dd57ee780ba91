"""Descent beside the official code: gradients, steps and losses, through the exported graphs.

Numbers and tolerances are those of tests/golden; the generator is the official one at 256 pixels,
of which one evaluation takes seconds. `make test-official` takes the steps in W+, with noise, and
those of the projector; `make test-slow` those in W and of pivotal tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import fakeweights
import numpy as np
import pytest
from golden_lpips import fake_alexnet
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_rt.imaging.pictures import to_input
from hyperstyle_rt.model import Model as Runtime
from hyperstyle_rt.optimising import noise_maps
from hyperstyle_rt.optimising.adam import PUBLISHED
from hyperstyle_rt.optimising.descent import Moving, Pace, Problem, descend
from hyperstyle_rt.optimising.limits import Limits
from hyperstyle_rt.optimising.objective import LossResult, Objective
from hyperstyle_rt.optimising.point import Point
from hyperstyle_rt.optimising.schedules import constant, projector_disturbance, projector_rate
from hyperstyle_rt.optimising.terms import (
    LOCALITY_TRUNCATION,
    LOCALITY_WEIGHT,
    Locality,
    NoiseRegulariser,
    beside,
)
from hyperstyle_rt.optimising.variables import VARIABLES, Gradients, Place
from models import TINY, build_model
from synthetic import official_config

pytestmark = pytest.mark.official
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optimisation.npz")
CODES = np.float32(0.5) * fakeweights.normal("codes", (2, 14, 512))

PIXELS = np.array([1, 0, 0], np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The official generator with the goldens' weights, small other networks, and LPIPS."""
    small = TINY.encoder
    config = replace(
        TINY,
        generator=official_config(256).generator,
        encoder=replace(small, style_width=512),
        input_size=(256, 256),
    )
    bundle = write_bundle(
        build_model(config),
        tmp_path_factory.mktemp("golden") / "",
        BundleFacts("golden"),
        "fp32",
        lambda _step: None,
        fake_alexnet(),
    )
    with Runtime.load(bundle.directory, "cpu") as opened:
        yield opened


class Evaluated:
    """An objective that keeps what it gave, and stops being evaluated after some times.

    One evaluation takes seconds. A descent looks once more when it has taken its last step; nothing
    is compared with what it would see, so it is shown the last result again.
    """

    def __init__(self, objective: Objective, times: int) -> None:
        self._objective, self._times = objective, times
        self.results: list[LossResult] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def __call__(self, *arguments: Any) -> LossResult:
        if len(self.results) == self._times:
            return self.results[-1]
        self.results.append(self._objective(*arguments))
        return self.results[-1]


class Bench:
    """A problem on the golden picture."""

    def __init__(
        self, model: Runtime, role: str, point: Point, weights: np.ndarray = PIXELS
    ) -> None:
        work = model._work
        self.model, self.point = model, point
        self.manifest, self.backend, self.renderer = (
            model.bundle.manifest,
            work.backend,
            work.renderer,
        )
        self.objective = Objective(role, self.manifest, self.renderer, self.backend)
        picture = fakeweights.image_u8(1)
        self.target = self.objective.target(
            lambda size: self.backend.upload(to_input(picture, size))
        )
        self.settings = self.objective.settings(weights)

    def evaluated(self, times: int) -> Evaluated:
        """The objective, for a descent of as many steps."""
        return Evaluated(self.objective, times)

    def gradients_of(self, result: LossResult) -> Gradients:
        return Gradients(self.objective, result.gradients, {})

    def moving(self, name: str, pace: Pace) -> Moving:
        place = Place(self.manifest, self.renderer.free, self.point, "test")
        return Moving(VARIABLES[name](place), pace)

    def problem(self, evaluated: Evaluated, *moving: Moving, **more: Any) -> Problem:
        objective = cast(Objective, evaluated)
        return Problem(self.point, moving, objective, self.target, self.settings, **more)


def stop_after(evaluations: int) -> Callable[[LossResult], bool]:
    """Stops a descent that was planned longer."""
    counted = iter(range(1, evaluations + 1))
    return lambda _result: next(counted) == evaluations


def quantile(actual: np.ndarray, expected: np.ndarray) -> float:
    """The 0.99 quantile of the absolute difference."""
    assert actual.shape == expected.shape
    return float(np.quantile(np.abs(actual - expected), 0.99))


def slices(array: np.ndarray, length: int = 256) -> np.ndarray:
    """The numbers of a tensor that the goldens keep."""
    flat = array.ravel()
    flat = flat[:: max(1, flat.size // length)][:length]
    return np.pad(flat, (0, length - flat.size))


STARTS = {"w": np.tile(CODES[0, :1], (14, 1)), "latents": CODES[0]}
CONSTANT = Pace(0.01, constant, PUBLISHED)


@pytest.mark.parametrize(
    ("name", "key"), [pytest.param("w", "w", marks=pytest.mark.slow), ("latents", "wp")]
)
def test_steps_on_latents(model: Runtime, name: str, key: str) -> None:
    """And the gradients of noise, which the same graph gives, at the start in W+."""
    bench = Bench(model, "latents_objective", Point(STARTS[name]))
    moving, evaluated = bench.moving(name, CONSTANT), bench.evaluated(5)
    losses, values = [], []
    descend(
        bench.problem(evaluated, moving),
        Limits(5),
        lambda _done, loss, _rendering: (losses.append(loss), values.append(moving.value)),
    )
    first = evaluated.results[0]
    assert abs(first.loss / GOLDEN[f"rosi/{key}_loss"] - 1) <= 1e-5
    gradient = moving.variable.gradient(bench.gradients_of(first))
    bound = 2e-5 if name == "w" else 5e-5
    assert np.abs(gradient - GOLDEN[f"rosi/{key}_grad"][0]).max() <= bound
    assert np.abs(np.array(losses[:5]) / GOLDEN[f"rosi/{key}_losses"] - 1).max() <= 1e-5
    for steps, bound in ((1, 1e-6), (2, 5e-5), (5, 1e-4)):
        assert quantile(values[steps], GOLDEN[f"rosi/{key}_after_{steps}"][0]) <= bound, steps
    if name == "latents":
        check_gradients_of_noise(model, bench.gradients_of(first))


def check_gradients_of_noise(model: Runtime, gradients: Gradients) -> None:
    layers = model.bundle.manifest.optional_inputs.noise
    assert len(layers) == 13
    for number, layer in enumerate(layers):
        found = gradients.array(f"noise.{layer.name}")
        norm = GOLDEN["rosi/noise_grad_norm"][number]
        difference = np.abs(slices(found) - GOLDEN["rosi/noise_grad"][number]).max()
        assert difference <= 2e-5
        assert abs(np.linalg.norm(found) - norm) <= 0.01 * norm
        assert difference <= 0.01 * norm


def test_steps_of_a_projector(model: Runtime) -> None:
    """Rosinality's: latents and noise maps at once, of 20 planned steps the first five."""
    point = Point(CODES[0])
    bench = Bench(model, "latents_objective", point)
    layers = model.bundle.manifest.optional_inputs.noise
    published = Pace(0.1, projector_rate, PUBLISHED)
    latents = bench.moving("latents", published)
    noise = bench.moving("noise", replace(published, settle=noise_maps.standardised))
    rows, sigmas = [], []

    def disturb(point: Point, progress: float) -> None:
        sigmas.append(10 * projector_disturbance(progress))
        name = f"opt.latent_noise.{len(sigmas) - 1}"
        drawn = fakeweights.normal(name, (1, 14, 512))[0] if len(sigmas) <= 5 else 0
        point.latents = point.latents + np.float32(sigmas[-1]) * np.float32(drawn)

    regulariser = NoiseRegulariser(layers)

    class Watched:
        def __call__(self, point: Point) -> Any:
            result = regulariser(point)
            rows.append(result.loss / regulariser.weight)
            return result

    losses = []
    problem = bench.problem(
        bench.evaluated(5),
        *(latents, noise),
        terms=[Watched()],
        disturb=disturb,
        enough=stop_after(6),
    )
    descend(problem, Limits(20), lambda _done, loss, _rendering: losses.append(loss))
    expected = GOLDEN["loop/mse_nreg_loss_lr_strength"]
    found = np.array([losses[:5], rows[:5]]).T
    assert np.abs(found / expected[:, :2] - 1).max() <= 1e-3
    total = found[:, 0] + 1e5 * found[:, 1]
    assert np.abs(total / expected[:, 2] - 1).max() <= 1e-3
    rates = [0.1 * projector_rate(step, step / 20) for step in range(5)]
    assert np.abs(np.array(rates) - expected[:, 3]).max() <= 1e-12
    assert np.abs(np.array(sigmas[:5]) - expected[:, 4]).max() <= 1e-6
    assert quantile(latents.value, GOLDEN["loop/latent_after_5"][0]) <= 3e-3
    maps = noise_maps.split(noise.value, [layer.side for layer in layers])
    after = np.stack([slices(each) for each in maps])
    assert quantile(after, GOLDEN["loop/noise_after_5"]) <= 1e-5


@pytest.mark.slow
def test_steps_of_pivotal_tuning(model: Runtime) -> None:
    """Three steps on all weights by pixels and LPIPS, then the locality term."""
    weight = model.bundle.manifest.objective.weight
    both = np.array([1, 0, 1 / weight], np.float32)
    bench = Bench(model, "synthesis_objective", Point(CODES[0]), both)
    moving = bench.moving("weights", Pace(3e-4, constant, PUBLISHED))
    parameters = model.bundle.manifest.parametric_inputs.parameters
    names = [str(name) for name in GOLDEN["pti/names"]]
    assert sorted(parameter.name for parameter in parameters) == sorted(names)

    def by_name(flat: np.ndarray) -> dict[str, np.ndarray]:
        bounds = np.cumsum([parameter.size for parameter in parameters])[:-1]
        parts = np.split(flat, bounds)
        return {p.name: part for p, part in zip(parameters, parts, strict=True)}

    rows, evaluated = [], bench.evaluated(3)

    def note(result: LossResult) -> bool:
        terms = result.terms() * np.array([1, 1, 1 / weight])
        rows.append((result.loss, terms[0], terms[2]))
        return False

    after = descend(bench.problem(evaluated, moving, enough=note), Limits(3))
    gradients = bench.gradients_of(evaluated.results[0])
    gradient = by_name(moving.variable.gradient(gradients))
    for number, name in enumerate(names):
        largest = np.abs(gradient[name]).max()
        expected = GOLDEN["pti/grad0_slice"][number]
        assert np.abs(slices(gradient[name], 64) - expected).max() <= 5e-3 * largest, name
        norm = GOLDEN["pti/grad0_norm"][number]
        assert abs(np.linalg.norm(gradient[name]) - norm) <= 5e-3 * norm, name
    errors = np.abs(np.array(rows[:3]) / GOLDEN["pti/losses"] - 1)  # not of the last state
    assert errors[0].max() <= 1e-4
    assert errors.max() <= 1e-3
    change = by_name(after.weights)
    found = np.stack([slices(change[name], 64) for name in names])
    assert quantile(found, GOLDEN["pti/change3_slice"]) <= 2e-5
    norms = np.array([np.linalg.norm(change[name]) for name in names])
    assert np.abs(norms / GOLDEN["pti/change3_norm"] - 1).max() <= 2e-2
    check_locality(bench, after, names, by_name)


def check_locality(bench: Bench, after: Point, names: list[str], by_name: Any) -> None:
    model, backend = bench.model, bench.backend
    z = fakeweights.normal("pti.z", (1, 512))
    w = backend.download(backend.run("mapping", {"z": backend.upload(z)})["w"])[0]
    average = np.float32(0.1) * fakeweights.normal("latent_avg", (14, 512))[0]
    drawn = average + np.float32(LOCALITY_TRUNCATION) * (w - average)
    there = beside(after.latents, drawn)
    assert np.abs(there - GOLDEN["pti/reg_w"][0]).max() <= 1e-5
    size = sum(layer.side**2 for layer in model.bundle.manifest.optional_inputs.noise)
    silence = np.zeros(size, np.float32)

    def target_of(point: Point) -> Any:
        old = replace(point, weights=None)
        kernels = bench.renderer.kernels(None)
        rendered = bench.renderer.render(backend.upload(old.latents[None]), kernels, old.free)
        return bench.objective.target(lambda _size: rendered["rendering"])

    factor = 1 / model.bundle.manifest.objective.weight
    weights = LOCALITY_WEIGHT * np.array([1, 0, factor], np.float32)
    term = Locality(
        bench.objective, bench.objective.settings(weights), target_of, lambda: drawn, silence
    )
    result = term(after)
    assert abs(result.loss / GOLDEN["pti/reg_loss"] - 1) <= 5e-3
    for number, name in enumerate(names):
        gradient = result.gradients[f"gradient.{name}"]
        expected = GOLDEN["pti/reg_grad_slice"][number]
        if name.endswith("noise.weight"):
            assert not gradient.any()  # noise is off there
            assert not expected.any()
            continue
        difference = np.abs(slices(gradient, 64) - expected).max()
        assert difference <= 3e-2 * np.abs(gradient).max(), name
