"""Descent on every variable and by every preset, on a small bundle of the official layout."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import refuse, succeed
from hyperstyle_export.bundles.writer import add_file
from hyperstyle_rt import BundleError, HyperStyleError, Inversion, InversionError, Model
from hyperstyle_rt.formats.bundle import LATENT_SAMPLES_NAME, Bundle
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.imaging.pictures import to_input, write_picture
from hyperstyle_rt.optimising.latent_statistics import draw_latents
from hyperstyle_rt.optimising.objective import choose_role
from hyperstyle_rt.optimising.point import Point
from hyperstyle_rt.optimising.presets import PRESETS
from safetensors.numpy import save

STEPS = 6
NEEDS = {
    "latents": (),
    "w": (),
    "noise": ("noise",),
    "weights": ("weights",),
    "features": ("features",),
}


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def inversion(model: Model, picture: np.ndarray) -> Inversion:
    return model.invert(picture, iterations=1)


@pytest.fixture(scope="module")
def everything(model: Model, inversion: Inversion, picture: np.ndarray) -> Inversion:
    """Of all variables that go together."""
    names = ("latents", "codes", "channel_offsets", "noise", "weights", "features")
    return model.optimise(inversion, picture, steps=STEPS, variables=names)


def distance(inversion: Inversion, picture: np.ndarray) -> float:
    target = to_input(picture, inversion.output.shape[1:])[0]
    return float(np.square(inversion.output - target).mean())


@pytest.mark.parametrize("variable", NEEDS)
def test_each_variable_brings_the_picture_closer(
    model: Model, inversion: Inversion, picture: np.ndarray, variable: str, tmp_path: Path
) -> None:
    losses: list[float] = []
    found = model.optimise(
        inversion,
        picture,
        steps=STEPS,
        variables=(variable,),
        on_step=lambda _n, loss, _r: losses.append(loss),
    )
    assert len(losses) == STEPS + 1
    assert losses[-1] < losses[0]
    assert found.data.needs == ("codes", *NEEDS[variable])
    changed = not np.array_equal(found.latents, inversion.latents)
    assert changed == (variable in ("latents", "w"))
    if variable == "w":
        assert (found.latents == found.latents[0]).all()
    found.save(tmp_path / "x.safetensors")
    again = Inversion.load(tmp_path / "x.safetensors")
    assert np.array_equal(model.render(again), found.image)


def test_all_variables_at_once(
    model: Model, inversion: Inversion, everything: Inversion, picture: np.ndarray, tmp_path: Path
) -> None:
    assert everything.data.needs == ("codes", "channel_offsets", "noise", "weights", "features")
    assert distance(everything, picture) < distance(inversion, picture)
    inputs = model.bundle.manifest.parametric_inputs
    assert everything.data.weights.shape == (inputs.num_weights,)
    assert everything.data.weights.dtype == np.float16
    assert everything.data.features.shape == inputs.feature.shape
    everything.save(tmp_path / "x.safetensors")
    again = Inversion.load(tmp_path / "x.safetensors")
    assert np.array_equal(model.render(again), everything.image)


def test_kernels_have_their_gradients_beside_free_weights(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    """Through the parameters the codes move as through the kernels themselves."""
    alone = model.optimise(inversion, picture, steps=1, variables=("codes",))
    beside = model.optimise(inversion, picture, steps=1, variables=("codes", "weights"))
    moved = np.abs(alone.codes - inversion.codes).max()
    assert moved > 0
    assert np.abs(alone.codes - beside.codes).max() < 1e-3 * moved


def test_what_is_free_is_edited_and_interpolated(
    model: Model, inversion: Inversion, everything: Inversion
) -> None:
    start, middle, end = model.interpolate(inversion, everything, [0.0, 0.5, 1.0])
    assert (
        np.abs(start.astype(int) - inversion.image).max() <= 1
    )  # stored noise given, not built in
    assert np.array_equal(end, everything.image)
    assert not np.array_equal(middle, start)
    moved = model.render(everything, everything.latents + 0.5)
    assert not np.array_equal(moved, everything.image)
    styles = np.zeros((1, model.bundle.manifest.optional_inputs.style_channels), np.float32)
    same = model.render(everything, styles=styles)
    assert np.array_equal(same, everything.image)
    styled = model.render(everything, styles=styles + 1)
    assert not np.array_equal(styled, everything.image)
    with pytest.raises(InversionError, match="free weights"):
        model.offsets(everything)


FROM_NOTHING = ("projector", "image2stylegan", "ii2s", "pti")


@pytest.mark.parametrize("preset", FROM_NOTHING)
def test_presets_start_from_nothing(model: Model, picture: np.ndarray, preset: str) -> None:
    seen: list[tuple[int, float]] = []
    found = model.optimise(
        None, picture, preset, steps=9, on_step=lambda n, loss, _r: seen.append((n, loss))
    )
    assert [number for number, _ in seen] == list(range(10))  # over all stages
    assert found.method == preset
    assert found.codes is None
    assert found.settings == {"optimise": [{"preset": preset, "steps": 9}]}
    assert found.data.space == model.bundle.manifest.space
    needs = {"projector": ("noise",), "pti": ("weights",)}
    assert found.data.needs == needs.get(preset, ())
    again = model.optimise(None, picture, preset, steps=9)
    assert np.array_equal(again.output, found.output)  # what is drawn is drawn alike
    average = model.optimise(None, picture, preset, steps=0)
    assert distance(found, picture) < distance(average, picture)


@pytest.fixture(scope="module")
def sampled(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, np.ndarray]:
    """A bundle that carries latents of its own kind, far from those of normal vectors."""
    path = tmp_path_factory.mktemp("sampled") / "tiny"
    shutil.copytree(tiny_bundle, path)
    samples = np.random.default_rng(0).normal(3, 0.1, (40, 16)).astype(np.float16)
    add_file(Bundle.open(path), LATENT_SAMPLES_NAME, save({"latent_samples": samples}))
    return Model.load(path, "cpu", threads=1), samples.astype(np.float32)


@pytest.mark.parametrize("preset", FROM_NOTHING)
def test_they_start_from_samples_where_there_are_some(
    sampled: tuple[Model, np.ndarray], picture: np.ndarray, preset: str
) -> None:
    model, samples = sampled
    start = model.optimise(None, picture, preset, steps=0).latents
    if preset != "ii2s":  # which starts from the bundle's average
        assert np.allclose(start, samples.mean(0), atol=1e-5)
    found = model.optimise(None, picture, preset, steps=9).latents
    assert 0 < np.abs(found - start).max() < 1


def test_samples_are_what_is_drawn(
    sampled: tuple[Model, np.ndarray], inversion: Inversion, picture: np.ndarray
) -> None:
    """By what draws single latents, too; no mapping network is run."""
    model, samples = sampled
    drawn = draw_latents(model.bundle, model.backend, 10)
    assert len({tuple(row) for row in drawn}) == 10
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in samples}
    assert len(draw_latents(model.bundle, model.backend, 1000)) == len(samples)
    held, free = (
        model.optimise(inversion, picture, preset, steps=15) for preset in ("pti_locality", "pti")
    )

    def moved(tuned: Inversion) -> float:
        before, after = (
            model.synthesise(each, np.tile(samples[0], (len(each.latents), 1)))
            for each in (inversion, tuned)
        )
        return float(np.abs(after - before).mean())

    assert 0 < moved(held) < moved(free)


def test_pivotal_tuning_of_an_inversion_keeps_its_latents(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    found = model.optimise(inversion, picture, "pti", steps=3)
    assert np.array_equal(found.latents, inversion.latents)
    assert np.array_equal(found.codes, inversion.codes)
    assert found.data.needs == ("codes", "weights")
    assert found.settings["optimise"] == [{"preset": "pti", "steps": 3}]
    further = model.optimise(found, picture, "pti", steps=3)
    assert distance(further, picture) < distance(found, picture) < distance(inversion, picture)


def test_locality_holds_the_rest_of_the_generator(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    """Away from the pivot, the tuned generator is closer to the old one than without the term."""
    elsewhere = inversion.latents + np.random.default_rng(3).normal(0, 1, 16).astype(np.float32)
    before = model.synthesise(inversion, elsewhere)

    def moved(preset: str) -> float:
        tuned = model.optimise(inversion, picture, preset, steps=15)
        return float(np.abs(model.synthesise(tuned, elsewhere) - before).mean())

    assert 0 < moved("pti_locality") < moved("pti")


@pytest.mark.parametrize("preset", ["refine", "photo"])
def test_a_preset_that_needs_an_inversion_makes_one(
    model: Model, picture: np.ndarray, preset: str
) -> None:
    found = model.optimise(None, picture, preset, steps=2)
    assert found.method == model.bundle.manifest.default_method
    assert found.codes is not None


def test_a_mask_says_what_counts(
    model: Model, inversion: Inversion, picture: np.ndarray, tmp_path: Path
) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    found = model.optimise(inversion, picture, "hybrid", steps=20, mask=mask)
    assert found.data.needs == ("codes", "weights", "features")
    features = found.data.features
    assert features is not None
    outside, inside = np.split(features, 2, axis=2)
    assert outside.any() and not inside.any()

    def halves(result: Inversion) -> np.ndarray:
        target = to_input(picture, result.output.shape[1:])[0]
        error = np.square(result.output - target).mean((0, 1))
        return np.array([error[: len(error) // 2].mean(), error[len(error) // 2 :].mean()])

    right = model.optimise(inversion, picture, steps=20, mask=mask)
    gains = halves(right) / halves(inversion)
    assert gains[1] < gains[0]
    write_picture(tmp_path / "mask.png", np.repeat(mask[..., None], 3, 2))
    named = model.optimise(inversion, picture, steps=20, mask=tmp_path / "mask.png")
    assert np.array_equal(named.output, right.output)
    assert named.settings["optimise"][0]["mask"] is True
    with pytest.raises(HyperStyleError, match="give a picture of the mask"):
        model.optimise(inversion, picture, "hybrid")


def test_nothing_masked_moves_nothing(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    nothing = np.zeros((8, 8), np.uint8)
    found = model.optimise(inversion, picture, steps=3, mask=nothing)
    assert not found.channel_offsets.any()


def test_seconds_are_shared_by_the_stages(
    model: Model, picture: np.ndarray, inversion: Inversion
) -> None:
    seen: list[int] = []
    model.optimise(None, picture, "pti", seconds=0, on_step=lambda n, _l, _r: seen.append(n))
    assert seen == [0]


def test_what_a_bundle_lacks_is_refused_by_name(
    model: Model, inversion: Inversion, picture: np.ndarray, everything: Inversion
) -> None:
    with pytest.raises(BundleError, match=r"encoder_term.*; no bundle of its kind has it: choose"):
        model.optimise(inversion, picture, "idinvert")
    for role, preset in {
        "latents_objective": "projector",
        "synthesis_objective": "pti",
        "mapping": "ii2s",
    }.items():
        lacking = without(model, role, *(("joint_objective",) if "latents" in role else ()))
        if role == "latents_objective":
            lacking = without(lacking, "synthesis_objective")
        with pytest.raises(
            BundleError, match=f"lacks the graph {role}, which '{preset}'.*build it again"
        ):
            lacking.optimise(None, picture, preset)
    old = without(model, "parametric_generator", "parameters", parametric_inputs=None)
    with pytest.raises(InversionError, match="needs weights, and bundle 'tiny' cannot render it"):
        old.render(everything)
    with pytest.raises(InversionError, match="needs features"):
        old.render(Inversion(replace(everything.data, weights=None)))


def test_the_cheapest_graph_that_covers_is_chosen(model: Model, everything: Inversion) -> None:
    manifest, bare = model.bundle.manifest, Point(everything.latents)
    noisy = replace(bare, noise=np.zeros(1, np.float32))
    tuned = replace(bare, weights=np.zeros(1, np.float32))
    for gradients, point, role in (
        ({"kernels"}, bare, "objective"),
        ({"kernels"}, noisy, "joint_objective"),
        ({"kernels"}, tuned, "synthesis_objective"),
        ({"latents"}, bare, "latents_objective"),
        ({"latents", "kernels"}, bare, "joint_objective"),
        ({"features"}, bare, "synthesis_objective"),
    ):
        assert choose_role(manifest, gradients, point) == role
    lacking = without(model, "joint_objective", "synthesis_objective").bundle.manifest
    with pytest.raises(BundleError, match="of kernels of an inversion with noise of its own"):
        choose_role(lacking, {"kernels"}, noisy)


def without(model: Model, *roles: str, **replaced: object) -> Model:
    """The model of a bundle that was built without some graphs."""
    manifest: Manifest = model.bundle.manifest
    graphs = {role: graph for role, graph in manifest.graphs.items() if role not in roles}
    bundle = Bundle(model.bundle.directory, replace(manifest, graphs=graphs, **replaced))
    return Model(bundle, model.backend)


def test_presets_are_methods_of_the_command(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    write_picture(tmp_path / "face.png", picture)
    options = ["--bundle", tiny_bundle, "--threads", 1, "--save-inversion", "--force"]
    words = ["invert", tmp_path / "face.png", "--out", tmp_path, *options]
    succeed(*words, "--method", "pti", "--steps", 4)
    found = Inversion.load(tmp_path / "face.safetensors")
    assert (found.method, found.data.needs) == ("pti", ("weights",))
    succeed(*words, "--method", "hyperstyle", "--then", "pti", "--steps", 2, "-n", 1)
    found = Inversion.load(tmp_path / "face.safetensors")
    assert (found.method, found.data.needs) == ("hyperstyle", ("codes", "weights"))
    mask = tmp_path / "mask.png"
    write_picture(mask, np.full((8, 8, 3), 255, np.uint8))
    succeed(*words, "--then", "hybrid", "--steps", 2, "-n", 1, "--mask", mask)
    assert "features" in Inversion.load(tmp_path / "face.safetensors").data.needs


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--method", "pti", "--then", "refine"], "--then follows a method of the bundle"),
        (["--method", "pti", "--iterations", 3], "limit these with --steps"),
        (["--steps", 3], "name these with --then, --method or"),
        (["--then", "ransac"], "there is no preset 'ransac'"),
        (["--method", "ransac"], "has no method 'ransac'"),
        (["--then", "idinvert"], "lacks the graph encoder_term"),
        (["--then", "refine", "--variables", "codes,pixels"], "there is no variable 'pixels'"),
        (["--then", "refine", "--mask", "nowhere.png"], "nowhere.png"),
    ],
)
def test_senseless_words_are_refused(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path, words: list[object], says: str
) -> None:
    write_picture(tmp_path / "face.png", picture)
    said = refuse("invert", tmp_path / "face.png", "--bundle", tiny_bundle, *words)
    assert says in said
    assert not list(tmp_path.glob("*inverted*"))


def test_every_preset_is_told_of(tiny_bundle: Path) -> None:
    said = succeed("info", tiny_bundle)
    for name in PRESETS:
        assert name in said
    assert "encoder_term" in said
