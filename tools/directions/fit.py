"""Directions in W from attributes that networks have read off renders.

    python -m directions.read sets/train --face-api package/model -o attributes.npz
    python -m directions.fit attributes.npz --bundle engines/faces
        --recipe tools/directions/recipes/faces.json

Every attribute is regressed on w (ridge). A direction is the most likely change of w, in the
covariance of the latents, by which its own attribute moves by one step as the regression sees it,
and the attributes that it is to hold do not move: of all changes that do so the one of least
Mahalanobis length. So a smile is not the pose and age that smiling renders go with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import read_regular
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.directions_file import LinearDirection
from mistakes import one_sentence
from numpy.typing import NDArray

from directions.files import write_directions
from directions.find import MAX_RECIPE_SIZE
from directions.read import Attributes, load_attributes

RIDGE = 0.1
"""Of the mean variance: of several, what explained most of the attributes of held-out renders."""

SHRINKAGE = 0.1  # of the covariance of w, of its mean variance
HELD_OUT = 5  # every so many renders judge the regression

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """What a direction does.

    Attributes
    ----------
    attribute:
        That it is named for.
    step:
        How far one step moves it.
    holds:
        Attributes that must not move.
    unit:
        The step, for people.
    bend:
        Where the attribute is bent towards its ends, `tanh(value / bend)`: log odds beyond it say
        little. The step is then one of the bent attribute. None for not at all.
    """

    attribute: str
    step: float
    holds: tuple[str, ...]
    unit: str
    bend: float | None = None


@dataclass(frozen=True)
class Found:
    """Directions [W] by name, and R^2 of each one's own attribute on held-out renders."""

    vectors: Mapping[str, Array]
    explained: Mapping[str, float]


def read_recipes(path: Path) -> dict[str, Recipe]:
    """Read a recipe file: {direction: {"attribute", "step", "holds", "unit", "bend"}}.

    Raises
    ------
    EditError
        If it is not such a file.
    """
    try:
        document: Any = strict_json.parse(read_regular(path, MAX_RECIPE_SIZE, EditError))
        return {
            name: Recipe(
                str(entry["attribute"]),
                float(entry["step"]),
                tuple(map(str, entry["holds"])),
                str(entry["unit"]),
                float(entry["bend"]) if "bend" in entry else None,
            )
            for name, entry in document.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EditError(f"{path} is no recipe of directions ({error}); see --help") from None


def fit(attributes: Attributes, recipes: Mapping[str, Recipe]) -> Found:
    """Find the directions of recipes.

    Raises
    ------
    EditError
        If a recipe names an attribute that was not read, or holds its own.
    """
    latents = attributes.latents.astype(np.float64)
    covariance = shrunk_covariance(latents)
    vectors, explained = {}, {}
    for name, recipe in recipes.items():
        values = _values(attributes, name, recipe)
        slopes = ridge(latents, values)
        vectors[name] = covariance @ slopes @ _solved(slopes, covariance, recipe.step)
        explained[name] = _explained(latents, values[:, 0])
    return Found(vectors, explained)


def ridge(latents: Array, values: Array) -> Array:
    """Slopes [W,A] of attributes [N,A] by latents [N,W]."""
    x, y = latents - latents.mean(0), values - values.mean(0)
    gram = x.T @ x
    gram += np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram))
    return np.asarray(np.linalg.solve(gram, x.T @ y))


def shrunk_covariance(latents: Array) -> Array:
    """Covariance [W,W] of latents [N,W], with a share of its mean variance on the diagonal."""
    covariance = np.cov(latents.T)
    spread = np.trace(covariance) / len(covariance)
    return np.asarray(covariance + SHRINKAGE * spread * np.eye(len(covariance)))


def _solved(slopes: Array, covariance: Array, step: float) -> Array:
    """Weights of the slopes: the first attribute moves by a step, and no other."""
    wanted = np.zeros(slopes.shape[1])
    wanted[0] = step
    return np.asarray(np.linalg.solve(slopes.T @ covariance @ slopes, wanted))


def _values(attributes: Attributes, name: str, recipe: Recipe) -> Array:
    """The own attribute and those that are held, [N,1+H]."""
    wanted = (recipe.attribute, *recipe.holds)
    if len(set(wanted)) < len(wanted):
        raise EditError(
            f"the direction {name} holds an attribute twice, or its own; name each once"
        )
    for each in wanted:
        if each not in attributes.names:
            raise EditError(
                f"the direction {name} wants the attribute {each!r}, which was not read; there are "
                f"{', '.join(attributes.names)}"
            )
    columns = [attributes.names.index(each) for each in wanted]
    values = attributes.values[:, columns].astype(np.float64)
    if recipe.bend is not None:
        values[:, 0] = np.tanh(values[:, 0] / recipe.bend)
    return values


def _explained(latents: Array, values: Array) -> float:
    """R^2 on every fifth render, of a regression on the others."""
    judged = np.arange(len(values)) % HELD_OUT == 0
    slopes = ridge(latents[~judged], values[~judged, None])[:, 0]
    predicted = (latents[judged] - latents[~judged].mean(0)) @ slopes
    left = values[judged] - values[~judged].mean() - predicted
    return float(1 - left.var() / values[judged].var())


def main(
    table: Annotated[Path, typer.Argument(help="Table of directions.read.", show_default=False)],
    recipe: Annotated[Path, typer.Option(help="JSON: directions by their attributes.")],
    bundle: Annotated[Path, typer.Option(help="The bundle the directions are for.")],
    more: Annotated[
        list[Path] | None, typer.Option("--with", help="Further tables, of other renders.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to add to instead of the bundle's.")
    ] = None,
) -> None:
    """Fit directions and put them into a bundle, or into a file."""
    with one_sentence():
        recipes, opened = read_recipes(recipe), Bundle.open(bundle)
        attributes = joined([load_attributes(path) for path in (table, *(more or ()))])
        width = opened.manifest.latent_width
        if attributes.latents.shape[1] != width:
            raise EditError(
                f"the latents of {table} have {attributes.latents.shape[1]} numbers and those of "
                f"bundle {opened.manifest.name!r} {width}; read renders of its own generator"
            )
        found = fit(attributes, recipes)
        rows = (0, opened.manifest.num_latents)
        directions = {
            name: LinearDirection(vector.astype(np.float32), rows, 1.0, recipes[name].unit)
            for name, vector in found.vectors.items()
        }
        write_directions(opened, directions, out)
    for name, share in found.explained.items():
        print_line(f"{name}: w explains {share:.2f} of the attribute on held-out renders")


def joined(tables: list[Attributes]) -> Attributes:
    """Several tables as one.

    Raises
    ------
    EditError
        If they are of other attributes or latents.
    """
    first = tables[0]
    if any(
        table.names != first.names or table.latents.shape[1] != first.latents.shape[1]
        for table in tables
    ):
        raise EditError("the tables are of different attributes or latents; read them alike")
    parts = ([getattr(t, part) for t in tables] for part in ("values", "embeddings", "latents"))
    return Attributes(first.names, *map(np.concatenate, parts))


if __name__ == "__main__":
    typer.run(main)
