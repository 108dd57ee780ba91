"""Networks that read attributes off faces, and directions fitted to what they read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import typer
from directions import fit as tool
from directions.face_attributes import ATTRIBUTES, log_odds, shape_of
from directions.face_networks import (
    AGE_GENDER_FILE,
    EXPRESSION_FILE,
    read_age_gender,
    read_expression,
)
from directions.fit import Recipe, fit, read_recipes
from directions.read import Attributes, load_attributes, save_attributes
from evaluation.errors import EvaluationError
from hyperstyle_rt import Bundle
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.formats.directions_file import bundle_directions
from typer.testing import CliRunner

RECIPES = Path(__file__).parents[3] / "tools" / "directions" / "recipes" / "faces.json"

Shapes = dict[str, tuple[int, ...]]


def separable(name: str, before: int, after: int) -> Shapes:
    return {
        f"{name}/depthwise_filter": (3, 3, before, 1),
        f"{name}/pointwise_filter": (1, 1, before, after),
        f"{name}/bias": (after,),
    }


def dense(name: str, before: int, after: int) -> Shapes:
    return {f"{name}/weights": (before, after), f"{name}/bias": (after,)}


def age_gender_shapes() -> Shapes:
    """Of a few channels."""
    shapes: Shapes = {"entry_flow/conv_in/filters": (3, 3, 3, 2), "entry_flow/conv_in/bias": (2,)}
    for name, before, after in (
        ("entry_flow/reduction_block_0", 2, 3),
        ("entry_flow/reduction_block_1", 3, 4),
        ("exit_flow/reduction_block", 4, 5),
    ):
        shapes |= separable(f"{name}/separable_conv0", before, after)
        shapes |= separable(f"{name}/separable_conv1", after, after)
        shapes |= {f"{name}/expansion_conv/filters": (1, 1, before, after)}
        shapes |= {f"{name}/expansion_conv/bias": (after,)}
    for block in (0, 1):
        for number in (0, 1, 2):
            shapes |= separable(f"middle_flow/main_block_{block}/separable_conv{number}", 4, 4)
    shapes |= separable("exit_flow/separable_conv", 5, 6)
    return shapes | dense("fc/age", 6, 1) | dense("fc/gender", 6, 2)


def expression_shapes() -> Shapes:
    shapes: Shapes = {"dense0/conv0/filters": (3, 3, 3, 2), "dense0/conv0/bias": (2,)}
    widths = (2, 3, 4, 5)
    for number, width in enumerate(widths):
        if number:
            shapes |= separable(f"dense{number}/conv0", widths[number - 1], width)
        for layer in (1, 2, 3):
            shapes |= separable(f"dense{number}/conv{layer}", width, width)
    return shapes | dense("fc", 5, 7)


def write_network(path: Path, shapes: Shapes, seed: int) -> None:
    """As face-api stores one, float32."""
    random = np.random.default_rng(seed)
    arrays = {name: random.normal(0, 0.3, shape).astype("<f4") for name, shape in shapes.items()}
    entries = [{"name": n, "shape": list(a.shape), "dtype": "float32"} for n, a in arrays.items()]
    weights = path.with_suffix(".bin")
    weights.write_bytes(b"".join(array.tobytes() for array in arrays.values()))
    path.write_text(json.dumps([{"weights": entries, "paths": [weights.name]}]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_network(folder / AGE_GENDER_FILE, age_gender_shapes(), 0)
    write_network(folder / EXPRESSION_FILE, expression_shapes(), 1)
    return folder


def test_networks_read_a_batch_face_by_face(folder: Path) -> None:
    faces = torch.from_numpy(np.random.default_rng(2).uniform(0, 255, (2, 3, 112, 112))).float()
    read_both, expression = read_age_gender(folder), read_expression(folder)
    with torch.inference_mode():
        age, masculinity = read_both(faces)
        feelings = expression(faces)
        second = expression(faces[1:])
    assert age.shape == masculinity.shape == (2,)
    assert feelings.shape == (2, 7)
    assert torch.allclose(feelings[1:], second, atol=1e-4)
    happy = torch.softmax(feelings, dim=1)[:, 1]
    assert torch.allclose(torch.sigmoid(log_odds(feelings, 1)), happy, atol=1e-5)


def test_a_file_of_another_network_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    for file, suffix in ((AGE_GENDER_FILE, ".json"), (EXPRESSION_FILE, ".json")):
        shutil.copy(folder / file, (tmp_path / "model" / AGE_GENDER_FILE).with_suffix(suffix))
    with pytest.raises(EvaluationError, match=r"age_gender_model.*another network"):
        read_age_gender(tmp_path / "model")
    (tmp_path / "model" / EXPRESSION_FILE).unlink()
    with pytest.raises(EvaluationError, match="face_expression_model"):
        read_expression(tmp_path / "model")


def test_pose_and_openings_of_a_turned_mesh() -> None:
    """A flat face of width 2, turned about the vertical by 20 degrees, then about the other."""
    mesh = np.zeros((468, 3))
    mesh[[234, 454, 10, 152]] = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0)]
    mesh[[13, 14]] = [(0, 0.5, 0), (0, 0.7, 0)]  # lips
    mesh[[159, 145, 386, 374]] = [(-0.4, -0.3, 0), (-0.4, -0.2, 0), (0.4, -0.3, 0), (0.4, -0.2, 0)]
    mesh[[61, 291]] = [(-0.3, 0.6, 0), (0.3, 0.6, 0)]
    angle = np.radians(20)
    c, d = np.cos(angle), np.sin(angle)
    turned = np.array([[c, 0, d], [0, 1, 0], [-d, 0, c]])
    values = dict(zip(ATTRIBUTES[3:], shape_of(mesh @ turned), strict=True))
    assert values["yaw"] == pytest.approx(20) and values["pitch"] == pytest.approx(0)
    assert values["mouth_open"] == pytest.approx(0.1)
    assert values["eyes_open"] == pytest.approx(0.05)
    assert values["mouth_width"] == pytest.approx(0.3)
    raised = np.array([[1, 0, 0], [0, c, -d], [0, d, c]])
    values = dict(zip(ATTRIBUTES[3:], shape_of(mesh @ raised), strict=True))
    assert values["pitch"] == pytest.approx(20)


def correlated(count: int, width: int) -> Attributes:
    """Two attributes that go together, as the latents they depend on do."""
    random = np.random.default_rng(0)
    latents = random.standard_normal((count, width))
    latents[:, 1] = 0.8 * latents[:, 0] + 0.6 * latents[:, 1]
    latents = (latents @ np.linalg.qr(random.standard_normal((width, width)))[0]).astype(np.float32)
    axes = random.standard_normal((width, 2))
    axes[:, 1] += axes[:, 0]
    values = (latents @ axes + 0.05 * random.standard_normal((count, 2))).astype(np.float32)
    return Attributes(("smile", "age"), values, np.zeros((count, 3), np.float32), latents)


def test_a_direction_moves_its_attribute_by_a_step_and_holds_the_others() -> None:
    attributes = correlated(3000, 12)
    slopes = np.linalg.lstsq(attributes.latents, attributes.values, rcond=None)[0]
    recipes = {
        "smile": Recipe("smile", 2.0, ("age",), "two"),
        "entangled": Recipe("smile", 2.0, (), "two"),
    }
    found = fit(attributes, recipes)
    moved = found.vectors["smile"] @ slopes
    assert moved[0] == pytest.approx(2.0, rel=0.15) and abs(moved[1]) < 0.1
    entangled = found.vectors["entangled"] @ slopes
    assert abs(entangled[1]) > 0.5, "without holding, the other attribute goes along"
    assert min(found.explained.values()) > 0.9
    precision = np.linalg.inv(np.cov(attributes.latents.T))
    shortest = [v @ precision @ v for v in (found.vectors["entangled"], found.vectors["smile"])]
    assert shortest[0] < shortest[1]


def test_recipes_are_checked(tmp_path: Path) -> None:
    attributes = correlated(100, 4)
    with pytest.raises(EditError, match="'beard', which was not read; there are smile, age"):
        fit(attributes, {"beard": Recipe("beard", 1.0, (), "one")})
    with pytest.raises(EditError, match="holds an attribute twice, or its own"):
        fit(attributes, {"age": Recipe("age", 1.0, ("age",), "one")})
    (tmp_path / "bad.json").write_text('{"smile": {"step": 1}}')
    with pytest.raises(EditError, match="no recipe"):
        read_recipes(tmp_path / "bad.json")
    for name, recipe in read_recipes(RECIPES).items():
        assert {recipe.attribute, *recipe.holds} <= set(ATTRIBUTES), name


def test_fitted_directions_are_put_into_the_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, bundle)
    width = Bundle.open(bundle).manifest.latent_width
    table = tmp_path / "attributes.npz"
    save_attributes(correlated(200, width), table)
    assert load_attributes(table).names == ("smile", "age")
    recipe = tmp_path / "recipe.json"
    entry = {"attribute": "smile", "step": 1, "holds": ["age"], "unit": "one"}
    recipe.write_text(json.dumps({"smile": entry}))
    app = typer.Typer()
    app.command()(tool.main)
    command = [str(table), "--recipe", str(recipe), "--bundle", str(bundle)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    (direction,) = bundle_directions(Bundle.open(bundle)).values()
    assert direction.unit == "one"
    save_attributes(correlated(50, width + 1), table)
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 2 and "read renders of its own" in run.output
    table.write_bytes(b"no table")
    with pytest.raises(EditError, match="no table of attributes"):
        load_attributes(table)
