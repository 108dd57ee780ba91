"""Directions in W from pictures, or random faces, whose factors are known.

Latents are regressed on all factors at once (ridge), so that a factor's row is what the latents do
when it alone changes, however the factors go together in the table. A recipe names directions as
changes of factors. Where a direction still moves what another one is named for, as a regression of
the factors on the latents sees it, that is taken out of it.

The latents come from the generator's mapping network, for generators trained with factors as z:

    python -m directions.find --bundle engines/portraits --table renders/factors.npz
        --generator generator.pt --recipe tools/directions/recipes/portraits.json

or from the encoder, for any bundle:

    python -m directions.find --bundle engines/faces --pictures renders
        --recipe tools/directions/recipes/portraits.json -o directions.safetensors

picture_sets/folders.py says what such a table and folder are; the generator is one that
tools/training has trained, and its file says how factors become z.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import read_regular
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.directions_file import LinearDirection
from hyperstyle_rt.imaging.pictures import read_picture, to_input
from hyperstyle_rt.model import Model
from mistakes import check_place, one_sentence
from numpy.typing import NDArray
from picture_sets.folders import known_pictures, read_factor_table
from picture_sets.known_latents import factors_taken, mapped_latents
from rich.console import Console
from rich.table import Table

from directions.files import write_directions

Array = NDArray[np.floating[Any]]

BATCH = 64
RIDGE = 1e-3  # of the mean variance
MAX_RECIPE_SIZE = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """What one step of a direction changes.

    Attributes
    ----------
    factors:
        Factor -> change, in the factor's own unit.
    unit:
        The step, for people.
    rows:
        (start, stop) of the latents' rows; None for all.
    """

    factors: Mapping[str, float]
    unit: str
    rows: tuple[int, int] | None = None


def read_recipes(path: Path) -> dict[str, Recipe]:
    """Read a recipe file: {direction: {"factors": {name: change}, "unit": text, "rows": [a, b]}}.

    Raises
    ------
    EditError
        If it is not such a file.
    """
    try:
        document: Any = strict_json.parse(read_regular(path, MAX_RECIPE_SIZE, EditError))
        return {
            name: Recipe(
                {factor: float(change) for factor, change in entry["factors"].items()},
                str(entry["unit"]),
                tuple(entry["rows"]) if "rows" in entry else None,
            )
            for name, entry in document.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EditError(f"{path} is no recipe of directions ({error}); see --help") from None


@dataclass(frozen=True)
class Sample:
    """Faces with known factors.

    Attributes
    ----------
    names:
        F names.
    std:
        [F] of the factors.
    standard:
        [N,F]: factors in standard deviations from their mean.
    latents:
        [N,W].
    """

    names: tuple[str, ...]
    std: Array
    standard: Array
    latents: Array


def sample_of_table(model: Model, table: Path, generator: Path, count: int) -> Sample:
    """Random faces: their factors through the mapping network.

    Raises
    ------
    EditError
        If the table or the generator cannot be used, or they do not belong together.
    """
    names, values = read_factor_table(table, EditError)
    factors = factors_taken(names, table, generator, EditError)
    standard = factors.standardise(torch.from_numpy(values[:count])).numpy()
    latents = mapped_latents(model, factors, values[:count])
    return Sample(factors.names, factors.std.numpy(), standard, latents)


def sample_of_pictures(model: Model, folder: Path, count: int) -> Sample:
    """Pictures with known factors: what the encoder makes of them.

    Raises
    ------
    EditError, PictureError
        If the folder or a picture cannot be used.
    """
    known = known_pictures(folder, EditError)
    values = known.values[:count]
    std = values.std(0) + 1e-3
    standard = (values - values.mean(0)) / std
    return Sample(known.names, std, standard, encoded_latents(model, known.paths[:count]))


def encoded_latents(model: Model, paths: Sequence[Path]) -> Array:
    """The first rows of the encoder's latents of pictures: [N,W]."""
    size, backend = model.bundle.manifest.input_size, model.backend
    rows = []
    for start in range(0, len(paths), BATCH):
        pictures = [to_input(read_picture(p), size) for p in paths[start : start + BATCH]]
        target = backend.upload(np.concatenate(pictures))
        rows.append(backend.download(backend.run("encoder", {"target": target})["latents"])[:, 0])
    return np.concatenate(rows)


def ridge(inputs: Array, outputs: Array) -> Array:
    """Linear map [I,O] from centred inputs [N,I] to centred outputs [N,O]."""
    x, y = inputs - inputs.mean(0), outputs - outputs.mean(0)
    gram = x.T @ x
    gram += np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram))
    return np.linalg.solve(gram, x.T @ y)


def factor_changes(
    recipes: Mapping[str, Recipe], names: Sequence[str], std: Array
) -> NDArray[np.float64]:
    """What one step of each direction changes, in standard deviations: [D,F].

    Raises
    ------
    EditError
        If a recipe names an unknown factor.
    """
    changes = np.zeros((len(recipes), len(names)))
    for row, (name, recipe) in enumerate(recipes.items()):
        for factor, change in recipe.factors.items():
            if factor not in names:
                raise EditError(
                    f"the direction {name} wants the factor {factor!r}, which the table does not "
                    f"have; its factors are {', '.join(names)}"
                )
            changes[row, names.index(factor)] = change / std[names.index(factor)]
    return changes


def disentangle(vectors: Array, response: Array) -> Array:
    """Mix directions [D,W] so that each moves what it is named for by one, and no other.

    Parameters
    ----------
    response:
        [D,D]: how far direction i moves attribute j; attributes are scaled so that 1 is one step.
    """
    return np.linalg.solve(response, vectors)


def find(latents: Array, standard: Array, changes: Array) -> tuple[Array, Array, float]:
    """Directions [D,W], their response [D,D] before disentangling, and what is explained (R^2)."""
    to_latents, to_factors = ridge(standard, latents), ridge(latents, standard)
    predicted = (standard - standard.mean(0)) @ to_latents
    left = latents - latents.mean(0) - predicted
    explained = 1 - left.var(0).sum() / latents.var(0).sum()
    vectors = changes @ to_latents
    attributes = changes / np.square(changes).sum(1, keepdims=True)
    response = vectors @ to_factors @ attributes.T
    return disentangle(vectors, response), response, float(explained)


def main(
    recipe: Annotated[Path, typer.Option(help="JSON: directions as changes of factors.")],
    bundle: Annotated[Path, typer.Option(help="The bundle the directions are for.")],
    table: Annotated[Path | None, typer.Option(help="Factors of random faces (.npz).")] = None,
    generator: Annotated[
        Path | None, typer.Option(help="The generator.pt of tools/training that --bundle has.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of aligned pictures with a factors.npz.")
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Rows or pictures used.")] = 8000,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to add to instead of the bundle's.")
    ] = None,
) -> None:
    """Find directions and put them into a bundle, or into a file."""
    console = Console(stderr=True)
    with one_sentence():
        if out is not None:
            check_place(out)
        recipes = read_recipes(recipe)
        model = Model.load(bundle, "cpu")
        if pictures is not None:
            sample = sample_of_pictures(model, pictures, count)
        elif table is not None and generator is not None:
            sample = sample_of_table(model, table, generator, count)
        else:
            raise EditError("give --pictures, or --table with --generator")
        changes = factor_changes(recipes, sample.names, sample.std)
        latents, standard = sample.latents.astype(float), sample.standard.astype(float)
        vectors, response, explained = find(latents, standard, changes)
        rows = model.bundle.manifest.num_latents
        directions = {
            name: LinearDirection(v.astype(np.float32), entry.rows or (0, rows), 1.0, entry.unit)
            for (name, entry), v in zip(recipes.items(), vectors, strict=True)
        }
        write_directions(Bundle.open(bundle), directions, out)
    console.print(as_table(list(recipes), response, explained))


def as_table(names: list[str], response: Array, explained: float) -> Table:
    """How far directions moved their own attribute and others before that was taken out."""
    title = f"before disentangling; factors explain {explained:.0%} of the latents"
    shown = Table("direction", "moves itself by", "and most of all", "by", title=title)
    for at, name in enumerate(names):
        others = np.where(np.arange(len(names)) == at, 0, response[at])
        most = int(np.abs(others).argmax())
        shown.add_row(name, f"{response[at, at]:.2f}", names[most], f"{others[most]:+.2f}")
    return shown


if __name__ == "__main__":
    typer.run(main)
