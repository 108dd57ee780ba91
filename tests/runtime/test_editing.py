"""Edits against numpy written from the papers' formulas, and renders against each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hyperstyle_rt import Bundle, Inversion, InversionError, Model
from hyperstyle_rt.backends.ort import OnnxRuntimeBackend
from hyperstyle_rt.editing.blending import edit_latents, linear, spherical_about
from hyperstyle_rt.editing.directions import latent_change, style_change
from hyperstyle_rt.editing.expressions import evenly, parse_edits
from hyperstyle_rt.errors import BundleError, EditError
from hyperstyle_rt.formats.directions_file import (
    ComponentDirection,
    LinearDirection,
    StyleDirection,
)
from hyperstyle_rt.imaging.pictures import to_picture
from stand_ins import StandInCuda

SWEEP = [{"smile": amount} for amount in np.linspace(-3, 3, 8)]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def model(edit_bundle: Path) -> Model:
    return Model.load(edit_bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def inversion(model: Model, picture: np.ndarray) -> Inversion:
    return model.invert(picture, iterations=2)


# The published formulas (docs/spec.md, section 6), once more and in float64


def interfacegan(latents: np.ndarray, boundary: np.ndarray, factor: float) -> np.ndarray:
    """Edited w = c + f * direction, on all rows; pose has a row for each of them."""
    edited = latents.astype(np.float64).copy()
    for row in range(len(edited)):
        normal_of_row = boundary[row if boundary.shape[0] > 1 else 0]
        edited[row] += factor * normal_of_row.astype(np.float64)
    return edited


def ganspace(
    latents: np.ndarray, file: dict[str, np.ndarray], component: int, rows: range, target: float
) -> np.ndarray:
    """Coordinate of the first row along a component, brought to the target in some rows."""
    edited = latents.astype(np.float64).copy()
    direction = file["comp"][component, 0].astype(np.float64)
    deviation = float(file["std"][component])
    coordinate = np.dot(edited[0] - file["mean"][0], direction) / deviation
    for row in rows:
        edited[row] = edited[row] + (target - coordinate) * direction * deviation
    return edited


@pytest.mark.parametrize("boundary_rows", [1, 18])
@pytest.mark.parametrize("factor", [-5, -1, 0, 4])
def test_linear_directions_are_interfacegans(boundary_rows: int, factor: int) -> None:
    latents, boundary = normal(0, 18, 512), normal(1, boundary_rows, 512)
    boundary /= np.linalg.norm(boundary, axis=1, keepdims=True)
    vector = boundary if boundary_rows > 1 else boundary[0]
    directions = {"age": LinearDirection(vector, (0, 18))}
    edited = edit_latents(directions, latents, [{"age": factor}])
    assert np.abs(edited.latents[0] - interfacegan(latents, boundary, factor)).max() < 1e-6
    assert edited.styles is None


@pytest.mark.parametrize(
    ("component", "start", "stop", "target"),
    [(0, 0, 5, 2), (0, 0, 5, -2), (16, 3, 6, 25), (22, 9, 11, -8), (41, 9, 11, -18)],
)
def test_component_directions_are_ganspaces(
    component: int, start: int, stop: int, target: float
) -> None:
    """The five published edits of cars."""
    latents = normal(0, 16, 512)
    axes = normal(1, 80, 1, 512)
    axes /= np.linalg.norm(axes, axis=2, keepdims=True)
    file = {"mean": normal(2, 1, 512), "std": 1 + np.abs(normal(3, 80)), "comp": axes}
    direction = ComponentDirection(
        axes[component, 0], file["mean"][0], float(file["std"][component]), target, (start, stop)
    )
    edited = edit_latents({"it": direction}, latents, [{"it": 1}, {"it": 0}, {"it": 0.5}])
    expected = ganspace(latents, file, component, range(start, stop), target)
    assert np.abs(edited.latents[0] - expected).max() < 2e-5
    assert np.array_equal(edited.latents[1], latents)
    assert np.abs(edited.latents[2] - (expected + latents) / 2).max() < 2e-5
    untouched = [row for row in range(16) if not start <= row < stop]
    assert np.array_equal(edited.latents[0][untouched], latents[untouched])


def test_directions_add_up_from_the_unedited_face() -> None:
    latents = normal(0, 8, 16)
    directions = {
        "smile": LinearDirection(normal(1, 16), (2, 6), 0.5),
        "cube": ComponentDirection(normal(2, 16), normal(3, 16), 2.0, 5.0, (0, 8)),
        "blond": StyleDirection(normal(4, 20), 3.0),
    }
    amounts = {"smile": 2.0, "cube": 0.5, "blond": -1.0}
    together = edit_latents(directions, latents, [amounts, dict(reversed(amounts.items()))])
    alone = [edit_latents(directions, latents, [{n: a}]).latents[0] for n, a in amounts.items()]
    expected = latents + sum(edited - latents for edited in alone)
    assert np.abs(together.latents - expected).max() < 1e-5
    assert np.abs(alone[0] - latents)[2:6].max() > 0.1
    assert together.styles is not None
    assert np.array_equal(together.styles[0], np.float32(-3) * normal(4, 20))


# Rendered


def test_a_sweep_gives_the_pictures_of_single_edits(
    model: Model, inversion: Inversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must show 5: eight edits on weights that are expanded once."""
    ran: list[str] = []
    run = model.backend.run

    def counted(role: str, inputs: dict[str, object]) -> dict[str, object]:
        ran.append(role)
        return run(role, inputs)

    monkeypatch.setattr(model.backend, "run", counted)
    swept = list(model.sweep(inversion, SWEEP))
    assert ran == ["weights", *8 * ["generator"]]
    singles = [model.edit(inversion, amounts).image for amounts in SWEEP]
    assert ran.count("weights") == 9
    assert len(swept) == 8
    for together, alone in zip(swept, singles, strict=True):
        assert np.array_equal(together, alone)
    assert np.abs(swept[0].astype(int) - swept[-1]).max() > 20


def test_long_sweeps_are_rendered_in_batches(
    model: Model, inversion: Inversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = model.backend.run

    def measured(role: str, inputs: dict[str, ort.OrtValue]) -> dict[str, object]:
        if role == "styled_generator":
            sizes.append(inputs["latents"].shape()[0])
        return run(role, inputs)

    monkeypatch.setattr(model.backend, "run", measured)
    monkeypatch.setattr(OnnxRuntimeBackend, "largest_batch", 8)  # as on a GPU
    frames = model.sweep(inversion, [{"smile": a, "blond": a} for a in evenly(-1, 1, 19)])
    assert isinstance(frames, Iterator)
    assert sizes == []  # nothing is rendered before it is asked for
    assert len(list(frames)) == 19
    assert sizes == [8, 8, 3]


def test_an_edit_renders_its_latents_with_the_weights_of_the_face(
    model: Model, inversion: Inversion, tmp_path: Path
) -> None:
    edited = model.edit(inversion, {"smile": 2.0, "pose": -1.0})
    directions = model.directions
    expected = inversion.latents.copy()
    expected += latent_change(directions["smile"], inversion.latents, 2.0)
    expected += latent_change(directions["pose"], inversion.latents, -1.0)
    assert np.array_equal(edited.latents, expected)
    assert np.array_equal(edited.codes, inversion.codes)
    assert np.array_equal(edited.image, model.render(inversion, latents=expected))
    assert np.array_equal(model.edit(inversion, {}).image, inversion.image)
    edited.save(tmp_path / "edited.safetensors")
    assert np.array_equal(
        model.render(Inversion.load(tmp_path / "edited.safetensors")), edited.image
    )


def test_edits_of_styles_reach_the_generator(
    model: Model, inversion: Inversion, tmp_path: Path
) -> None:
    direction = model.directions["blond"]
    assert isinstance(direction, StyleDirection)
    edited = model.edit(inversion, {"blond": 2.0})
    assert np.array_equal(edited.latents, inversion.latents)
    styles = style_change(direction, 2.0)
    assert edited.styles is not None
    assert np.array_equal(edited.styles, styles)
    assert np.array_equal(edited.image, model.render(inversion, styles=styles[None]))
    assert np.abs(edited.output - inversion.output).max() > 0.1
    twice = model.edit(edited, {"blond": -2.0})
    assert np.array_equal(twice.image, inversion.image)
    with pytest.raises(InversionError, match="holds no edits of styles; save the picture"):
        edited.save(tmp_path / "edited.safetensors")
    assert list(tmp_path.glob("*.safetensors")) == []


def test_styles_of_a_wrong_shape_are_refused(model: Model, inversion: Inversion) -> None:
    with pytest.raises(InversionError, match=r"styles must be float32 \[1 or 1,148\], not .*147"):
        model.render(inversion, styles=np.zeros((1, 147), np.float32))


def test_bundles_without_a_styled_generator_take_no_styles(
    tiny_bundle: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    old = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, old)
    document = json.loads((old / "manifest.json").read_text())
    del document["optional_inputs"], document["parametric_inputs"]
    for role in ("styled_generator", "noise", "parameters", "parametric_generator"):
        del document["graphs"][role]
    (old / "manifest.json").write_text(json.dumps(document))
    model = Model.load(old, "cpu", threads=1)
    inversion = model.invert(picture, iterations=0)
    with pytest.raises(BundleError, match="takes neither style offsets nor noise; build"):
        model.render(inversion, styles=np.zeros((1, 148), np.float32))


def test_styles_reach_plans(planned: Path, cuda: StandInCuda, picture: np.ndarray) -> None:
    """A plan takes every input it was built with; nothing is left out in silence."""
    model = Model.load(planned, "tensorrt")
    inversion = model.invert(picture, 1)
    styles = normal(3, 1, 148)
    expected = Model.load(planned, "cpu").synthesise(inversion, styles=styles)
    assert np.abs(model.synthesise(inversion, styles=styles) - expected).max() <= 1e-5
    assert np.abs(expected - model.synthesise(inversion)).max() > 0.1


def test_an_unknown_direction_is_answered_with_those_there_are(
    model: Model, inversion: Inversion, tiny_bundle: Path
) -> None:
    with pytest.raises(EditError, match="no direction 'smlie'; its directions are blond, cube, po"):
        model.edit(inversion, {"smlie": 1.0})
    with pytest.raises(EditError, match="its directions are none: convert some for it"):
        Model.load(tiny_bundle, "cpu", threads=1).edit(inversion, {"smile": 1.0})
    with pytest.raises(EditError, match="amount of smile must be a finite number, not inf"):
        model.edit(inversion, {"smile": float("inf")})


@pytest.mark.parametrize("direction", ["smile", "blond", "pose"])
def test_amounts_that_are_no_finite_numbers_are_refused(
    direction: str, model: Model, inversion: Inversion
) -> None:
    """Of sweeps, before the first picture."""
    for wrong in ("2", None, True, 10**400, 10**5000, float("nan")):
        with pytest.raises(EditError, match=f"amount of {direction} must be a finite number, not"):
            model.sweep(inversion, [{direction: 1.0}, {direction: wrong}])
    with pytest.raises(EditError, match=f"amount of {direction} moves .* than 1e[+]?300"):
        model.edit(inversion, {direction: 1e300})
    edited = model.edit(inversion, {direction: np.float32(0.5)})
    assert edited.settings["edits"] == [{direction: 0.5}]


# Between two faces


def test_fractions_that_are_no_numbers_are_refused(model: Model, inversion: Inversion) -> None:
    """Before any picture is asked for."""
    for wrong in (float("nan"), "0.5", None):
        with pytest.raises(EditError, match="fraction must be a finite number"):
            model.interpolate(inversion, inversion, [0.5, wrong])


def test_interpolation_runs_from_face_to_face(
    model: Model, inversion: Inversion, picture: np.ndarray
) -> None:
    other = model.edit(model.invert(picture[::-1].copy(), iterations=3), {"smile": 6.0})
    for blend in (linear, spherical_about(model.bundle.latent_average())):
        first, middle, last = model.interpolate(inversion, other, [0, 0.5, 1], blend)
        assert np.array_equal(first, inversion.image)
        assert np.array_equal(last, other.image)
        assert np.abs(middle.astype(int) - first).max() > 10
    codes = (inversion.codes + other.codes) / 2  # 2.5 iterations
    latents = (inversion.latents + other.latents) / 2
    backend = model.backend
    weights = backend.run("weights", {"codes": backend.upload(codes[None])})
    outputs = backend.run("generator", {"latents": backend.upload(latents[None]), **weights})
    (middle,) = model.interpolate(inversion, other, [0.5])
    difference = middle.astype(int) - to_picture(backend.download(outputs["rendering"])[0])
    assert np.abs(difference).max() <= 1


def test_interpolation_takes_edits_along(model: Model, inversion: Inversion) -> None:
    edited = model.edit(inversion, {"blond": 2.0})
    half = model.edit(inversion, {"blond": 1.0})
    pictures = list(model.interpolate(inversion, edited, [0, 0.5, 1]))
    expected = [inversion.image, half.image, edited.image]
    for picture, other in zip(pictures, expected, strict=True):
        assert np.array_equal(picture, other)


def test_spherical_blends_keep_the_distance_from_the_centre() -> None:
    centre = normal(0, 4, 16)
    arms = normal(1, 2, 4, 16)
    arms[1, 0] = -arms[0, 0]  # opposite: no single arc
    arms[0, 1] = 0  # no direction
    first, second = centre + arms[0], centre + arms[1]
    blend = spherical_about(centre)
    for fraction in (0.25, 0.5, 0.8):
        between = blend(first, second, fraction) - centre
        lengths = np.linalg.norm(between, axis=1)
        ends = np.linalg.norm(arms, axis=2)
        expected = (1 - fraction) * ends[0] + fraction * ends[1]
        assert np.allclose(lengths[2:], expected[2:], rtol=1e-5)
        straight = linear(first, second, fraction) - centre
        assert np.allclose(between[:2], straight[:2], atol=1e-5)
        assert (np.linalg.norm(straight[2:], axis=1) < 0.95 * expected[2:]).all()
        whole, part = (_angle(arms[0, 2], arm) for arm in (arms[1, 2], between[2]))
        assert np.isclose(part / whole, fraction, atol=1e-3)


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


def test_a_face_of_another_space_is_refused(
    model: Model, inversion: Inversion, picture: np.ndarray, bundle_of_another: Path
) -> None:
    stranger = Model.load(bundle_of_another, "cpu", threads=1).invert(picture, 0)
    with pytest.raises(InversionError, match="other"):
        model.interpolate(inversion, stranger, [0.5])  # before any picture is asked for
    with pytest.raises(InversionError, match="other"):
        model.sweep(stranger, SWEEP)


@pytest.fixture
def bundle_of_another(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle as that of another generator."""
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    document = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(
        json.dumps(document | {"name": "other", "space": "0" * 64})
    )
    assert Bundle.open(other).manifest.space != Bundle.open(tiny_bundle).manifest.space
    return other


# As the command line writes them


def test_edits_are_read_from_the_command_line() -> None:
    assert parse_edits(["smile=2", "age=-1.5"]) == [{"smile": 2.0, "age": -1.5}]
    steps = parse_edits(["smile=-3:3:7", "age=1", "yaw=0:12:7"])
    assert [step["smile"] for step in steps] == [-3, -2, -1, 0, 1, 2, 3]
    assert [step["yaw"] for step in steps] == [0, 2, 4, 6, 8, 10, 12]
    assert {step["age"] for step in steps} == {1.0}
    assert evenly(-0.1, 0.7, 3)[-1] == 0.7


@pytest.mark.parametrize(
    ("expressions", "says"),
    [
        (["smile"], "'smile' is no edit; give DIRECTION=AMOUNT"),
        (["=2"], "is no edit"),
        (["a b=2"], "is no edit"),
        (["smile=much"], "amount of smile must be a number or START:STOP:COUNT.*not 'much'"),
        (["smile=nan"], "must be a number"),
        (["smile=1e999"], "must be a number"),
        (["smile=1e38"], "from -1000000 to 1000000"),
        (["smile=-1e308:1e308:3"], "from -1000000 to 1000000"),
        (["smile=1:2"], "must be a number"),
        (["smile=1:2:3:4"], "must be a number"),
        (["smile=1:2:1"], "count from 2 to 100000"),
        (["smile=1:2:100001"], "count from 2 to 100000"),
        (["smile=1", "smile=2"], "smile is given twice"),
        (["smile=1:2:3", "age=1:2:4"], r"move together, but these have \[3, 4\] steps"),
    ],
)
def test_what_is_no_edit_is_refused(expressions: list[str], says: str) -> None:
    with pytest.raises(EditError, match=says) as refusal:
        parse_edits(expressions)
    assert "\n" not in str(refusal.value)
