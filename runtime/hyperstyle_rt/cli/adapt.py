"""``hyperstyle-rt adapt``: a face in the domain of a fine-tuned generator."""

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
from .subjects import is_inversion, open_subject, pasted
from .terminal import print_done

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt adapt face.safetensors --bundle engines/toon

hyperstyle-rt adapt face.png --bundle engines/toon --offsets-from 11 --out toon.png

hyperstyle-rt adapt face.png --bundle engines/toon --noise-seed 1
"""


@dataclass(frozen=True, kw_only=True)
class AdaptRequest:
    """What `adapt` is asked for."""

    subject: options.Subject
    bundle: Annotated[
        str,
        typer.Option(
            help="Bundle built with build_engines.py --adapt.", metavar="BUNDLE", show_default=False
        ),
    ]
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A picture: .png, .jpg or .webp.", show_default=False),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            help="Bundle it was adapted from. Default: the one of that name.", metavar="BUNDLE"
        ),
    ] = None
    offsets_from: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Offset index of the first layer that keeps its offsets. Default: 14.",
            metavar="INDEX",
        ),
    ] = None
    noise_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Draw fresh noise. Default: the stored noise.", metavar="N"),
    ] = None
    method: options.Method = None
    running: options.Running
    force: options.Force = False
    align: options.Align = options.When.AUTO
    paste: options.PasteInto = None
    printing: options.Printing


def adapt(request: AdaptRequest) -> None:
    """Render a face with a fine-tuned generator: as a drawing, a statue, another kind of being.

    A picture is inverted with the bundle that the generator was fine-tuned from;
    an inversion file must be of that bundle.
    Writes NAME.adapted.png without --out.
    """
    from ..adaptation import KEPT_FROM, Adaptation
    from ..model import Model

    subject, running, printing = request.subject, request.running, request.printing
    out = film_path(request.out, f"{name_of(subject)}.adapted.png", request.force)
    refuse_json_to_pipe(out, printing.json_)
    first = KEPT_FROM if request.offsets_from is None else request.offsets_from
    more = running.settings()
    adaptation = Adaptation.load(request.bundle, running.backend, **more)
    started = time.perf_counter()
    seed = request.noise_seed
    noise = None if seed is None else adaptation.draw_noise(seed)
    inverter = adaptation.find_base(request.base).directory
    with as_file(subject) as file:
        if is_inversion(file):
            model = Model.load(inverter, "cpu")  # which runs nothing
        else:
            model = Model.load(inverter, running.backend, **more)
        face = open_subject(model, file, request.align, request.method)
        rendered = iter([adaptation.render(face, first, noise)])
        frames = pasted(rendered, request.paste, face, file, request.force)
        write_frames(frames, 1, out, 1.0, subject.name, not printing.shows_lines)
    seconds = time.perf_counter() - started
    kept = len(adaptation.kept_layers(first))
    document = {
        "input": str(subject),
        "output": str(out),
        "bundle": adaptation.bundle.manifest.name,
        "base": adaptation.base.name,
        "provider": adaptation.backend.provider,
        "layers_with_offsets": kept,
        "seconds": round(seconds, 3),
    }
    line = f"{subject} -> {out}  (offsets of {kept} layers, {seconds:.1f} s)"
    print_done(document, line, printing.json_, printing.quiet or is_pipe_out(out))
