"""What a bundle's directions do to held-out renders: attribute, identity, everything else.

A small network learns to read factors off renders (it never sees the bundle). Held-out renders are
inverted, edited by one step either way, and read: how far the attribute moved that the direction is
named for, how far all others did, and how far the identity, as the network sees it.

    python -m directions.measure --bundle engines/portraits --train renders/train
        --held-out renders/test --recipe tools/directions/recipes/portraits.json
        -o docs/directions.md

Both folders hold pictures and a factors.npz as directions/find.py describes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Array
from mistakes import check_place, one_sentence
from picture_sets.folders import pictures_in
from rich.console import Console

from directions.factor_regressor import read_renders
from directions.find import Recipe, read_recipes
from directions.judge import SEEN, Judge, train_judge

PAGE = """\
# Directions of the bundle {bundle}

Measured by `python -m directions.measure` on {faces} held-out renders: each is inverted, edited by
one step either way, and read by a small network that has learnt to read the renderer's factors off
pictures and knows nothing of the bundle.

- *own*: change of the attribute that the direction is named for, in steps: 1 is what one step
  means. *right way*: share of faces on which it moves so.
- *seen*: how much of the attribute's variance the network explains on held-out renders; below
  {seen} it is no judge of it. What it reads shrinks towards the mean by about this factor, and the
  changes in the tables with it.
- *identity*: median distance in what the network makes of the factors of a person's looks
  (`{looks}`); 1 is the median distance between two people. A render and its inversion are
  {inversion:.2f} apart.
- *most of all*: the other attribute that moves most, in its standard deviations over the renders.

| direction | one step | own | right way | seen | identity | most of all |
|---|---|---|---|---|---|---|
{rows}

What one step of the direction on the left does to all attributes, in their standard deviations over
the renders:

| | {heads} |
{lines}
{matrix}
"""

STEPS = (-1.0, 1.0)


@dataclass(frozen=True)
class Figures:
    """What was measured; D directions, which are also the attributes.

    Attributes
    ----------
    names, units:
        Of the directions.
    seen:
        [D]: how much of each attribute's variance the network explains on held-out renders.
    response:
        [D,D]: mean change of attribute j by one step of direction i, in j's steps.
    right_way:
        [D]: share of faces on which the own attribute moves the right way.
    spread:
        [D]: standard deviation of each attribute over the renders, in its steps.
    identity:
        [D]: median distance that an edit moves the identity, where 1 is the median distance between
        two people.
    inversion_identity:
        The same between a render and its inversion.
    faces:
        How many there were.
    looks:
        Regular expression of the factors that make up the identity.
    """

    names: list[str]
    units: list[str]
    seen: Array
    response: Array
    right_way: Array
    spread: Array
    identity: Array
    inversion_identity: float
    faces: int
    looks: str


def measure(model: Model, judge: Judge, folder: Path, count: int) -> dict[str, Array]:
    """Invert and edit pictures.

    Returns
    -------
    "change" [N,D,D]: by one step of direction i, attribute j; "moved" [N,D]: identity distance of
    the edits; "inverted" [N]: of the inversions; "identity" [N,I]: of the renders.
    """
    names = list(model.directions)
    edits = [{name: amount} for name in names for amount in STEPS]
    change, moved, inverted, identities = [], [], [], []
    size = model.bundle.manifest.image_size
    for path in pictures_in(folder, EditError)[:count]:
        picture = read_picture(path)
        inversion = model.invert(picture, align="never", effort="fast")
        shown = [resize_bilinear(picture, size), inversion.image, *model.sweep(inversion, edits)]
        attributes, identity = judge.read(np.stack(shown))
        edited = attributes[2:].reshape(len(names), len(STEPS), -1)
        change.append((edited[:, 1] - edited[:, 0]) / (STEPS[1] - STEPS[0]))
        away = np.linalg.norm(identity[2:] - identity[1], axis=1)
        moved.append(away.reshape(len(names), -1).mean(1))
        inverted.append(np.linalg.norm(identity[1] - identity[0]))
        identities.append(identity[0])
    return {
        "change": np.stack(change),
        "moved": np.stack(moved),
        "inverted": np.array(inverted),
        "identity": np.stack(identities),
    }


def between_people(identities: Array) -> float:
    """Median distance between two of them."""
    distances = np.linalg.norm(identities[:, None] - identities[None], axis=2)
    return float(np.median(distances[np.triu_indices(len(identities), 1)]))


def markdown(figures: Figures, bundle: str) -> str:
    """The figures as a page."""
    rows = []
    for at, name in enumerate(figures.names):
        others = figures.response[at] / figures.spread
        others[at] = 0
        others = np.where(figures.seen >= SEEN, others, 0)
        most = int(np.abs(others).argmax())
        own = f"{figures.response[at, at]:+.2f}" if figures.seen[at] >= SEEN else "not seen"
        rows.append(
            f"| {name} | {figures.units[at]} | {own} | {figures.right_way[at]:.0%} | "
            f"{figures.seen[at]:.2f} | {figures.identity[at]:.2f} | {figures.names[most]} "
            f"{others[most]:+.2f} |"
        )
    matrix = []
    for name, row in zip(figures.names, figures.response / figures.spread, strict=True):
        matrix.append(f"| {name} | " + " | ".join(f"{value:+.2f}" for value in row) + " |")
    return PAGE.format(
        bundle=bundle,
        faces=figures.faces,
        seen=SEEN,
        looks=figures.looks,
        inversion=figures.inversion_identity,
        rows="\n".join(rows),
        heads=" | ".join(figures.names),
        lines="|---" * (len(figures.names) + 1) + "|",
        matrix="\n".join(matrix),
    )


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle with directions.")],
    recipe: Annotated[Path, typer.Option(help="The recipe the directions were found with.")],
    train_on: Annotated[Path, typer.Option("--train", help="Folder of renders to learn from.")],
    held_out: Annotated[Path, typer.Option(help="Folder of renders to edit.")],
    identity: Annotated[
        str, typer.Option(help="Regular expression of the factors of a person's looks.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Markdown page to write.")],
    count: Annotated[int, typer.Option(min=2, help="Held-out renders that are edited.")] = 100,
    renders: Annotated[int, typer.Option(min=1, help="Renders that are learnt from.")] = 12_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over them.")] = 8,
) -> None:
    """Measure the directions of a bundle on held-out renders."""
    console = Console(stderr=True)
    with one_sentence():
        check_place(out)
        model = Model.load(bundle, "cpu")
        recipes = read_recipes(recipe)
        if set(recipes) != set(model.directions):
            raise EditError(
                f"{recipe} describes {', '.join(sorted(recipes))}, and the bundle has "
                f"{', '.join(sorted(model.directions)) or 'none'}; give the bundle's own recipe"
            )
        recipes = {name: recipes[name] for name in model.directions}
        figures = judge_bundle(
            model, recipes, (train_on, held_out), (renders, count), identity, epochs, console
        )
        write_atomically(out, markdown(figures, bundle.name).encode(), EditError)


def judge_bundle(
    model: Model,
    recipes: dict[str, Recipe],
    folders: tuple[Path, Path],
    counts: tuple[int, int],
    identity: str,
    epochs: int,
    console: Console,
) -> Figures:
    """Train the judge on one folder and let it read edits of the other.

    Raises
    ------
    EditError
        If a folder's table is missing or lacks factors of the recipes.
    """
    known = read_renders(folders[0], counts[0])
    looks = [name for name in known.names if re.fullmatch(identity, name)]
    if not looks:
        raise EditError(f"--identity {identity} fits none of {', '.join(known.names)}")
    judge = train_judge(
        recipes,
        known,
        looks,
        epochs,
        lambda epoch, loss: console.print(f"epoch {epoch + 1} of {epochs}: {loss:.3f}"),
    )
    test = read_renders(folders[1], 512)
    seen = judge.seen(test)
    measured = measure(model, judge, folders[1], counts[1])
    own = measured["change"][:, range(len(recipes)), range(len(recipes))]
    unit = between_people(measured["identity"])
    return Figures(
        names=list(recipes),
        units=[entry.unit for entry in recipes.values()],
        seen=seen,
        response=measured["change"].mean(0),
        right_way=(own > 0).mean(0),
        spread=judge.scale.attributes(test).std(0),
        identity=np.median(measured["moved"], axis=0) / unit,
        inversion_identity=float(np.median(measured["inverted"])) / unit,
        faces=len(measured["inverted"]),
        looks=identity,
    )


if __name__ == "__main__":
    typer.run(main)
