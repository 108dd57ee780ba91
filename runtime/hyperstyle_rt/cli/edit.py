"""``hyperstyle-rt edit``: a face along directions, as a picture, a contact sheet, or a film."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..manifest import BASE_PRECISION
from .frames import check_out, write_frames
from .options import (
    Align,
    AlignOption,
    BackendOption,
    BundleOption,
    FilmOption,
    ForceOption,
    JsonOption,
    PasteOption,
    PrecisionOption,
    QuietOption,
    RateOption,
    ThreadsOption,
)
from .subjects import open_model, open_subject, pasted
from .terminal import print_json, print_line, printable

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt edit face.safetensors smile=2 age=-1

hyperstyle-rt edit face.png smile=-3:3:7 --out smiles.png

hyperstyle-rt edit face.safetensors yaw=-2:2:60 pitch=0.5 --out turning.mp4
"""


def edit(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="INVERSION|PICTURE",
            help="An inversion file (.safetensors), or a picture.",
            show_default=False,
        ),
    ],
    edits: Annotated[
        list[str],
        typer.Argument(
            metavar="DIRECTION=AMOUNT",
            help="Steps along a direction of the bundle, or a sweep, START:STOP:COUNT.",
            show_default=False,
        ),
    ],
    out: FilmOption = None,
    rate: RateOption = 25.0,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = BASE_PRECISION,
    threads: ThreadsOption = None,
    force: ForceOption = False,
    align: AlignOption = Align.AUTO,
    paste: PasteOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Edit a face: along directions such as smile or age, all renders with the same weights.

    Writes NAME.edited.png without --out. Sweeps of one command move together
    and have the same count. To name a direction that does not exist lists
    those that do.
    """
    from ..editing import parse_edits

    steps = parse_edits(edits)
    out = Path(f"{subject.stem}.edited.png") if out is None else out
    check_out(out, force)
    model = open_model(bundle, subject, backend, threads, precision)
    started = time.perf_counter()
    face = open_subject(model, subject, align)
    frames = pasted(model.sweep(face, steps), paste, face)
    write_frames(frames, len(steps), out, rate, printable(subject.name), quiet or json_)
    seconds = time.perf_counter() - started
    if json_:
        document = {
            "input": str(subject),
            "output": str(out),
            "bundle": model.bundle.manifest.name,
            "provider": model.backend.provider,
            "edits": [dict(step) for step in steps],
            "seconds": round(seconds, 3),
        }
        print_json(document)
    elif not quiet:
        pictures = "1 picture" if len(steps) == 1 else f"{len(steps)} pictures"
        print_line(f"{subject} -> {out}  ({pictures}, {seconds:.1f} s)")
