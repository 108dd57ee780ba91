#!/usr/bin/env python
"""Directions in W from pictures, or random faces, whose factors are known.

Latents are regressed on all factors at once (ridge), so that a factor's row is what the latents do
when it alone changes, however the factors go together in the table. A recipe names directions as
changes of factors. Where a direction still moves what another one is named for, as a regression of
the factors on the latents sees it, that is taken out of it.

The latents come from the generator's mapping network, for generators trained with factors as z:

    python tools/find_directions.py --bundle engines/portraits --table renders/factors.npz
        --standardisation generator.pt --recipe tools/recipes/portraits.json

or from the encoder, for any bundle:

    python tools/find_directions.py --bundle engines/faces --pictures renders
        --recipe tools/recipes/portraits.json -o directions.safetensors

A table holds `names` [F] and `values` [N,F]; in a folder of pictures it is called factors.npz and
has one row a picture, in the order of their names. A standardisation holds `names`, `mean` and
`std` [F], as an .npz or as the entry `factors` of a generator that tools/training has trained:
z = clamp((factors - mean) / std, -4, 4), the constant 20, zeros.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "export"), str(ROOT / "runtime")]

from array_files import TORCH_SUFFIXES, named_array, read_arrays
from direction_files import add_to_bundle, save_directions
from factor_regressor import picture_paths
from hyperstyle_rt import strict_json
from hyperstyle_rt.bundle import Bundle
from hyperstyle_rt.cli.terminal import print_error
from hyperstyle_rt.editing.directions import LinearDirection
from hyperstyle_rt.errors import EditError, HyperStyleError
from hyperstyle_rt.files import read_regular
from hyperstyle_rt.imaging import read_picture, to_input
from hyperstyle_rt.inversion import HyperStyle

Array = NDArray[np.float64]

CLAMP, CONSTANT = 4.0, 20.0  # of z, as tools/training makes it
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


def read_table(path: Path, *keys: str) -> list[NDArray[Any]]:
    """Arrays of an .npz file, none of which may be an object.

    Raises
    ------
    EditError
        If the file cannot be read or lacks one.
    """
    try:
        with np.load(path, allow_pickle=False) as table:
            return [table[key] for key in keys]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise EditError(f"{path} is no table with {', '.join(keys)} ({error})") from None


def read_standardisation(path: Path) -> tuple[list[str], Array, Array]:
    """Names of the factors, their mean and their standard deviation.

    Raises
    ------
    EditError
        If the file cannot be read or lacks one of them.
    """
    if path.suffix.lower() not in TORCH_SUFFIXES:
        names, mean, std = read_table(path, "names", "mean", "std")
        return [str(name) for name in names], mean, std
    entry = read_arrays(path)
    entry = entry.get("factors") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(entry.get("names"), list):
        raise EditError(f"{path} has no factors; give a generator that was trained on renders")
    mean, std = (named_array(entry, path, key) for key in ("mean", "std"))
    return [str(name) for name in entry["names"]], mean, std


def mapped_latents(model: HyperStyle, standard: Array) -> Array:
    """Standardised factors [N,F] through the mapping network: [N,W]."""
    width = model.bundle.manifest.style_width
    z = np.zeros((len(standard), width), np.float32)
    count = standard.shape[1]
    z[:, :count] = standard.clip(-CLAMP, CLAMP)
    z[:, count] = CONSTANT
    return np.concatenate([model.map(z[n : n + BATCH]) for n in range(0, len(z), BATCH)])


def encoded_latents(model: HyperStyle, folder: Path, count: int) -> Array:
    """The first rows of the encoder's latents of a folder's first pictures: [N,W]."""
    paths = picture_paths(folder)[:count]
    size, backend = model.bundle.manifest.input_size, model.backend
    rows = []
    for start in range(0, len(paths), BATCH):
        pictures = [to_input(read_picture(p), size) for p in paths[start : start + BATCH]]
        image = backend.upload(np.concatenate(pictures))
        rows.append(backend.download(backend.run("encoder", {"image": image})["latents"])[:, 0])
    return np.concatenate(rows)


def ridge(inputs: Array, outputs: Array) -> Array:
    """Linear map [I,O] from centred inputs [N,I] to centred outputs [N,O]."""
    x, y = inputs - inputs.mean(0), outputs - outputs.mean(0)
    gram = x.T @ x
    gram += np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram))
    return np.linalg.solve(gram, x.T @ y)


def factor_changes(recipes: Mapping[str, Recipe], names: list[str], std: Array) -> Array:
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
    standardisation: Annotated[
        Path | None, typer.Option(help="Mean and std of the factors, as z has them (.npz, .pt).")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of aligned pictures with a factors.npz.")
    ] = None,
    count: Annotated[int, typer.Option(help="Rows or pictures used.")] = 8000,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write instead of the bundle's.")
    ] = None,
) -> None:
    """Find directions and put them into a bundle, or into a file."""
    console = Console(stderr=True)
    try:
        recipes = read_recipes(recipe)
        model = HyperStyle.load(bundle, "cpu")
        if pictures is not None:
            names, values = read_table(pictures / "factors.npz", "names", "values")
            latents = encoded_latents(model, pictures, min(count, len(values)))
            values = values[: len(latents)]
            mean, std = values.mean(0), values.std(0) + 1e-3
            standard = (values - mean) / std
        elif table is not None and standardisation is not None:
            names, values = read_table(table, "names", "values")
            own, mean, std = read_standardisation(standardisation)
            if own != [str(name) for name in names]:
                raise EditError(f"{table} and {standardisation} have different factors")
            standard = ((values[:count] - mean) / std).clip(-CLAMP, CLAMP)
            latents = mapped_latents(model, standard)
        else:
            raise EditError("give --pictures, or --table with --standardisation")
        changes = factor_changes(recipes, [str(name) for name in names], std)
        vectors, response, explained = find(latents.astype(float), standard, changes)
        rows = model.bundle.manifest.num_latents
        directions = {
            name: LinearDirection(v.astype(np.float32), entry.rows or (0, rows), 1.0, entry.unit)
            for (name, entry), v in zip(recipes.items(), vectors, strict=True)
        }
        if out is None:
            add_to_bundle(Bundle.open(bundle), directions)
        else:
            save_directions(Bundle.open(bundle), directions, out)
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(2) from None
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
