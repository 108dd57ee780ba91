"""Methods are data: whatever phases a manifest lists are run, by the one loop there is."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import refuse, succeed
from hyperstyle_rt import (
    BackendError,
    BundleError,
    HyperStyleError,
    Inversion,
    InversionError,
    Model,
)
from hyperstyle_rt.batch.records import read_record
from hyperstyle_rt.imaging.pictures import read_picture, to_input, write_picture
from method_bundles import NUDGED, STEPS, Chain, add_method
from stand_ins import StandInCuda, add_plans
from test_device_arrays import WithInterface


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_method(tiny_bundle, tmp_path_factory.mktemp("methods") / "tiny")


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def chain(model: Model) -> Chain:
    return Chain(model.bundle, model.backend)


def equal(inversion: Inversion, state: dict[str, np.ndarray]) -> bool:
    """Whether an inversion is the state of a chain, bit for bit."""
    codes = state.get("codes")
    return (
        np.array_equal(inversion.latents, state["latents"])
        and np.array_equal(inversion.output, state["rendering"][0])
        and (inversion.codes is None if codes is None else np.array_equal(inversion.codes, codes))
    )


@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_hyperstyle_is_its_graphs_in_a_chain(
    iterations: int, model: Model, chain: Chain, picture: np.ndarray
) -> None:
    states = chain.hyperstyle(picture, iterations)
    assert equal(model.invert(picture, iterations), states[iterations])


def test_a_method_of_graphs_nobody_has_heard_of(
    model: Model, chain: Chain, picture: np.ndarray
) -> None:
    states = chain.nudged(picture, STEPS)
    inversion = model.invert(picture, method=NUDGED)
    assert equal(inversion, states[STEPS])
    assert inversion.iterations == STEPS
    assert (inversion.method, inversion.settings) == (NUDGED, {"iterations": STEPS})
    assert inversion.data.needs == ()
    moved = [np.abs(b["latents"] - a["latents"]).max() for a, b in pairwise(states)]
    assert min(moved) > 1e-4  # a chain that stands still would prove nothing


def test_its_iterations_are_reported(model: Model, chain: Chain, picture: np.ndarray) -> None:
    seen: list[tuple[int, np.ndarray, None]] = []
    model.invert(picture, 3, method=NUDGED, on_iteration=lambda *step: seen.append(step))
    states = chain.nudged(picture, 3)
    assert [number for number, _, _ in seen] == [1, 2, 3]
    for number, rendering, codes in seen:
        assert np.array_equal(rendering, states[number]["rendering"][0])
        assert codes is None


def test_it_stops_when_the_reconstruction_settles(
    model: Model, chain: Chain, picture: np.ndarray
) -> None:
    states = chain.nudged(picture, 3)
    shown = [state["reconstruction"] for state in states]
    move = float(np.abs(shown[2] - shown[1]).mean())
    stopped = model.invert(picture, 3, until=1.01 * move, method=NUDGED)
    assert equal(stopped, states[2])
    assert stopped.settings == {"iterations": 3, "until": 1.01 * move}
    assert model.invert(picture, 3, until=0, method=NUDGED).iterations == 3


def test_no_iterations_leave_the_other_phases(
    model: Model, chain: Chain, picture: np.ndarray
) -> None:
    start = model.invert(picture, 0, method=NUDGED)
    assert np.array_equal(start.latents, chain.nudged(picture, 0)[0]["latents"])
    assert start.iterations == 0


def test_an_encoder_alone_is_a_method(model: Model, chain: Chain, picture: np.ndarray) -> None:
    inversion = model.invert(picture, method="encoder")
    assert equal(inversion, {**chain.nudged(picture, 0)[0]})
    assert (inversion.iterations, inversion.settings) == (0, {})
    for options in ({"iterations": 1}, {"iterations": 0}, {"until": 0.1}):
        with pytest.raises(HyperStyleError, match="'encoder' does not iterate; leave out"):
            model.invert(picture, method="encoder", **options)


def test_latents_start_as_the_average(model: Model, chain: Chain, picture: np.ndarray) -> None:
    average = model.bundle.latent_average()
    assert average is not None
    states = chain.nudged(picture, 1, average[None])
    assert equal(model.invert(picture, method="average"), states[1])


def test_what_no_phase_gives_is_named(model: Model, picture: np.ndarray) -> None:
    with pytest.raises(BundleError, match="graph 'nudge' reads the tensor 'colours', which no"):
        model.invert(picture, method="blind")


def test_an_unknown_method_is_answered_with_those_there_are(
    model: Model, picture: np.ndarray
) -> None:
    with pytest.raises(BundleError, match="'magic', only hyperstyle, nudged, encoder"):
        model.invert(picture, method="magic")


def test_a_bundle_without_an_average_says_so(bundle: Path, picture: np.ndarray, tmp_path: Path):
    copy = shutil.copytree(bundle, tmp_path / "tiny")
    document = json.loads((copy / "manifest.json").read_text())
    del document["files"]["latent_average.safetensors"]
    (copy / "manifest.json").write_text(json.dumps(document))
    model = Model.load(copy, "cpu", threads=1)
    assert model.invert(picture, method="encoder").iterations == 0
    with pytest.raises(BundleError, match="no average latent for its method to start"):
        model.invert(picture, method="average")


# What different methods have found in one space goes together.


def test_inversions_of_different_methods_are_rendered_together(
    model: Model, tiny_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    nudged, tuned = model.invert(picture, method=NUDGED), model.invert(picture, 2)
    first, middle, last = model.interpolate(nudged, tuned, [0, 0.5, 1])
    assert np.array_equal(first, nudged.image)
    assert np.array_equal(last, tuned.image)
    assert np.abs(middle.astype(int) - first).max() > 1
    assert np.abs(middle.astype(int) - last).max() > 1
    nudged.save(tmp_path / "nudged.safetensors")
    loaded = Inversion.load(tmp_path / "nudged.safetensors")
    assert (loaded.codes, loaded.method) == (None, NUDGED)
    other = Model.load(tiny_bundle, "cpu", threads=1)  # which has no such method
    assert other.bundle.digest != model.bundle.digest
    assert np.array_equal(other.render(loaded), nudged.image)
    assert all(not offsets.any() for offsets in other.offsets(loaded).values())


def test_what_a_method_without_codes_found_is_refined(model: Model, picture: np.ndarray) -> None:
    nudged = model.invert(picture, method=NUDGED)
    losses: list[float] = []
    refined = model.optimise(
        nudged, picture, steps=6, on_step=lambda _n, loss, _r: losses.append(loss)
    )
    assert losses[-1] < losses[0]
    assert refined.data.needs == ("channel_offsets",)
    assert refined.settings["optimise"] == [{"preset": "refine", "steps": 6}]
    with pytest.raises(HyperStyleError, match="inversion by 'nudged' has no codes to refine"):
        model.optimise(nudged, picture, variables=("codes",))


def test_another_generator_is_another_space(
    model: Model, bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    inversion = model.invert(picture, method=NUDGED)
    copy = shutil.copytree(bundle, tmp_path / "other")
    document = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(document | {"space": "0" * 64}))
    other = Model.load(copy, "cpu", threads=1)
    for use in (
        lambda: other.render(inversion),
        lambda: other.sweep(inversion, [{}]),
        lambda: other.interpolate(inversion, inversion, [0.5]),
        lambda: other.optimise(inversion, picture, steps=1),
        lambda: other.offsets(inversion),
    ):
        with pytest.raises(InversionError, match="tiny"):
            use()


# The same loop on a backend that records


@pytest.fixture(scope="module")
def planned_methods(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of :func:`add_method` with plans for the stand-in of TensorRT."""
    return add_plans(add_method(tiny_bundle, tmp_path_factory.mktemp("planned methods") / "tiny"))


def test_any_method_is_recorded_once_and_replayed(
    planned_methods: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model, plain = Model.load(planned_methods, "tensorrt"), Model.load(planned_methods, "cpu")
    model.invert(picture, method=NUDGED)
    begin, end = cuda.calls.index("begin capture"), cuda.calls.index("end capture")
    start, step = ["encoder", "look", "weights", "generator"], ["nudge", "weights", "generator"]
    recorded = [call.removeprefix("run ") for call in cuda.calls[begin + 1 : end]]
    assert recorded == [*start, *STEPS * step]
    cuda.calls.clear()
    for shown in (picture[::-1].copy(), picture):
        found = model.invert(shown, method=NUDGED)
        expected = plain.invert(shown, method=NUDGED)
        assert np.abs(found.latents - expected.latents).max() <= 1e-5
        assert np.abs(found.output - expected.output).max() <= 1e-5
        assert found.codes is None
    assert cuda.calls.count("launch") == 2
    assert not [call for call in cuda.calls if call.startswith(("run", "begin"))]
    model.invert(picture, 2)  # another method is recorded in its place
    assert cuda.calls.count("begin capture") == 1
    assert cuda.executables == 1
    model.close()
    assert cuda.executables == 0
    assert not cuda.device


def test_any_method_is_watched_and_stopped_there(
    planned_methods: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model, plain = Model.load(planned_methods, "tensorrt"), Model.load(planned_methods, "cpu")
    seen: list[int] = []
    watched = model.invert(picture, method=NUDGED, on_iteration=lambda n, *_: seen.append(n))
    assert "launch" not in cuda.calls
    assert seen == [*range(1, STEPS + 1)]
    expected = plain.invert(picture, method=NUDGED)
    assert np.abs(watched.output - expected.output).max() <= 1e-5
    cuda.calls.clear()
    stopped = model.invert(picture, until=2.0, method=NUDGED)
    assert stopped.iterations == 2  # the first difference there is
    calls = [call.removeprefix("run ") for call in cuda.calls if call not in ("synchronise", "H2D")]
    compared = ["D2H", "record event", "nudge", "wait for event"]  # the device does not wait
    rendered = ["weights", "generator"]
    start = ["encoder", "look", *rendered, "nudge"]
    assert calls[:-2] == [*start, *rendered, *compared, *rendered, *compared]
    assert calls[-2:] == ["D2H", "D2H"]  # latents and rendering


def test_a_target_on_the_device_is_taken_in_the_size_of_the_graphs(
    planned_methods: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    """One array cannot be of two sizes: a method that reads two says so."""
    model, plain = Model.load(planned_methods, "tensorrt"), Model.load(planned_methods, "cpu")
    target = to_input(picture, model.bundle.manifest.input_size)
    found = model.invert_on_device(target, 2, method="hyperstyle")
    expected = plain.invert(picture, 2)
    rendering = model.backend.download(found.tensors["rendering"])[0]
    assert np.abs(rendering - expected.output).max() <= 1e-5
    with pytest.raises(BackendError, match=r"float32 \[1, 3, 24, 20\], not \[1, 3, 64, 64\]"):
        model.invert_on_device(target, method=NUDGED)


def test_an_array_on_the_device_is_a_picture(
    planned_methods: Path, cuda: StandInCuda, picture: np.ndarray
) -> None:
    model, plain = Model.load(planned_methods, "tensorrt"), Model.load(planned_methods, "cpu")
    target = to_input(picture, model.bundle.manifest.input_size)
    found = model.invert(WithInterface(model.backend.upload(target), strides=None), 2)
    expected = plain.invert(picture, 2)
    assert np.abs(found.output - expected.output).max() <= 1e-5
    assert found.data.transform is None
    assert found.computed["backend"] == "tensorrt"
    wrong = model.backend.upload(target[..., ::2].copy())
    with pytest.raises(BackendError, match=r"not \[1, 3, 64, 32\]; resize it first"):
        model.invert(WithInterface(wrong, strides=None), 2)


# From the command line


def test_the_command_takes_a_method(
    bundle: Path,
    model: Model,
    picture: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture("face.png", picture)
    options = ("--bundle", bundle, "--backend", "cpu", "--threads", 1)
    succeed("invert", "face.png", *options, "--method", NUDGED, "-n", 2, "--save-inversion")
    expected = model.invert(picture, 2, method=NUDGED)
    assert np.array_equal(read_picture("face.inverted.png"), expected.image)
    loaded = Inversion.load("face.safetensors")
    assert (loaded.method, loaded.iterations, loaded.codes) == (NUDGED, 2, None)
    record = read_record(Path("face.inverted.png"))
    assert record is not None
    assert record.settings["method"] == NUDGED
    assert record.computed == loaded.computed == expected.computed
    shown = json.loads(succeed("info", "face.safetensors", "--json"))
    assert (shown["method"], shown["needs"], shown["codes"]) == (NUDGED, [], None)
    assert shown["magnitudes"] == {}
    listed = succeed("info", bundle)
    assert "encoder, hypernet x 5" in listed
    assert f"encoder, look, nudge x {STEPS}" in listed

    options = (*options, "-o", "again", "--resume")
    for more, done in (((), 1), ((), 0), (("--method", "encoder"), 1), (("--method", NUDGED), 1)):
        report = json.loads(succeed("invert", "face.png", *options, *more, "--json"))
        assert len(report["inversions"]) == done, more
    text = refuse("invert", "face.png", *options, "--method", "encoder", "-n", 1)
    assert text.startswith("the method 'encoder' does not iterate")
    assert "'magic', only hyperstyle" in refuse("invert", "face.png", *options, "--method", "magic")
    succeed(
        "interpolate",
        "face.png",
        "face.safetensors",
        "--method",
        "encoder",
        *options[:6],
        "--frames",
        2,
        "-o",
        "sheet.png",
    )
