"""Published directions of other projects -> `directions.safetensors` of a bundle.

Nothing in the files is run. Without -o the directions are added to the bundle.

    python -m directions.convert interfacegan smile.pt --name smile --bundle engines/faces
    python -m directions.convert interfacegan boundaries.npz --key smile --key age
        --bundle engines/faces
    python -m directions.convert interfacegan boundaries/age.npy --name age
        --bundle engines/idinvert
    python -m directions.convert ganspace cars_pca.pt --name cube --component 16 --rows 3:6
        --target 25 --bundle engines/cars
    python -m directions.convert styleclip fs3.npy --text-direction blond.npy
        --statistics S_mean_std --name blond --bundle engines/faces
    python -m directions.convert styles --channel convs.3:45=2.5 --name lips
        --bundle engines/faces
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from hyperstyle_rt.cli.terminal import print_note
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.formats.directions_file import (
    ComponentDirection,
    Direction,
    LinearDirection,
    StyleDirection,
)
from hyperstyle_rt.formats.optional_inputs import OptionalInputs
from hyperstyle_rt.types import Array
from mistakes import one_sentence

from directions.array_files import as_floats, named_array, read_arrays
from directions.boundaries import boundary_keys, on_rows, stated_rows
from directions.choice import chosen_arrays, other_generator
from directions.files import write_directions

# StyleCLIP's global directions edit the first styles only: those of the layers up to the second at
# 128 pixels, toRGB left out (docs/spec.md, section 6).
STYLECLIP_CHANNELS = 5376

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

FileArgument = Annotated[Path, typer.Argument(show_default=False)]
NameOption = Annotated[str, typer.Option(help="What the direction is called.")]
BundleOption = Annotated[str, typer.Option(help="The bundle it is for.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to add to instead of the bundle's.")
]
RowsOption = Annotated[str | None, typer.Option(help="START:STOP of the latents; default: all.")]
ScaleOption = Annotated[float, typer.Option(help="Length of one step.")]
OptionalNameOption = Annotated[
    str | None,
    typer.Option("--name", help="What the direction is called; of a file of several: its key."),
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option("--key", help="An entry of a file of several; may be repeated. Default: all."),
]
UnitOption = Annotated[str, typer.Option(help="One step, for people.")]


@app.command()
def interfacegan(
    file: FileArgument,
    bundle: BundleOption,
    name: OptionalNameOption = None,
    key: KeyOption = None,
    rows: RowsOption = None,
    scale: ScaleOption = 1.0,
    unit: UnitOption = "one unit along the boundary's normal",
    out: OutOption = None,
) -> None:
    """Vectors in W, [W] or [1,W], or in W+, [L,W] or [1,L,W]: .npy, .npz or .pt.

    A file may hold one, or several by key (AnyCost GAN's, .npz). Where one says itself which rows
    it moves (IDInvert's), those are taken if --rows is not given.
    """
    with one_sentence():
        opened = _open(bundle)
        contents = read_arrays(file)
        count = opened.manifest.num_latents
        span = _rows(rows, count)
        stated = None if rows is not None else stated_rows(contents, file, count)
        directions: dict[str, Direction] = {}
        keys = boundary_keys(contents, key)
        chosen = chosen_arrays(contents, file, keys, name, lambda a: linear_vector(a, opened, file))
        for each, vector in chosen.items():
            moved, moving = (vector, span) if stated is None else on_rows(vector, stated, count)
            directions[each] = LinearDirection(moved, moving, scale, unit)
        write_directions(opened, directions, out)
        if other := other_generator(file, contents, list(chosen.values())):
            print_note(other)


@app.command()
def ganspace(
    file: FileArgument,
    name: NameOption,
    bundle: BundleOption,
    component: Annotated[int, typer.Option(min=0, help="Number of the principal component.")],
    target: Annotated[float, typer.Option(help="Coordinate it is brought to.")],
    rows: RowsOption = None,
    unit: UnitOption = "the whole way to the target",
    out: OutOption = None,
) -> None:
    """A principal component, of a file with mean, std and comp (or lat_mean, lat_stdev, ...)."""
    with one_sentence():
        opened = _open(bundle)
        contents = read_arrays(file)
        width = opened.manifest.latent_width
        axes = _components(named_array(contents, file, "comp", "lat_comp"), width, file)
        deviations = named_array(contents, file, "std", "lat_stdev").reshape(-1)
        mean = named_array(contents, file, "mean", "lat_mean").reshape(-1)
        if component >= min(len(axes), len(deviations)) or mean.shape != (width,):
            raise EditError(
                f"{file} has {len(axes)} components of width {width} and a mean of "
                f"{mean.size}; component {component} of it cannot be used with this bundle"
            )
        span = _rows(rows, opened.manifest.num_latents)
        deviation = float(deviations[component])
        direction = ComponentDirection(axes[component], mean, deviation, target, span, unit)
        write_directions(opened, {name: direction}, out)


@app.command()
def styleclip(
    fs3: Annotated[Path, typer.Argument(help="fs3.npy, [channels,512].", show_default=False)],
    text_direction: Annotated[
        Path, typer.Option(help="Difference of CLIP embeddings, target - neutral, [512] (.npy).")
    ],
    statistics: Annotated[Path, typer.Option(help="S_mean_std, or the list of deviations of it.")],
    name: NameOption,
    bundle: BundleOption,
    beta: Annotated[float, typer.Option(help="Channels below this relevance stay.")] = 0.13,
    scale: ScaleOption = 1.0,
    unit: UnitOption = "alpha of 1",
    out: OutOption = None,
) -> None:
    """A global direction of StyleCLIP: one step is an alpha of 1."""
    with one_sentence():
        opened = _open(bundle)
        relevance = as_floats(read_arrays(fs3), fs3)
        text = as_floats(read_arrays(text_direction), text_direction).reshape(-1)
        if relevance.ndim != 2 or relevance.shape[1] != len(text):
            raise EditError(f"{fs3} and {text_direction} do not fit each other")
        channels = global_direction(relevance, text, beta)
        deviations = style_deviations(read_arrays(statistics), statistics)
        offsets = dealt_out(channels, deviations, _styles(opened))
        write_directions(opened, {name: StyleDirection(offsets, scale, unit)}, out)


@app.command()
def styles(
    bundle: BundleOption,
    name: OptionalNameOption = None,
    file: Annotated[Path | None, typer.Argument(help="[S], all layers, or several by key.")] = None,
    key: KeyOption = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="LAYER:INDEX=AMOUNT; may be repeated.")
    ] = None,
    scale: ScaleOption = 1.0,
    unit: UnitOption = "one step",
    out: OutOption = None,
) -> None:
    """Channels of StyleSpace: a vector of all styles, or single channels."""
    with one_sentence():
        opened = _open(bundle)
        layout = _styles(opened)
        if (file is None) == (channel is None):
            raise EditError("give either a file or --channel")
        if file is not None:
            count = layout.style_channels
            chosen = chosen_arrays(
                read_arrays(file), file, key, name, lambda a: style_vector(a, count, file)
            )
        elif name is None:
            raise EditError("the channels make one direction; give its --name")
        else:
            chosen = {name: single_channels(channel or [], layout)}
        directions = {each: StyleDirection(a, scale, unit) for each, a in chosen.items()}
        write_directions(opened, directions, out)


def style_vector(array: Array, count: int, path: Path) -> Array:
    """[S] of an array of as many numbers; EditError if it has more or fewer."""
    if array.size != count:
        raise EditError(
            f"{path} holds {array.size} offsets, and the bundle takes the tensor offsets of shape "
            f"[{count}]"
        )
    return array.reshape(-1)


def linear_vector(array: Array, bundle: Bundle, path: Path) -> Array:
    """[W] or [L,W] of what is stored as [W], [1,W], [L,W] or [1,L,W].

    Raises
    ------
    EditError
        If it is of another shape.
    """
    rows, width = bundle.manifest.num_latents, bundle.manifest.latent_width
    shape = array.shape[1:] if array.ndim > 1 and array.shape[0] == 1 else array.shape
    if shape not in ((width,), (rows, width)):
        raise EditError(
            f"{path} holds a vector of shape {list(array.shape)}, and bundle "
            f"{bundle.manifest.name!r} takes [{width}] or [{rows},{width}]"
        )
    return array.reshape(shape)


def global_direction(relevance: Array, text: Array, beta: float) -> Array:
    """StyleCLIP's relevance of every channel for a text, below `beta` cut off, scaled to 1: [C].

    Raises
    ------
    EditError
        If no channel is left.
    """
    text = text / np.linalg.norm(text)
    projected = relevance @ text
    kept = np.where(np.abs(projected) < beta, 0, projected)
    largest = np.abs(kept).max()
    if largest == 0:
        raise EditError(f"no channel reaches a relevance of {beta}; give a smaller --beta")
    return (kept / largest).astype(np.float32)


def style_deviations(contents: Any, path: Path) -> list[Array]:
    """Standard deviations of the styles, a vector a layer, of the list or of (means, deviations).

    Raises
    ------
    EditError
        If the file holds no such lists.
    """
    if isinstance(contents, list) and len(contents) == 2 and isinstance(contents[1], list):
        contents = contents[1]
    if not isinstance(contents, list):
        raise EditError(f"{path} holds no list of standard deviations, one vector a layer")
    return [as_floats(item, path).reshape(-1) for item in contents]


def dealt_out(channels: Array, deviations: list[Array], layout: OptionalInputs) -> Array:
    """Deal the first channels out to the layers without toRGB, times their deviations: [S].

    Raises
    ------
    EditError
        If deviations or channels do not fit the bundle's layers.
    """
    parts, start = [], 0
    for number, layer in enumerate(layout.styles):
        part = np.zeros(layer.width, np.float32)
        if not layer.name.startswith("to_rgb") and start < STYLECLIP_CHANNELS:
            taken = channels[start : start + layer.width]
            if (
                len(taken) != layer.width
                or number >= len(deviations)
                or (len(deviations[number]) != layer.width)
            ):
                raise EditError(
                    f"channels or deviations do not fit layer {layer.name} of the bundle, which "
                    f"has {layer.width}; are they of another generator?"
                )
            part = taken * deviations[number]
            start += layer.width
        parts.append(part)
    return np.concatenate(parts)


def single_channels(channels: list[str], layout: OptionalInputs) -> Array:
    """Offsets [S] of channels written LAYER:INDEX=AMOUNT.

    Raises
    ------
    EditError
        If one is written otherwise or does not exist.
    """
    starts, start = {}, 0
    for layer in layout.styles:
        starts[layer.name] = start, layer.width
        start += layer.width
    offsets = np.zeros(start, np.float32)
    for text in channels:
        match = re.fullmatch(r"([\w.]+):(\d{1,9})=(-?(?:\d+\.?\d*|\.\d+))", text)
        if match is None:
            raise EditError(f"{text!r} is no channel; give LAYER:INDEX=AMOUNT")
        first, width = starts.get(match[1], (0, 0))
        if int(match[2]) >= width:
            raise EditError(
                f"{text!r} is no channel of the bundle; its layers are {', '.join(starts)}"
            )
        offsets[first + int(match[2])] = float(match[3])
    return offsets


def _components(array: Array, width: int, path: Path) -> Array:
    """[N,W] of [N,1,W] or [N,W]."""
    if array.ndim < 2 or array.shape[-1] != width or array.size != len(array) * width:
        raise EditError(f"{path} has components of shape {list(array.shape)}, not [N,1,{width}]")
    return array.reshape(-1, width)


def _styles(bundle: Bundle) -> OptionalInputs:
    if bundle.manifest.optional_inputs is None:
        raise EditError(
            f"the generator of bundle {bundle.manifest.name!r} takes no edits of styles; build it "
            "again with this version"
        )
    return bundle.manifest.optional_inputs


def _rows(text: str | None, count: int) -> tuple[int, int]:
    if text is None:
        return 0, count
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if match is None:
        raise EditError(f"--rows {text} must be START:STOP, e.g. 3:6")
    return int(match[1]), int(match[2])


def _open(bundle: str) -> Bundle:
    return Bundle.open(find_bundle(bundle))


if __name__ == "__main__":
    app()
