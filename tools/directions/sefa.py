"""Directions without a name, in closed form from a generator's weights (SeFa, Shen and Zhou 2021).

    python -m directions.sefa --bundle engines/faces --count 5

All affine maps from a latent to styles, one above the other with rows of length one, are A: the
eigenvectors of A^T A with the largest eigenvalues are the changes of a latent that change most of
the styles. Nothing is learnt and no picture is seen, so what they do is not known: they are
called sefa_1, sefa_2, ... in the order of the eigenvalues.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import typer
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.directions_file import LinearDirection
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Array, Floats
from mistakes import one_sentence
from onnx import numpy_helper

from directions.files import write_directions

AFFINE = (".style.weight", ".modulation.weight")  # MobileStyleGAN's and StyleGAN2's
DEVIATIONS = 2.0
"""Of the generator's own latents along a direction, that one step goes."""

DRAWN = 4096  # latents whose spread that is
UNIT = "two deviations of the generator's faces along it"


def affine_maps(bundle: Bundle) -> Array:
    """The maps from a latent to the styles of all layers, [S,W].

    Raises
    ------
    EditError
        If the generator has none of a known name.
    """
    graph = onnx.load(bundle.verified_path("generator")).graph
    maps = [
        numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in graph.initializer
        if tensor.name.removesuffix(".fp16").endswith(AFFINE)
    ]
    if not maps:
        raise EditError(f"the generator of {bundle.directory} has no affine maps of a known name")
    return np.concatenate(maps)


def closed_form(maps: Array, count: int) -> Floats:
    """The first directions [count,W] of affine maps [S,W], of length one.

    A sign is free: the largest entry is made positive.
    """
    rows = maps.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    found = vectors.T[::-1][:count]
    largest = np.take_along_axis(found, np.abs(found).argmax(1)[:, None], 1)
    return np.asarray(found * np.sign(largest))


def scaled(directions: Floats, latents: Array) -> Array:
    """Directions [D,W] as long as one step, by the spread of latents [N,W]."""
    deviations = (latents @ directions.T).std(0)
    return np.asarray(DEVIATIONS * deviations[:, None] * directions, np.float32)


def main(
    bundle: Annotated[Path, typer.Option(help="The bundle the directions are of and for.")],
    count: Annotated[int, typer.Option(min=1, max=64, help="How many.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to add to instead of the bundle's.")
    ] = None,
) -> None:
    """Find directions in closed form and put them into a bundle, or into a file."""
    with one_sentence():
        opened = Bundle.open(bundle)
        found = closed_form(affine_maps(opened), count)
        with Model.load(bundle, "cpu") as model:
            shape = (DRAWN, opened.manifest.latent_width)
            z = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            vectors = scaled(found, model.map(z))
        rows = (0, opened.manifest.num_latents)
        directions = {
            f"sefa_{number}": LinearDirection(vector, rows, 1.0, UNIT)
            for number, vector in enumerate(vectors, 1)
        }
        write_directions(opened, directions, out)
    print_line(f"wrote {', '.join(directions)}")


if __name__ == "__main__":
    typer.run(main)
