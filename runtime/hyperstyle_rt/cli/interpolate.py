"""``hyperstyle-rt interpolate``: from one face to another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..batch.streams import is_pipe_out
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


@dataclass(frozen=True, kw_only=True)
class InterpolateRequest:
    """What `interpolate` is asked for."""

    first: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="An inversion file (.safetensors), or a picture.",
            readable=False,
            show_default=False,
        ),
    ]
    second: Annotated[
        Path,
        typer.Argument(
            metavar="B", help="Another of the same bundle.", readable=False, show_default=False
        ),
    ]
    out: options.FilmOut = None
    frames: Annotated[
        int,
        typer.Option(min=2, max=100_000, help="Pictures, both ends included.", metavar="N"),
    ] = 50
    spherical: Annotated[
        bool,
        options.flag(
            "--spherical", says="Latents on arcs about the average face instead of straight lines."
        ),
    ] = False
    rate: options.Rate = 25.0
    bundle: options.SubjectBundle = None
    method: options.Method = None
    running: options.Running
    force: options.Force = False
    align: options.Align = options.When.AUTO
    printing: options.Printing


def interpolate(request: InterpolateRequest) -> None:
    """Move from one face to another: latents and weight offsets change together.

    Writes A-B.mp4 without --out, A-B.gif without the extra `films`.
    """
    from ..editing.blending import linear, spherical_about
    from ..editing.expressions import evenly
    from ..formats.inversion_fit import check_fits
    from ..imaging.films import default_film_suffix
    from ..imaging.pictures import Original
    from ..inversion import Inversion

    first, second, printing = request.first, request.second, request.printing
    default = f"{name_of(first)}-{name_of(second)}{default_film_suffix()}"
    out = film_path(request.out, default, request.force, [first, second])
    refuse_json_to_pipe(out, printing.json_)
    with as_file(first) as one, as_file(second) as other:
        named = one if is_inversion(one) else other
        model = open_model(request.bundle, named, request.running)
        started = time.perf_counter()
        for file in filter(is_inversion, (one, other)):  # before a picture is inverted
            check_fits(Inversion.load(file).data, model.bundle.manifest)
        start, end = (
            open_subject(model, file, request.align, request.method) for file in (one, other)
        )
        blend = spherical_about(model.bundle.latent_average()) if request.spherical else linear
        steps = evenly(0, 1, request.frames)
        pictures = map(Original, model.interpolate(start, end, steps, blend))
        name = f"{first.name} to {second.name}"
        write_frames(pictures, request.frames, out, request.rate, name, not printing.shows_lines)
    seconds = time.perf_counter() - started
    document = {
        "inputs": [str(first), str(second)],
        "output": str(out),
        "bundle": model.bundle.manifest.name,
        "provider": model.backend.provider,
        "frames": request.frames,
        "seconds": round(seconds, 3),
    }
    line = f"{first}, {second} -> {out}  ({request.frames} pictures, {seconds:.1f} s)"
    print_done(document, line, printing.json_, printing.quiet or is_pipe_out(out))
