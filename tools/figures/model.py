"""Draw the sheet on top of the README: what a bundle makes of aligned pictures.

    python tools/model_sheet.py examples --out docs/sheet.jpg

A row a picture: the input, what the encoder alone reconstructs, the reconstruction after some
iterations, and edits of the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from hyperstyle_rt import Model
from hyperstyle_rt.batch.sources import find_sources
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear, to_picture, write_picture
from hyperstyle_rt.types import Picture
from mistakes import check_picture_place, one_sentence

from figures.sheets import headed_sheet

ITERATIONS = 5
SHOWN = (1, 3, 5)
EDITS: Mapping[str, float] = {"smile": 1.5, "yaw": 1.5, "age": 2.0, "hair_colour": -2.0}


def sheet_row(model: Model, picture: Picture) -> Sequence[Picture]:
    """The input, encoder only, the shown iterations, the edits."""
    done: dict[int, Picture] = {}
    inversion = model.invert(
        picture,
        ITERATIONS,
        on_iteration=lambda n, image, _: done.update({n: to_picture(image)}),
        align="never",
    )
    return [
        resize_bilinear(picture, model.bundle.manifest.image_size),
        model.invert(picture, 0, align="never").image,
        *(done[n] for n in SHOWN),
        *model.sweep(inversion, [{name: amount} for name, amount in EDITS.items()]),
    ]


def headings() -> list[str]:
    """One a column of `sheet_row`."""
    counted = [f"{n} iteration" + "s" * (n > 1) for n in SHOWN]
    edits = [f"{name.replace('_', ' ')} {amount:+g}" for name, amount in EDITS.items()]
    return ["input", "encoder only", *counted, *edits]


def main(
    pictures: Annotated[list[Path], typer.Argument(help="Aligned pictures, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The sheet: PNG, JPEG or WebP.")],
    bundle: Annotated[
        str | None, typer.Option(help="Directory or name. Default: embedded.")
    ] = None,
) -> None:
    """Draw the sheet; an existing one is replaced."""
    with one_sentence():
        check_picture_place(out)
        model = Model.load(bundle, "cpu")
        rows = [sheet_row(model, read_picture(s.path)) for s in find_sources(pictures)]
        write_picture(out, headed_sheet(headings(), rows))
