"""The C library runs whatever methods a manifest lists, as the Python runtime does."""

from __future__ import annotations

from pathlib import Path

import capi
import numpy as np
import pytest
from capi import random_picture, refusal_of, same_bytes
from hyperstyle_rt import Model
from method_bundles import NUDGED, STEPS, add_method

NO_ITERATIONS = -1


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With methods of graphs that no code has heard of; see method_bundles.py."""
    return add_method(tiny_bundle, tmp_path_factory.mktemp("methods") / "tiny")


@pytest.fixture(scope="module")
def python(bundle: Path) -> Model:
    return Model.load(bundle, "cpu")


@pytest.fixture(scope="module")
def c(library, bundle: Path) -> capi.CModel:
    return capi.CModel(library, bundle)


def assert_equal(ours, theirs, folder: Path) -> None:
    """Both to the last bit, and both as the same file."""
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    np.testing.assert_array_equal(ours.image(capi.RGB_PLANES_F32), theirs.output)
    assert (ours.method, ours.iterations) == (theirs.method, theirs.iterations)
    assert (ours.codes is None) == (theirs.codes is None)
    ours.save(folder / "c.safetensors")
    theirs.save(folder / "python.safetensors")
    assert same_bytes(folder)


@pytest.mark.usefixtures("same_runtime")
@pytest.mark.parametrize("method", ["hyperstyle", NUDGED, "encoder", "average"])
def test_every_method_gives_what_it_gives_in_python(python, c, tmp_path, method):
    picture = random_picture(50, 70)
    ours = c.invert(picture, method=method.encode())
    assert_equal(ours, python.invert(picture, method=method), tmp_path)


@pytest.mark.usefixtures("same_runtime")
def test_a_method_nobody_has_heard_of_moves_and_is_reported(python, c, tmp_path):
    picture = random_picture(64, 64)
    shape = (3, c.info.image_height, c.info.image_width)
    seen, expected = [], []

    def note(_user, progress):
        at = progress[0]
        rendering = np.ctypeslib.as_array(at.rendering, shape).copy()
        seen.append((at.iteration, at.iterations, rendering, bool(at.codes)))
        return 0

    ours = c.invert(picture, method=NUDGED.encode(), progress=capi.OnProgress(note))
    theirs = python.invert(
        picture, method=NUDGED, on_iteration=lambda *report: expected.append(report)
    )
    assert_equal(ours, theirs, tmp_path)
    assert [at[:2] for at in seen] == [(number, STEPS) for number in range(1, STEPS + 1)]
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(one[2], other[1])
        assert not one[3] and other[2] is None
    assert (seen[0][2] != seen[-1][2]).any()


@pytest.mark.usefixtures("same_runtime")
@pytest.mark.parametrize("method", ["hyperstyle", NUDGED])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_iterations_are_those_of_the_phase_that_repeats(python, c, tmp_path, method, iterations):
    picture = random_picture(64, 64)
    count = iterations or NO_ITERATIONS
    ours = c.invert(picture, method=method.encode(), iterations=count)
    assert_equal(ours, python.invert(picture, iterations, method=method), tmp_path)


@pytest.mark.usefixtures("same_runtime")
@pytest.mark.parametrize("until", [10.0, 0.0078125, 1e-30])
def test_until_stops_any_method_where_python_stops(python, c, tmp_path, until):
    picture = random_picture(64, 64)
    ours = c.invert(picture, method=NUDGED.encode(), iterations=3, until=until)
    theirs = python.invert(picture, 3, until=float(np.float32(until)), method=NUDGED)
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    assert ours.iterations == theirs.iterations


def test_a_method_that_does_not_iterate_takes_no_limits(c):
    picture = random_picture(64, 64)
    for options in ({"iterations": 1}, {"iterations": NO_ITERATIONS}, {"until": 0.1}):
        error = refusal_of(lambda o=options: c.invert(picture, method=b"encoder", **o))
        assert "the method 'encoder' does not iterate" in str(error)


def test_an_unknown_method_is_answered_with_those_there_are(c):
    error = refusal_of(lambda: c.invert(random_picture(64, 64), method=b"magic"))
    assert error.kind == "BUNDLE"
    assert "no method 'magic', only average, blind, encoder, hyperstyle, nudged" in str(error)


def test_what_no_phase_gives_is_named(c):
    error = refusal_of(lambda: c.invert(random_picture(64, 64), method=b"blind"))
    assert error.kind == "BUNDLE"
    assert "the graph 'nudge' reads the tensor 'colours', which no phase before" in str(error)


@pytest.mark.usefixtures("same_runtime")
def test_a_model_of_the_same_space_draws_what_any_method_found(
    library, tiny_bundle, python, tmp_path
):
    theirs = python.invert(random_picture(64, 64), method=NUDGED)
    theirs.save(tmp_path / "x.safetensors")
    other = capi.CModel(library, tiny_bundle)  # which has no such method, and another digest
    loaded = other.load(tmp_path / "x.safetensors")
    assert (loaded.method, loaded.codes) == (NUDGED, None)
    np.testing.assert_array_equal(other.render(loaded)[0], theirs.image)
