"""``hyperstyle-rt edit``: a face along directions, as a picture, a contact sheet, or a film."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ..formats.manifest import BASE_PRECISION
from . import options
from .frames import film_path, write_frames
from .subjects import open_model, open_subject, pasted
from .terminal import print_done

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt edit face.safetensors smile=2 age=-1

hyperstyle-rt edit face.png smile=-3:3:7 --out smiles.png

hyperstyle-rt edit face.safetensors yaw=-2:2:60 pitch=0.5 --out turning.mp4
"""


def edit(
    subject: options.Subject,
    edits: Annotated[
        list[str],
        typer.Argument(
            metavar="DIRECTION=AMOUNT",
            help="Steps along a direction of the bundle, or a sweep, START:STOP:COUNT.",
            show_default=False,
        ),
    ],
    out: options.FilmOut = None,
    rate: options.Rate = 25.0,
    bundle: options.SubjectBundle = None,
    method: options.Method = None,
    backend: options.Backend = "auto",
    precision: options.Precision = BASE_PRECISION,
    threads: options.Threads = None,
    force: options.Force = False,
    align: options.Align = options.When.AUTO,
    paste: options.PasteInto = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Edit a face: along directions such as smile or age, all renders with the same weights.

    Writes NAME.edited.png without --out. Sweeps of one command move together
    and have the same count. To name a direction that does not exist lists
    those that do.
    """
    from ..editing.expressions import parse_edits

    steps = parse_edits(edits)
    out = film_path(out, f"{subject.stem}.edited.png", force)
    model = open_model(bundle, subject, backend, threads, precision)
    started = time.perf_counter()
    face = open_subject(model, subject, align, method)
    frames = pasted(model.sweep(face, steps), paste, face)
    write_frames(frames, len(steps), out, rate, subject.name, quiet or json_)
    seconds = time.perf_counter() - started
    document = {
        "input": str(subject),
        "output": str(out),
        "bundle": model.bundle.manifest.name,
        "provider": model.backend.provider,
        "edits": [dict(step) for step in steps],
        "seconds": round(seconds, 3),
    }
    pictures = "1 picture" if len(steps) == 1 else f"{len(steps)} pictures"
    print_done(document, f"{subject} -> {out}  ({pictures}, {seconds:.1f} s)", json_, quiet)
