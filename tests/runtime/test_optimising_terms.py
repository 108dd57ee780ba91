"""Schedules, noise, priors and stages of descent: published numbers and finite differences."""

from __future__ import annotations

from pathlib import Path

import fakeweights
import numpy as np
import pytest
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.formats.parametric_inputs import ObjectiveFacts
from hyperstyle_rt.optimising import noise_maps
from hyperstyle_rt.optimising.latent_statistics import (
    Whitening,
    before_activation,
    prior,
    spread_of,
    whitening_of,
)
from hyperstyle_rt.optimising.names import PRESET_LINES, VARIABLE_NAMES
from hyperstyle_rt.optimising.presets import PRESETS, Weights
from hyperstyle_rt.optimising.running import Request, stages_of
from hyperstyle_rt.optimising.schedules import (
    constant,
    cosine,
    gently,
    projector_disturbance,
    projector_rate,
    warm_cosine,
)
from hyperstyle_rt.optimising.terms import LOCALITY_STEP, beside
from hyperstyle_rt.optimising.variables import VARIABLES

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optimisation.npz")
SIDES = [4, *(side for side in (8, 16, 32, 64, 128, 256) for _ in range(2))]


@pytest.mark.parametrize(
    ("rate", "factor", "lr", "steps"),
    [
        ("sched/lr_1000", "sched/noise_1000", 0.1, 1000),
        ("sched/pti_lr_450", "sched/pti_noise_450", 0.01, 450),
    ],
)
def test_schedules_are_the_published_ones(rate: str, factor: str, lr: float, steps: int) -> None:
    found = [lr * projector_rate(step, step / steps) for step in range(steps)]
    assert np.abs(np.array(found) - GOLDEN[rate]).max() <= 1e-12
    found = [projector_disturbance(step / steps) for step in range(steps)]
    assert np.abs(np.array(found) - GOLDEN[factor]).max() <= 1e-12


def test_other_schedules() -> None:
    assert [constant(n, n / 4) for n in range(5)] == [1.0] * 5
    assert [round(cosine(n, n / 4), 3) for n in range(5)] == [1.0, 0.854, 0.5, 0.146, 0.0]
    assert [round(warm_cosine(n, 0), 3) for n in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert [round(gently(n, 0), 3) for n in range(6)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]
    assert gently(9, 1) == pytest.approx(0.05)


def noise_map(number: int) -> np.ndarray:
    side = SIDES[number]
    return fakeweights.normal(f"decoder.noises.noise_{number}", (1, 1, side, side))[0, 0]


def correlated(number: int) -> np.ndarray:
    white = noise_map(number)
    return np.float32(white + 0.5 * np.roll(white, 1, 1) + 0.25 * np.roll(white, 1, 0))


@pytest.mark.parametrize(("key", "make"), [("white", noise_map), ("corr", correlated)])
def test_noise_regulariser_is_the_published_one(key: str, make: object) -> None:
    results = [noise_maps.regulariser(make(number)) for number in range(len(SIDES))]
    values = np.array([value for value, _ in results])
    assert abs(values.sum() / GOLDEN[f"nreg/{key}_total"] - 1) <= 1e-5
    assert np.abs(values / GOLDEN[f"nreg/{key}_per_map"] - 1).max() <= 1e-5
    for (_, gradient), expected in zip(results, GOLDEN[f"nreg/{key}_grad"], strict=True):
        flat = gradient.ravel()[:: max(1, gradient.size // 256)][:256]
        assert np.abs(flat - expected[: flat.size]).max() <= 1e-5 * np.abs(gradient).max()


def test_noise_is_normalised_as_published() -> None:
    noise = correlated(6)
    for key, normalise in (
        ("nvidia", noise_maps.normalised),
        ("rosinality", noise_maps.standardised),
    ):
        found = normalise(noise).ravel()[:: noise.size // 256][:256]
        assert np.abs(found - GOLDEN[f"nreg/normalised_{key}_6"]).max() <= 1e-5
    assert np.square(noise_maps.normalised(noise)).mean() == pytest.approx(1, abs=1e-6)


def published_whitening() -> Whitening:
    q, r = np.linalg.qr(fakeweights.normal("pn.comp", (512, 512)).astype(np.float64))
    components = np.float32(q * np.sign(np.diag(r)))
    assert np.abs(components[0, 0] - GOLDEN["pn/comp_check"][1]) < 1e-6
    return Whitening(
        (np.float32(0.3) * fakeweights.normal("pn.mean", (512,))).astype(np.float64),
        components.astype(np.float64),
        (np.float32(0.2) + np.abs(fakeweights.normal("pn.std", (512,)))).astype(np.float64),
    )


def test_prior_is_the_published_one() -> None:
    latents = np.float32(0.5) * fakeweights.normal("pn.w", (1, 18, 512))[0]
    loss, gradient = prior(latents, published_whitening())
    assert abs(0.001 * loss / GOLDEN["pn/loss"] - 1) <= 1e-5
    assert np.abs(0.001 * gradient[[0, 17]] - GOLDEN["pn/grad_rows0_17"]).max() <= 1e-9


def test_whitening_whitens() -> None:
    """Latents as a mapping network gives them, back to normal numbers."""
    source = np.random.default_rng(0)
    mixed = source.standard_normal((4000, 6)) @ source.standard_normal((6, 6)) + 1
    latents = np.where(mixed >= 0, mixed, 0.2 * mixed).astype(np.float32)
    whitening = whitening_of(latents)
    assert np.all(np.diff(whitening.deviations) <= 0)
    white = (before_activation(latents.astype(float)) - whitening.mean) @ whitening.components.T
    white /= whitening.deviations
    assert np.abs(np.cov(white, rowvar=False) - np.eye(6)).max() < 1e-3
    loss, _ = prior(latents[:1000], whitening)
    assert loss == pytest.approx(1, abs=0.1)
    spread = spread_of(latents)
    assert np.allclose(spread.mean, latents.mean(0), atol=1e-5)
    deviation = np.sqrt(latents.astype(float).var(0).sum())
    assert spread.deviation == pytest.approx(deviation, rel=1e-5)


def test_a_least_deviation_bounds_the_prior() -> None:
    """Of latents that lie in fewer directions than they have numbers."""
    source = np.random.default_rng(0)
    mixed = source.standard_normal((500, 3)) @ source.standard_normal((3, 16))
    latents = np.float32(20 + mixed)  # above zero, where the activation changes nothing
    aside = latents[:1] + np.float32(0.1)
    assert prior(aside, whitening_of(latents))[0] > 1e3
    bounded = whitening_of(latents, 0.5)
    assert bounded.deviations.min() == 0.5 * bounded.deviations.max()
    assert prior(aside, bounded)[0] < 10


@pytest.mark.parametrize("term", ["noise", "prior"])
def test_gradients_are_finite_differences(term: str) -> None:
    source = np.random.default_rng(1)
    value = source.standard_normal((16, 16)).astype(np.float32)
    whitening = whitening_of(source.standard_normal((500, 16)).astype(np.float32))

    def evaluate(array: np.ndarray) -> tuple[float, np.ndarray]:
        if term == "noise":
            return noise_maps.regulariser(array)
        return prior(array, whitening)

    _, gradient = evaluate(value)
    way = source.standard_normal(value.shape).astype(np.float32)
    step = 1e-3
    above, below = (evaluate(value + sign * np.float32(step) * way)[0] for sign in (1, -1))
    slope = float((gradient.astype(float) * way).sum())
    assert (above - below) / (2 * step) == pytest.approx(slope, rel=2e-3)


def test_the_point_beside_a_pivot_is_so_far_away() -> None:
    pivot = np.random.default_rng(2).standard_normal((4, 8)).astype(np.float32)
    there = beside(pivot, np.zeros(8, np.float32))
    assert np.linalg.norm(there - pivot) == pytest.approx(LOCALITY_STEP, rel=1e-5)
    assert np.linalg.norm(there + LOCALITY_STEP * pivot / np.linalg.norm(pivot) - pivot) < 1e-4


def test_names_in_help_are_those_there_are() -> None:
    assert set(PRESET_LINES) == set(PRESETS)
    assert set(VARIABLE_NAMES) == set(VARIABLES)
    for preset in PRESETS.values():
        for stage in preset.stages:
            assert set(stage.variables) <= set(VARIABLES)
            assert stage.optional <= set(stage.variables)


def test_stages_share_the_steps() -> None:
    def steps(**asked: object) -> list[int]:
        return [stage.steps for stage in stages_of(Request(**asked), asked.pop("given", False))]

    assert steps(preset="pti") == [450, 350]
    assert steps(preset="pti", steps=100) == [56, 44]
    assert steps(preset="pti", steps=0) == [0, 0]
    assert steps(preset="hybrid", steps=1) == [0, 1]
    given = stages_of(Request("pti", steps=100), has_latents=True)
    assert [stage.steps for stage in given] == [100]  # an inversion's latents are the pivot
    assert list(given[0].variables) == ["weights"]


def test_published_settings() -> None:
    pivot, tuning = PRESETS["pti"].stages
    assert (pivot.steps, pivot.from_mean, pivot.variables["w"].rate) == (450, 600, 0.01)
    assert (tuning.steps, tuning.variables["weights"].rate, tuning.enough) == (350, 3e-4, 0.06)
    assert pivot.drops_noise
    (projector,) = PRESETS["projector"].stages
    assert (projector.steps, projector.from_mean, projector.variables["w"].rate) == (
        1000,
        10_000,
        0.1,
    )
    assert not projector.drops_noise
    assert PRESETS["ii2s"].stages[0].prior == 0.001
    assert PRESETS["ii2s"].steps == 1300
    assert PRESETS["image2stylegan"].steps == 5000
    assert PRESETS["idinvert"].stages[0].encoder_term == 2.0
    with pytest.raises(HyperStyleError, match="steps must be"):
        stages_of(Request(steps=-1), has_latents=True)


def test_the_perceptual_weight_goes_by_the_network() -> None:
    """VGG16's mean squares are thousands: without a weight of their own, that built in counts."""
    vgg16, lpips = ObjectiveFacts("vgg16", 5e-5), ObjectiveFacts("lpips_alexnet", 0.25)
    idinvert, plain = PRESETS["idinvert"].stages[0].weights, Weights()
    assert idinvert.of_terms(vgg16).tolist() == [1, 0, 1]
    assert idinvert.of_terms(ObjectiveFacts("vgg16", 1e-4)).tolist() == [1, 0, 0.5]
    assert plain.of_terms(vgg16).tolist() == [1, 0, 1]
    assert plain.of_terms(lpips).tolist() == [1, 0, 4]
    assert Weights(perceptual=None).of_terms(vgg16)[2] == 1
    assert plain.of_terms(None)[2] == pytest.approx(1 / 0.3)
