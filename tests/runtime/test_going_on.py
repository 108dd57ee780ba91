"""Inversions that go on from another one, as the frames of a film do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import Inversion, InversionError, Model
from hyperstyle_rt.inverting.inverter import with_room
from method_bundles import NUDGED, Chain, add_method
from stand_ins import StandInCuda, add_plans


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_method(tiny_bundle, tmp_path_factory.mktemp("going on") / "tiny")


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle, "cpu", threads=1)


@pytest.fixture
def next_frame(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.roll(picture, 3, axis=1))


def equal(first: Inversion, second: Inversion) -> bool:
    """Whether two inversions have found the same, bit for bit."""
    codes = (first.codes is None) == (second.codes is None)
    codes = codes and (first.codes is None or np.array_equal(first.codes, second.codes))
    same = np.array_equal(first.latents, second.latents)
    return bool(codes and same and np.array_equal(first.output, second.output))


@pytest.mark.parametrize("method", ["hyperstyle", NUDGED])
def test_to_stop_and_go_on_is_not_to_stop(
    method: str, model: Model, picture: np.ndarray, tmp_path: Path
) -> None:
    at_once = model.invert(picture, 5, method=method)
    stopped = model.invert(picture, 2, method=method)
    assert equal(model.invert(picture, 3, method=method, start=stopped), at_once)
    stopped.save(tmp_path / "stopped.safetensors")
    loaded = Inversion.load(tmp_path / "stopped.safetensors")
    resumed = model.invert(picture, 3, method=method, start=loaded)
    assert equal(resumed, at_once)
    assert resumed.settings == {"iterations": 3, "started": method}


def test_the_encoder_looks_at_every_picture_where_nothing_else_finds_latents(
    model: Model, picture: np.ndarray, next_frame: np.ndarray
) -> None:
    before = model.invert(picture, 2, method="hyperstyle")
    after = model.invert(next_frame, 1, method="hyperstyle", start=before)
    alone = model.invert(next_frame, 0, method="hyperstyle")
    assert np.array_equal(after.latents, alone.latents)
    shared = model.invert(next_frame, 0, method="hyperstyle", start=before)
    assert np.array_equal(shared.codes, before.codes)
    assert np.array_equal(shared.latents, alone.latents)


def test_a_first_guess_is_left_out_and_all_else_is_not(
    model: Model, picture: np.ndarray, next_frame: np.ndarray
) -> None:
    before = model.invert(picture, method=NUDGED)
    after = model.invert(next_frame, 2, method=NUDGED, start=before)
    chain = Chain(model.bundle, model.backend)
    expected = chain.nudged(next_frame, 2, before.latents[None])[2]  # its own colours
    assert np.array_equal(after.latents, expected["latents"])


def test_codes_of_another_method_are_not_taken_where_there_are_none(
    model: Model, picture: np.ndarray
) -> None:
    before = model.invert(picture, 2, method="hyperstyle")
    after = model.invert(picture, 1, method=NUDGED, start=before)
    assert after.codes is None
    without = replace(before, data=replace(before.data, codes=None, code_space=None))
    assert equal(after, model.invert(picture, 1, method=NUDGED, start=without))


def test_gradient_steps_go_on_from_what_they_had_found(model: Model, picture: np.ndarray) -> None:
    method = model.invert(picture, 1)
    refined = model.optimise(method, picture, steps=4)
    offsets = refined.channel_offsets
    assert offsets is not None
    assert method.with_steps_of(None) is method.with_steps_of(method) is method
    carried = method.with_steps_of(refined)
    assert np.array_equal(carried.channel_offsets, offsets)
    assert np.array_equal(carried.latents, method.latents)
    both = replace(refined, styles=np.ones(3, np.float32)).with_steps_of(
        replace(method, data=replace(method.data, noise=np.ones(2, np.float16)))
    )
    assert np.array_equal(both.channel_offsets, offsets), "what the other lacks is kept"
    assert both.data.noise is not None and both.styles is not None
    foreign = replace(refined, data=replace(refined.data, space="0" * 64))
    with pytest.raises(InversionError, match="of two generators"):
        method.with_steps_of(foreign)
    losses: list[float] = []
    watch = {"on_step": lambda _n, loss, _r: losses.append(loss)}
    model.optimise(carried, picture, steps=1, **watch)
    model.optimise(method, picture, steps=1, **watch)
    assert losses[0] < losses[2], "it begins closer"


def test_another_space_is_refused(model: Model, picture: np.ndarray) -> None:
    before = model.invert(picture, 1)
    other = replace(before, data=replace(before.data, space="0" * 64))
    with pytest.raises(InversionError, match="does not fit"):
        model.invert(picture, 1, start=other)


def test_codes_leave_room_for_what_follows(model: Model, picture: np.ndarray) -> None:
    inversion = model.invert(picture, 5)
    assert with_room(inversion.data, 5) is inversion.data
    scaled = with_room(inversion.data, 3)
    assert np.allclose(scaled.codes, inversion.codes * np.float32(0.6))
    assert scaled.codes[0, -1] == 3
    assert not with_room(inversion.data, 0).codes.any()
    without_codes = model.invert(picture, method=NUDGED).data
    assert with_room(without_codes, 1) is without_codes
    after = model.invert(picture, 2, start=inversion)
    assert equal(after, model.invert(picture, 2, start=replace(inversion, data=scaled)))
    for _ in range(3):
        after = model.invert(picture, 2, start=after)
        assert after.codes[0, -1] == 5
    assert equal(model.invert(picture, 5, start=after), inversion)


def test_a_recording_is_of_one_way_to_start(
    tiny_bundle: Path, cuda: StandInCuda, picture: np.ndarray, tmp_path: Path
) -> None:
    planned = add_plans(add_method(tiny_bundle, tmp_path / "tiny"))
    with Model.load(planned, "tensorrt") as model, Model.load(planned, "cpu") as plain:
        for method in ("hyperstyle", NUDGED):
            before = model.invert(picture, 1, method=method)
            for _ in range(2):  # recorded, then replayed
                found = model.invert(picture, 1, method=method, start=before)
                expected = plain.invert(picture, 1, method=method, start=before)
                assert np.abs(found.output - expected.output).max() <= 1e-4
            again = model.invert(picture, 1, method=method)
            assert np.abs(again.output - before.output).max() <= 1e-5
