"""Directions found again where it is known what they must be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from directions import find as tool
from directions.factor_regressor import FactorRegressor, Renders, explained, read_renders, train
from directions.find import (
    Recipe,
    disentangle,
    factor_changes,
    find,
    read_recipes,
)
from directions.judge import attribute_values, train_judge
from directions.measure import Figures, between_people, markdown
from hyperstyle_rt import Bundle, Model
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.formats.directions_file import LinearDirection, bundle_directions
from hyperstyle_rt.imaging.pictures import write_picture
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]
NAMES = ["smile", "age", "red", "green"]
RECIPES = {
    "smile": {"factors": {"smile": 0.5}, "unit": "half a smile"},
    "colour": {"factors": {"red": 2, "green": -1}, "unit": "redder", "rows": [2, 8]},
}


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPES))
    return path


def correlated(count: int) -> np.ndarray:
    """Standardised factors, of which the second goes along with the first."""
    factors = normal(0, count, 4)
    factors[:, 1] = 0.8 * factors[:, 0] + 0.6 * factors[:, 1]
    return factors


def test_a_factor_s_own_direction_is_found_among_factors_that_go_together() -> None:
    standard, axes = correlated(4000), normal(1, 4, 12)
    latents = standard @ axes + 0.1 * normal(2, 4000, 12)
    changes = np.array([[2.0, 0, 0, 0], [0, 0, 1.0, -1.0]])
    vectors, response, share = find(latents, standard, changes)
    assert np.abs(vectors - changes @ axes).max() < 0.06
    assert np.abs(response - np.eye(2)).max() < 0.02
    assert 0.99 < share < 1


def test_what_a_direction_moves_besides_is_taken_out() -> None:
    response = np.array([[1.0, 0.3], [-0.2, 0.5]])
    vectors = normal(0, 2, 12)
    mixed = disentangle(vectors, response)
    # what moves attributes is linear: the response of the mixed vectors is mixed alike
    mix = mixed @ np.linalg.pinv(vectors)
    assert np.allclose(mix @ response, np.eye(2))


def test_recipes_are_changes_in_standard_deviations(recipe: Path) -> None:
    recipes = read_recipes(recipe)
    assert recipes["colour"] == Recipe({"red": 2.0, "green": -1.0}, "redder", (2, 8))
    changes = factor_changes(recipes, NAMES, np.array([0.25, 1, 4, 0.5]))
    assert np.array_equal(changes, [[2, 0, 0, 0], [0, 0, 0.5, -2]])
    # an attribute is scaled so that its own direction moves it by one step
    factors = np.array([[0.5, 0, 0, 0], [0, 9, 0, 0], [0, 0, 2, -1]], np.float32)
    values = attribute_values(factors, changes, np.array([0.25, 1, 4, 0.5], np.float32))
    assert np.allclose(values, [[1, 0], [0, 0], [0, 1]])


def test_the_renderer_s_recipe_names_its_factors() -> None:
    from portraits.factors import NAMES as FACTORS

    recipes = read_recipes(ROOT / "tools" / "directions" / "recipes" / "portraits.json")
    assert {"smile", "age", "yaw", "pitch", "hair_colour", "glasses"} <= set(recipes)
    assert {factor for entry in recipes.values() for factor in entry.factors} <= set(FACTORS)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"smile": 1}', '{"smile": {"factors": {"a": "b"}, "unit": ""}}']
)
def test_other_recipes_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(EditError, match="is no recipe of directions"):
        read_recipes(path)


def run(*arguments: object) -> str:
    """Run the tool; give what it says, with the exit status in front."""
    app = typer.Typer()
    app.command()(tool.main)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return f"{result.exit_code} {result.stderr}"


def test_directions_of_a_mapping_network(bundle: Path, recipe: Path, tmp_path: Path) -> None:
    values = (correlated(600) * [0.3, 10, 0.2, 0.2] + [0, 40, 0.5, 0.5]).astype(np.float32)
    mean, std = values.mean(0), values.std(0)
    np.savez(tmp_path / "table.npz", names=NAMES, values=values)
    entry = {"names": NAMES, "mean": torch.from_numpy(mean), "std": torch.from_numpy(std)}
    torch.save({"g_ema": {}, "factors": entry}, tmp_path / "generator.pt")
    torch.save({"g_ema": {}}, tmp_path / "other.pt")
    options = ("--recipe", recipe, "--bundle", bundle, "--table", tmp_path / "table.npz")
    said = run(*options, "--generator", tmp_path / "other.pt")
    assert said.startswith("2 ")
    assert "has no factors; give a generator that was trained on renders" in said
    said = run(*options, "--generator", tmp_path / "generator.pt")
    assert said.startswith("0 "), said
    directions = bundle_directions(Bundle.open(bundle))
    smile, colour = directions["smile"], directions["colour"]
    assert isinstance(smile, LinearDirection)
    assert (smile.rows, smile.unit) == ((0, 8), "half a smile")
    assert colour.rows == (2, 8)
    model = Model.load(bundle, "cpu", threads=1)
    z = np.zeros((600, 16), np.float32)
    z[:, :4], z[:, 4] = (values - mean) / std, 1.25 * 16**0.5
    smiling = z.copy()
    smiling[:, 0] += 0.5 / std[0]
    change = (model.map(smiling) - model.map(z)).mean(0)
    cosine = change @ smile.vector / np.linalg.norm(change) / np.linalg.norm(smile.vector)
    assert cosine > 0.9
    assert 0.7 < np.linalg.norm(smile.vector) / np.linalg.norm(change) < 1.4


def test_directions_of_pictures(bundle: Path, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "renders"
    folder.mkdir()
    values = np.random.default_rng(0).random((40, 4), np.float32)
    for number, (smile, _, red, green) in enumerate(values):
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[...] = np.array([red, green, smile]) * 255
        write_picture(folder / f"{number:03d}.png", picture)
    np.savez(folder / "factors.npz", names=NAMES, values=values)
    out = tmp_path / "directions.safetensors"
    assert run("--recipe", recipe, "--bundle", bundle, "--pictures", folder, "-o", out)[0] == "0"
    assert out.stat().st_size > 16 * 4 * 2
    assert bundle_directions(Bundle.open(bundle)) == {}


def test_what_is_missing_is_one_sentence(bundle: Path, recipe: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "table.npz", names=["other"], values=np.zeros((3, 1), np.float32))
    entry = {"names": ["other"], "mean": torch.zeros(1), "std": torch.ones(1)}
    torch.save({"factors": entry}, tmp_path / "generator.pt")
    common = ("--recipe", recipe, "--bundle", bundle)
    assert "give --pictures, or --table" in run(*common)
    generator = ("--generator", tmp_path / "generator.pt")
    said = run(*common, *generator, "--table", tmp_path / "generator.pt")
    assert "generator.pt is no table of factors with 'names' [F]" in said
    said = run(*common, *generator, "--table", tmp_path / "table.npz")
    assert said.startswith("2 ")
    assert "wants the factor 'smile', which the table does not have" in said


# The judge


def test_the_regressor_learns_what_can_be_seen(tmp_path: Path) -> None:
    factors = np.random.default_rng(0).random((320, 2), np.float32)
    pictures = np.zeros((320, 64, 64, 3), np.uint8)
    pictures[:, :32] = (factors[:, 0, None, None, None] * 255).astype(np.uint8)
    losses: list[float] = []
    both = np.ones(2, np.float32)
    model = train(pictures, factors, both, 6, lambda _epoch, loss: losses.append(loss))
    assert isinstance(model, FactorRegressor)
    assert losses[-1] < losses[0]
    seen = explained(model, pictures, factors)
    assert seen[0] > 0.8
    assert seen[1] < 0.3
    once, again = (train(pictures[:64], factors[:64], both, 2, lambda *_: None) for _ in range(2))
    assert np.array_equal(once.read(pictures[:4]), again.read(pictures[:4]))


def test_the_judge_reads_steps_of_directions() -> None:
    factors = np.random.default_rng(0).random((320, 2), np.float32)
    pictures = np.zeros((320, 64, 64, 3), np.uint8)
    pictures[...] = (factors[:, :, None, None] * 255).repeat(3, 3).astype(np.uint8)[:, :1]
    renders = Renders(pictures, ["level", "unseen"], factors)
    recipes = {"brighter": Recipe({"level": 0.25}, "a quarter")}
    judge = train_judge(recipes, renders, ["unseen"], 6, lambda *_: None)
    levels = np.full((2, 64, 64, 3), [[[[64]]], [[[191]]]], np.uint8)
    attributes, looks = judge.read(levels)
    assert attributes.shape == looks.shape == (2, 1)
    assert 1.2 < attributes[1, 0] - attributes[0, 0] < 2.8  # half of the range: two steps
    assert judge.spread[0] == pytest.approx(factors[:, 0].std() / 0.25, rel=1e-3)
    assert judge.seen(renders)[0] > 0.8
    with pytest.raises(EditError, match="different factors"):
        judge.seen(Renders(pictures, ["unseen", "level"], factors))
    with pytest.raises(EditError, match="give 64 at least"):
        train_judge(recipes, Renders(pictures[:3], renders.names, factors[:3]), [], 1, print)


def test_renders_are_read_with_their_factors(tmp_path: Path) -> None:
    with pytest.raises(EditError, match=r"factors\.npz is no table"):
        read_renders(tmp_path, 10)
    np.savez(tmp_path / "factors.npz", names=["a"], values=np.arange(3.0)[:, None])
    with pytest.raises(EditError, match="holds no pictures"):
        read_renders(tmp_path, 10)
    for number in (2, 0, 1):
        write_picture(tmp_path / f"{number}.png", np.full((8, 8, 3), 60 * number, np.uint8))
    renders = read_renders(tmp_path, 2)
    assert renders.names == ["a"]
    assert renders.factors.ravel().tolist() == [0, 1]
    assert renders.pictures[:, 0, 0, 0].tolist() == [0, 60]


def test_figures_become_a_page() -> None:
    figures = Figures(
        names=["smile", "age"],
        units=["half a smile", "15 years"],
        seen=np.array([0.9, 0.1]),
        response=np.array([[0.8, -0.5], [0.2, 0.6]]),
        right_way=np.array([1.0, 0.95]),
        spread=np.array([2.0, 0.5]),
        identity=np.array([0.1, 0.2]),
        inversion_identity=0.3,
        faces=100,
        looks="nose.*",
    )
    page = markdown(figures, "tiny")
    assert "| smile | half a smile | +0.80 | 100% | 0.90 | 0.10 | smile +0.00 |" in page
    assert "| age | 15 years | not seen | 95% | 0.10 | 0.20 | smile +0.10 |" in page
    assert "| smile | +0.40 | -1.00 |" in page
    assert "on 100 held-out renders" in page
    assert between_people(np.array([[0.0, 0], [3, 4], [6, 8]])) == 5
