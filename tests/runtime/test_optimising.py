"""Optimising inversions through the public API, on a small bundle of the official layout."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import succeed
from hyperstyle_rt import BundleError, HyperStyleError, Inversion, InversionError, Model
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.imaging.pictures import read_picture, to_input, to_picture, write_picture
from hyperstyle_rt.optimising import adam as adam_module
from hyperstyle_rt.optimising import descent, limits
from hyperstyle_rt.optimising.adam import BLOCK, BRISK, PUBLISHED, Adam, AdamSettings
from hyperstyle_rt.optimising.limits import Limits
from hyperstyle_rt.optimising.running import Request, check_bundle

STEPS = 12


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def inversion(model: Model, picture: np.ndarray) -> Inversion:
    return model.invert(picture, iterations=2)


@pytest.fixture(scope="module")
def refined(model: Model, inversion: Inversion, picture: np.ndarray) -> Inversion:
    return model.optimise(inversion, picture, steps=STEPS)


def distance(inversion: Inversion, picture: np.ndarray) -> float:
    """Mean square in the generator's size."""
    target = to_input(picture, inversion.output.shape[1:])[0]
    return float(np.square(inversion.output - target).mean())


@pytest.mark.parametrize(("variable", "share"), [("channel_offsets", 0.8), ("codes", 0.995)])
def test_steps_bring_the_picture_closer(
    model: Model, inversion: Inversion, picture: np.ndarray, variable: str, share: float
) -> None:
    """The weights are noise: within the hypernetwork's space of offsets little can be done."""
    losses: list[float] = []
    refined = model.optimise(
        inversion,
        picture,
        steps=STEPS,
        variables=(variable,),
        on_step=lambda _n, loss, _i: losses.append(loss),
    )
    assert len(losses) == STEPS + 1
    assert losses[-1] < share * losses[0]
    assert distance(refined, picture) < share * distance(inversion, picture)
    assert np.array_equal(refined.latents, inversion.latents)
    assert refined.iterations == inversion.iterations == 2
    assert refined.settings == {
        "iterations": 2,
        "optimise": [{"preset": "refine", "variables": [variable], "steps": STEPS}],
    }
    if variable == "codes":
        assert refined.channel_offsets is None
        assert (refined.codes[:, -1] == 2).all()
        assert not np.array_equal(refined.codes, inversion.codes)
    else:
        assert np.array_equal(refined.codes, inversion.codes)
        pairs = sum(o * i for o, i, _, _ in (t.shape for t in model.bundle.manifest.tuned_layers))
        assert refined.channel_offsets.shape == (pairs,)
        assert refined.data.channel_offsets.dtype == np.float16


def test_every_state_is_reported(model: Model, inversion: Inversion, picture: np.ndarray) -> None:
    seen: list[tuple[int, float, np.ndarray]] = []
    refined = model.optimise(inversion, picture, steps=3, on_step=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == [0, 1, 2, 3]
    assert np.abs(seen[0][2] - inversion.output).max() < 1e-5
    assert np.abs(seen[-1][2] - refined.output).max() < 1e-2  # rounded to halves since
    assert np.abs(seen[-1][2] - seen[0][2]).max() > 1e-2


def test_a_refined_inversion_is_an_ordinary_one(
    model: Model, refined: Inversion, tiny_bundle: Path, tmp_path: Path
) -> None:
    assert np.array_equal(refined.image, to_picture(refined.output))
    refined.save(tmp_path / "face.safetensors")
    loaded = Inversion.load(tmp_path / "face.safetensors")
    assert np.array_equal(loaded.channel_offsets, refined.channel_offsets)
    again = Model.load(tiny_bundle, "cpu", threads=1)
    assert np.array_equal(again.render(loaded), refined.image)
    batch = np.stack([refined.latents, refined.latents + 0.5])
    assert np.array_equal(model.render(refined, batch)[0], refined.image)


def test_free_offsets_are_among_the_offsets(
    model: Model, inversion: Inversion, refined: Inversion
) -> None:
    before, after = model.offsets(inversion), model.offsets(refined)
    start = 0
    for layer in model.bundle.manifest.tuned_layers:
        out_channels, in_channels, *_ = layer.shape
        stop = start + out_channels * in_channels
        added = refined.channel_offsets[start:stop].reshape(out_channels, in_channels, 1, 1)
        difference = after[layer.index] - before[layer.index]
        assert np.abs(difference - added).max() <= 1e-3, layer.name
        start = stop


def test_between_a_refined_face_and_another(
    model: Model, inversion: Inversion, refined: Inversion
) -> None:
    """Both ends are the faces themselves, whichever of them is refined."""
    for first, second in ((inversion, refined), (refined, inversion), (refined, refined)):
        start, middle, end = model.interpolate(first, second, [0.0, 0.5, 1.0])
        assert np.array_equal(start, first.image)
        assert np.array_equal(end, second.image)
        assert (first is second) == np.array_equal(middle, first.image)


@pytest.mark.parametrize("variable", ["channel_offsets", "codes"])
def test_refining_goes_on_from_where_it_was(
    model: Model, refined: Inversion, picture: np.ndarray, variable: str
) -> None:
    losses: list[float] = []
    further = model.optimise(
        refined,
        picture,
        steps=8,
        variables=(variable,),
        on_step=lambda _n, loss, _i: losses.append(loss),
    )
    assert further.channel_offsets is not None
    assert losses[-1] < losses[0]
    assert distance(further, picture) < distance(refined, picture)


def test_no_steps_change_nothing(model: Model, inversion: Inversion, picture: np.ndarray) -> None:
    same = model.optimise(inversion, picture, steps=0, variables=("codes",))
    assert np.array_equal(same.codes, inversion.codes)
    assert np.array_equal(same.image, inversion.image)


def test_time_limits(
    model: Model, inversion: Inversion, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that advances a second whenever it is looked at."""
    ticks = iter(range(1000))
    monkeypatch.setattr(descent, "time", type("Clock", (), {"monotonic": lambda: next(ticks)}))
    seen: list[int] = []
    model.optimise(
        inversion, picture, steps=60, seconds=4, on_step=lambda n, _l, _i: seen.append(n)
    )
    assert seen == [0, 1, 2, 3]


def test_stops_when_settled(model: Model, inversion: Inversion, picture: np.ndarray) -> None:
    seen: list[int] = []

    def note(done: int, _loss: float, _image: np.ndarray) -> None:
        seen.append(done)

    model.optimise(inversion, picture, steps=40, until=0.999, on_step=note)
    assert seen[-1] == limits.SETTLED_OVER  # no ten steps make the loss a thousandth
    assert Limits(5, until=0.1).settled([1.0] * 11)
    assert not Limits(5, until=0.1).settled([1.0] * 10)
    assert not Limits(5, until=0.1).settled([1.0] * 10 + [0.8])
    assert not Limits(5).settled([1.0] * 100)


def test_an_exception_in_the_callback_aborts(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    def stop(_done: int, _loss: float, _image: np.ndarray) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.optimise(inversion, picture, on_step=stop)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"steps": -1}, "steps"),
        ({"steps": 100_001}, "100000"),
        ({"steps": 2.5}, r"steps must be a whole number from 0 to 100000, not 2\.5"),
        ({"steps": True}, "steps"),
        ({"steps": "2"}, "steps"),
        ({"steps": 10**5000}, "thousands of digits"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": float("inf")}, "seconds must be a finite number of at least 0, not inf"),
        ({"until": "2"}, "until"),
        ({"until": float("inf")}, "until"),
        ({"seconds": float("nan")}, "seconds"),
        ({"until": -0.1}, "until"),
        ({"until": float("inf")}, "until"),
        ({"seconds": float("inf")}, "seconds"),
        ({"variables": ["pixels"]}, "choose of latents, w, noise, codes"),
        ({"variables": []}, "no variable is named"),
        ({"variables": ["codes", "codes"]}, "named twice"),
        ({"variables": ["latents", "w"]}, "the same numbers"),
        ({"preset": "ransac"}, "choose of refine, photo, projector"),
        ({"preset": "pti", "variables": ["w"]}, "are its own"),
    ],
)
def test_senseless_options_are_refused(
    model: Model,
    inversion: Inversion,
    picture: np.ndarray,
    options: dict[str, object],
    complaint: str,
) -> None:
    with pytest.raises(HyperStyleError, match=complaint):
        model.optimise(inversion, picture, **options)


def test_what_cannot_be_refined_is_refused(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    stranger = Inversion(replace(inversion.data, bundle_name="cats", space="0" * 64))
    with pytest.raises(InversionError, match="cats"):
        model.optimise(stranger, picture)
    styled = replace(inversion, styles=np.zeros(3, np.float32))
    with pytest.raises(InversionError, match="before the edit"):
        model.optimise(styled, picture)
    offsets = np.zeros(3, np.float16)
    foreign = Inversion(replace(inversion.data, channel_offsets=offsets))
    with pytest.raises(InversionError, match=r"channel_offsets of shape \[3\]"):
        model.render(foreign)


def test_another_precision_is_refused(
    model: Model, inversion: Inversion, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.backend, "graph_precision", "fp16")
    with pytest.raises(HyperStyleError, match="--precision fp32"):
        model.optimise(inversion, picture)


def test_a_bundle_without_the_graphs_says_so(
    model: Model, inversion: Inversion, refined: Inversion, picture: np.ndarray
) -> None:
    manifest = model.bundle.manifest
    graphs = {
        role: graph
        for role, graph in manifest.graphs.items()
        if not (role.startswith("channel") or role.endswith("objective"))
    }
    old = Model(Bundle(model.bundle.directory, replace(manifest, graphs=graphs)), model.backend)
    assert np.array_equal(old.render(inversion), inversion.image)
    with pytest.raises(BundleError, match="build it again"):
        old.optimise(inversion, picture)
    with pytest.raises(BundleError, match="build it again"):
        old.render(refined)


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        (
            "faces",
            Request(variables=("latents", "codes")),
            "bundle 'faces' has no offset codes, which 'refine' is to change; choose of the "
            "variables that it has: latents, w, noise, channel_offsets, weights, features",
        ),
        (
            "portraits",
            Request(variables=("noise",)),
            "bundle 'portraits' has no noise maps, which 'refine' is to change; choose of the "
            "variables that it has: latents, w, codes, channel_offsets, weights, features",
        ),
    ],
)
def test_variables_that_a_bundle_has_not_are_refused_by_their_names(
    name: str, wanted: Request, message: str, model: Model
) -> None:
    with pytest.raises(BundleError) as refusal:
        check_bundle(Bundle.open(find_bundle(name)), model.backend, wanted, True)
    assert str(refusal.value) == message


def test_presets_that_change_what_a_bundle_has_not_are_refused(model: Model) -> None:
    manifest = model.bundle.manifest
    graphs = {role: graph for role, graph in manifest.graphs.items() if role != "weights"}
    untuned = replace(manifest, codes=None, tuned_layers=(), graphs=graphs)
    bundle = Bundle(model.bundle.directory, untuned)
    for preset, instead in (("photo", "another method"), ("refine", "of the variables")):
        with pytest.raises(BundleError, match=f"no tuned layers for channel .* choose {instead}"):
            check_bundle(bundle, model.backend, Request(preset), True)
    check_bundle(bundle, model.backend, Request("pti"), True)


def test_no_graph_is_opened_before_all_it_reads_is_verified(
    tiny_bundle: Path, inversion: Inversion, picture: np.ndarray, tmp_path: Path
) -> None:
    """A graph may read the data files of others: an altered one is found, whosever it is."""
    copy = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, copy)
    graph = bytearray((copy / "objective.onnx").read_bytes())
    graph[-1] ^= 1
    (copy / "objective.onnx").write_bytes(graph)
    with pytest.raises(BundleError, match=r"objective.onnx.*SHA-256"):
        Model.load(copy, "cpu").optimise(inversion, picture, steps=1)
    shutil.copy(tiny_bundle / "objective.onnx", copy)
    bundle = Bundle.open(copy)
    entry = replace(bundle.manifest.files["objective.onnx"], sha256="0" * 64, size=3)
    (copy / "weights.onnx.data").write_bytes(b"abc")
    files = {**bundle.manifest.files, "weights.onnx.data": entry}
    shared = replace(bundle.manifest.graphs["objective"], data=("weights.onnx.data",))
    graphs = {**bundle.manifest.graphs, "objective": shared}
    altered = Bundle(copy, replace(bundle.manifest, files=files, graphs=graphs))
    assert altered.verified_path("encoder") == copy / "encoder.onnx"
    with pytest.raises(BundleError, match=r"weights.onnx.data.*SHA-256"):
        altered.verified_path("objective")
    assert set(altered.graph_digests("objective", "fp32")) == {
        "objective.onnx",
        "weights.onnx.data",
    }
    assert set(altered.graph_digests("encoder", "fp32")) == {"encoder.onnx"}


@pytest.mark.parametrize("block", [BLOCK, 2])
@pytest.mark.parametrize("settings", [BRISK, PUBLISHED])
def test_adam_is_adam(settings: AdamSettings, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's, with rates of its own for every number, scaled from step to step."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(adam_module, "BLOCK", block)
    rates = np.array([0.1, 0.01, 0.0], np.float32)
    adam, state = Adam(rates, settings), np.array([1.0, -2.0, 3.0], np.float32)
    parameters = [torch.tensor([value], requires_grad=True) for value in state]
    optimiser = torch.optim.Adam(
        [{"params": [p], "lr": r} for p, r in zip(parameters, rates, strict=True)],
        betas=settings.decay,
        eps=settings.epsilon,
    )
    for factor in (1.0, 0.5, 0.25):
        state = adam.moved(state, 2 * state, factor)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = factor * rate
        optimiser.zero_grad()
        sum(p.square().sum() for p in parameters).backward()
        optimiser.step()
        expected = torch.cat(parameters).detach().numpy()
        assert np.abs(state - expected).max() < 1e-5


def test_progress_is_the_larger_share() -> None:
    limits = Limits(10, seconds=4)
    assert limits.progress(5, 0) == 0.5
    assert limits.progress(5, 3) == 0.75
    assert limits.progress(20, 3) == 1.0
    assert Limits(0).progress(0, 0) == 1.0
    assert Limits(10, seconds=0).progress(0, 0) == 1.0


def test_a_second_of_limit_is_a_second(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    began = time.monotonic()
    model.optimise(inversion, picture, steps=100_000, seconds=0.2)
    assert 0.2 <= time.monotonic() - began < 20


def test_the_command_line_optimises(
    tiny_bundle: Path, model: Model, picture: np.ndarray, tmp_path: Path
) -> None:
    write_picture(tmp_path / "face.png", picture)
    options = ["--bundle", tiny_bundle, "--threads", 1, "--iterations", 1, "--save-inversion"]
    for variable in ("channel_offsets", "codes"):
        out = tmp_path / variable
        words = ["invert", tmp_path / "face.png", "--out", out, *options, "--coupled"]
        succeed(*words, "--then", "refine", "--steps", 5, "--variables", variable)
        loaded = Inversion.load(out / "face.safetensors")
        assert (loaded.channel_offsets is not None) == (variable == "channel_offsets")
        written = read_picture(out / "face.inverted.png")
        assert np.array_equal(written, model.render(loaded))
        assert not np.array_equal(written, model.invert(picture, 1).image)
        # the input, one iteration, and what was refined
        width = read_picture(out / "face.coupled.png").shape[1]
        assert width >= 3 * written.shape[1]
