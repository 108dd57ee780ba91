"""``hyperstyle-rt interpolate``: from one face to another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..batch.streams import is_pipe_out
from ..formats.manifest import BASE_PRECISION
from . import options
from .frames import film_path, write_frames
from .pipes import as_file, name_of, refuse_json_to_pipe
from .subjects import is_inversion, open_model, open_subject
from .terminal import print_done

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt interpolate anna.safetensors bert.safetensors --out morph.mp4

hyperstyle-rt interpolate anna.png bert.png --frames 8 --out sheet.png

hyperstyle-rt interpolate anna.png bert.png --frames 48 --spherical --out morph.gif
"""


def interpolate(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="An inversion file (.safetensors), or a picture.",
            show_default=False,
        ),
    ],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="Another of the same bundle.", show_default=False)
    ],
    out: options.FilmOut = None,
    frames: Annotated[
        int,
        typer.Option(min=2, max=100_000, help="Pictures, both ends included.", metavar="N"),
    ] = 50,
    spherical: Annotated[
        bool,
        options.flag(
            "--spherical", says="Latents on arcs about the average face instead of straight lines."
        ),
    ] = False,
    rate: options.Rate = 25.0,
    bundle: options.SubjectBundle = None,
    method: options.Method = None,
    backend: options.Backend = "auto",
    precision: options.Precision = BASE_PRECISION,
    threads: options.Threads = None,
    force: options.Force = False,
    align: options.Align = options.When.AUTO,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Move from one face to another: latents and weight offsets change together.

    Writes A-B.mp4 without --out, A-B.gif without the extra `films`.
    """
    from ..editing.blending import linear, spherical_about
    from ..editing.expressions import evenly
    from ..imaging.films import default_film_suffix
    from ..imaging.pictures import Original

    default = f"{name_of(first)}-{name_of(second)}{default_film_suffix()}"
    out = film_path(out, default, force)
    refuse_json_to_pipe(out, json_)
    with as_file(first) as one, as_file(second) as other:
        named = one if is_inversion(one) else other
        model = open_model(bundle, named, backend, threads, precision)
        started = time.perf_counter()
        start, end = (open_subject(model, file, align, method) for file in (one, other))
        blend = spherical_about(model.bundle.latent_average()) if spherical else linear
        pictures = map(Original, model.interpolate(start, end, evenly(0, 1, frames), blend))
        name = f"{first.name} to {second.name}"
        write_frames(pictures, frames, out, rate, name, quiet or json_)
    seconds = time.perf_counter() - started
    document = {
        "inputs": [str(first), str(second)],
        "output": str(out),
        "bundle": model.bundle.manifest.name,
        "provider": model.backend.provider,
        "frames": frames,
        "seconds": round(seconds, 3),
    }
    line = f"{first}, {second} -> {out}  ({frames} pictures, {seconds:.1f} s)"
    print_done(document, line, json_, quiet or is_pipe_out(out))
